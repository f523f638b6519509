"""Priors: the fixed boxes of a net and an image size, to which its outputs are offsets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor


@dataclass(frozen=True)
class PriorLevel:
    """The priors of one feature map.

    Attributes:
        stride: distance between neighbouring centres in pixels; None: the map's cells divide the image evenly.
        min_size, max_size: the side of the small square is min_size, of the large one sqrt(min_size * max_size), as fractions
            of the image.
        ratios: each r adds two boxes, with the aspect ratios r and 1 / r.
        is_single: a cell has the small square only.
    """

    stride: int | None
    min_size: float
    max_size: float
    ratios: tuple[float, ...]
    is_single: bool = False

    @property
    def boxes_per_cell(self) -> int:
        """Return the number of priors per cell, all with the same centre."""
        return len(shapes_of(self))


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


def with_sizes(levels: Sequence[PriorLevel], sizes: Sequence[float]) -> tuple[PriorLevel, ...]:
    """Return the levels with other sizes: level i has sizes[i] and sizes[i + 1], so there is one size more than levels."""
    pairs = zip(levels, sizes[:-1], sizes[1:], strict=True)
    return tuple(replace(level, min_size=small, max_size=large) for level, small, large in pairs)


def sizes_of(levels: Sequence[PriorLevel]) -> tuple[float, ...]:
    """Return the sizes of the levels, as `with_sizes` takes them."""
    return (*(level.min_size for level in levels), levels[-1].max_size)


def shapes_of(level: PriorLevel) -> list[tuple[float, float]]:
    """Return (width, height) of the priors of a cell, as fractions of the image; they may exceed 1."""
    small, large = level.min_size, sqrt(level.min_size * level.max_size)
    if level.is_single:
        return [(small, small)]
    stretched = [(small * sqrt(r), small / sqrt(r)) for r in level.ratios]
    return [(small, small), (large, large)] + [shape for w, h in stretched for shape in ((w, h), (h, w))]


def centres_of(level: PriorLevel, cells: int, image_size: int) -> list[float]:
    """Return the centres of the cells along one axis, as fractions of the image."""
    step = 1 / cells if level.stride is None else level.stride / image_size
    return [(i + 0.5) * step for i in range(cells)]
