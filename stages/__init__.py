"""The stages of the pipeline, one script each, run by DVC as `python -m stages.NAME` from the root of the project."""
