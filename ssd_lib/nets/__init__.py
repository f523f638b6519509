"""Nets: backbones, heads, the table of nets, model files, pretrained weights and postprocessing."""
