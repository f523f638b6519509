"""Sizes, shapes and centres of priors, and those that the nets were published with. Without torch, so that validate can use
them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple


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


def _priors(strides: Sequence[int | None], sizes_px: Sequence[int],
            ratios: Sequence[tuple[float, ...]]) -> tuple[PriorLevel, ...]:
    """Return a level for each map, given sizes in pixels of an image of 300 x 300."""
    sizes = [size / 300 for size in sizes_px]
    return tuple(PriorLevel(*level) for level in zip(strides, sizes[:-1], sizes[1:], ratios, strict=True))


SSD_STRIDES, SSD_RATIOS = (8, 16, 32, 64, None, None), ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
MOBILE_PRIORS = _priors((16, 32, 64, None, None, None), (60, 105, 150, 195, 240, 285, 330), [(2, 3)] * 6)
VGG_PRIORS = _priors(SSD_STRIDES, (30, 60, 111, 162, 213, 264, 315), SSD_RATIOS)
RESNET_PRIORS = _priors(SSD_STRIDES, (21, 45, 99, 153, 207, 261, 315), SSD_RATIOS)
LITE0_PRIORS = _priors(SSD_STRIDES, (24, 48, 99, 153, 207, 261, 315), [(2, 3)] * 6)


class PublishedPriors(NamedTuple):
    """The published priors of a kind of net, and the sides of its feature maps at 300 px in cells."""

    levels: tuple[PriorLevel, ...]
    map_sides: tuple[int, ...]

    def at_300_px(self) -> tuple[tuple[PriorLevel, ...], list[tuple[int, int]], int]:
        """Return what `prior_fit.best_ious` takes: levels, map sizes and image size."""
        return self.levels, [(side, side) for side in self.map_sides], 300


PUBLISHED = {
    "mobile nets": PublishedPriors(MOBILE_PRIORS, (19, 10, 5, 3, 2, 1)),
    "vgg16-ssd": PublishedPriors(VGG_PRIORS, (38, 19, 10, 5, 3, 1)),
    "lite0-ssd-lite": PublishedPriors(LITE0_PRIORS, (38, 19, 10, 5, 3, 1)),
    "resnet nets": PublishedPriors(RESNET_PRIORS, (38, 19, 10, 5, 3, 1)),
}
