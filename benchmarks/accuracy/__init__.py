"""How accurate detectors are after the same minutes, or the same passes, on the same photographs: ours and those of others."""
