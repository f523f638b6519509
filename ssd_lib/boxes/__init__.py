"""Tensor functions of the detector: priors, box encoding, matching and loss; none of them knows a net or a file."""
