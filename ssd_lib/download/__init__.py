"""Where data comes from: generated, downloaded or local. Every source ends in the same manifest."""
