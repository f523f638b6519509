"""Sources of data: servers, local folders and zips. Every source ends in the same manifest."""
