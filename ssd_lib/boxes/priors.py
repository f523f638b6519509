"""Priors: the boxes, fixed for a net and an image size, that detections are offsets of."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor


@dataclass(frozen=True)
class PriorRow:
    """The priors of one feature map.

    Attributes:
        stride: distance of neighbouring centres in pixels; None spreads the map's cells evenly over the image.
        min_size, max_size: sides of the small square and (by sqrt(min * max)) of the large one, as fractions of the image.
        ratios: each r adds a box r times as wide as high and one r times as high as wide.
    """

    stride: int | None
    min_size: float
    max_size: float
    ratios: tuple[float, ...]

    @property
    def boxes_per_cell(self) -> int:
        """How many priors share a centre."""
        return 2 + 2 * len(self.ratios)


def make_priors(rows: Sequence[PriorRow], maps: Sequence[tuple[int, int]], image_size: int) -> Tensor:
    """Lay out the priors in the order of the net's outputs: map, row, column, shape.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2; order and clipping as in the authors' and upstream's code.

    Args:
        rows: one for each map.
        maps: (height, width) of each feature map in cells.
        image_size: side of the square input in pixels.

    Returns:
        (P, 4) float32, cxcywh in [0, 1], clipped.
    """
    priors = [
        (x, y, width, height)
        for row, (map_height, map_width) in zip(rows, maps, strict=True)
        for y in _centres(map_height, row.stride, image_size)
        for x in _centres(map_width, row.stride, image_size)
        for width, height in _shapes(row)
    ]
    return torch.tensor(priors).clamp(0, 1)


def _centres(cells: int, stride: int | None, image_size: int) -> list[float]:
    step = 1 / cells if stride is None else stride / image_size
    return [(i + 0.5) * step for i in range(cells)]


def _shapes(row: PriorRow) -> list[tuple[float, float]]:
    small, large = row.min_size, sqrt(row.min_size * row.max_size)
    stretched = [(small * sqrt(r), small / sqrt(r)) for r in row.ratios]
    return [(small, small), (large, large)] + [shape for w, h in stretched for shape in ((w, h), (h, w))]
