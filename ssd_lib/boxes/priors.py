"""Priors: the fixed boxes of a net and an image size, to which its outputs are offsets."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssd_lib.boxes.prior_levels import PriorLevel, centres_of, shapes_of


def make_priors(levels: Sequence[PriorLevel], map_sizes: Sequence[tuple[int, int]], image_size: int) -> Tensor:
    """Return the priors in the order of the net's outputs: by feature map, row, column and shape.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2; order and clipping as in the authors' and upstream's code.

    Args:
        levels: one for each map.
        map_sizes: (height, width) of each feature map in cells.
        image_size: side of the square input in pixels.

    Returns:
        (P, 4) float32, cxcywh in [0, 1], clipped.
    """
    priors = [
        (x, y, width, height)
        for level, (map_height, map_width) in zip(levels, map_sizes, strict=True)
        for y in centres_of(level, map_height, image_size)
        for x in centres_of(level, map_width, image_size)
        for width, height in shapes_of(level)
    ]
    return torch.tensor(priors).clamp(0, 1)
