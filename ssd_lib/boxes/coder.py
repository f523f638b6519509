"""Encode boxes as offsets relative to priors, which a net regresses, and decode them."""

import math

import torch
from torch import Tensor

CENTER_VARIANCE = 0.1
SIZE_VARIANCE = 0.2
SCALE_CLAMP = math.log(1000 / 16)  # a 16 px prior may grow to 1000 px at most; keeps exp() finite in half precision
SMALLEST_SIDE = 1e-6  # as a fraction of the image; keeps the offsets of an empty box, and so the loss, finite


def encode(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return the offsets that turn `priors` into `boxes`.

    Guarantees: decode(encode(boxes, priors), priors) == boxes, up to rounding, for sides up to 62 times the prior's.
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2 "Training objective", with the variances of the authors' code.

    Args:
        boxes: (..., P, 4) float32, xyxy in [0, 1].
        priors: (P, 4) float32, cxcywh in [0, 1].

    Returns:
        (..., P, 4) float32: centre distances divided by the prior's side and by 0.1; logarithms of the side ratios divided by
        0.2.
    """
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=SMALLEST_SIDE)
    return torch.cat([
        (centers - priors[..., :2]) / priors[..., 2:] / CENTER_VARIANCE,
        torch.log(sides / priors[..., 2:]) / SIZE_VARIANCE,
    ], dim=-1)


def decode(offsets: Tensor, priors: Tensor) -> Tensor:
    """Return the boxes that `offsets` make of `priors`; the inverse of `encode`. Boxes are not clipped to the image.

    Args:
        offsets: (..., P, 4) float.
        priors: (P, 4) float32, cxcywh in [0, 1].

    Returns:
        (..., P, 4) float, xyxy as fractions of the image.
    """
    centers = priors[..., :2] + offsets[..., :2] * CENTER_VARIANCE * priors[..., 2:]
    sides = priors[..., 2:] * torch.exp((offsets[..., 2:] * SIZE_VARIANCE).clamp(max=SCALE_CLAMP))
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=-1)
