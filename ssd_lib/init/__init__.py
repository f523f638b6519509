"""`ssd init`: look at a dataset, choose a recipe and its values, write params.yaml."""
