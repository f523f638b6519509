"""Pure tensor maths of the detector: boxes, priors, coding, matching, loss."""
