"""Priors: the boxes, fixed for a net and an image size, that detections are offsets of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor


@dataclass(frozen=True)
class PriorLevel:
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


def make_priors(rows: Sequence[PriorLevel], maps: Sequence[tuple[int, int]], image_size: int) -> Tensor:
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
        for y in centres_of(row, map_height, image_size)
        for x in centres_of(row, map_width, image_size)
        for width, height in shapes_of(row)
    ]
    return torch.tensor(priors).clamp(0, 1)


def with_sizes(rows: Sequence[PriorLevel], sizes: Sequence[float]) -> tuple[PriorLevel, ...]:
    """The same rows with other sizes: row i has sizes i and i + 1, so there is one size more than there are rows."""
    pairs = zip(rows, sizes[:-1], sizes[1:], strict=True)
    return tuple(replace(row, min_size=small, max_size=large) for row, small, large in pairs)


def sizes_of(rows: Sequence[PriorLevel]) -> tuple[float, ...]:
    """The sizes that `with_sizes` takes."""
    return (*(row.min_size for row in rows), rows[-1].max_size)


def shapes_of(row: PriorLevel) -> list[tuple[float, float]]:
    """(width, height) of the priors of a cell, as fractions of the image; they may be above 1."""
    small, large = row.min_size, sqrt(row.min_size * row.max_size)
    stretched = [(small * sqrt(r), small / sqrt(r)) for r in row.ratios]
    return [(small, small), (large, large)] + [shape for w, h in stretched for shape in ((w, h), (h, w))]


def centres_of(row: PriorLevel, cells: int, image_size: int) -> list[float]:
    """Centres of a row or a column of cells, as fractions of the image."""
    step = 1 / cells if row.stride is None else row.stride / image_size
    return [(i + 0.5) * step for i in range(cells)]
