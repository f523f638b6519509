"""The demo dataset: generated images of six classes over photographs."""
