"""Measure how well priors cover the boxes of a dataset, and fit prior sizes to them."""

from collections.abc import Sequence

import numpy as np

from ssd_lib.boxes.prior_levels import PriorLevel, centres_of, shapes_of, sizes_of, with_sizes

GOOD_IOU = 0.5  # the matching threshold; below it an object is matched only to its best prior
SMALLEST, LARGEST = 0.01, 1.2  # range of the sizes tried, as fractions of the image
TRIES, ROUNDS = 15, 6  # sizes tried between two neighbouring sizes; most passes over all sizes


def best_ious(boxes: np.ndarray, levels: Sequence[PriorLevel], map_sizes: Sequence[tuple[int, int]],
              image_size: int) -> np.ndarray:
    """Return the IoU of every box with its best prior.

    Of all priors of one shape, the one with the nearest centre has the highest IoU, so only that one is computed.

    Args:
        boxes: (N, 4) xyxy in [0, 1].
        levels, map_sizes, image_size: as in `make_priors`.

    Returns:
        (N,) float64.
    """
    per_map = [_best_ious_of_map(boxes, level, size, image_size) for level, size in zip(levels, map_sizes, strict=True)]
    return np.max(per_map, axis=0)


def fit_sizes(boxes: np.ndarray, levels: Sequence[PriorLevel], map_sizes: Sequence[tuple[int, int]],
              image_size: int) -> tuple[float, ...]:
    """Return prior sizes that give more boxes a best IoU of at least GOOD_IOU, found by coordinate ascent.

    Guarantees: sizes increase from map to map. The share of boxes with GOOD_IOU is never below that of `levels`. The same boxes
    give the same sizes.

    Args:
        boxes: (N, 4) xyxy in [0, 1]; N is at least 1.
        levels, map_sizes, image_size: as in `make_priors`.
    """
    current = sizes_of(levels)
    starts = (current, _spread_like(boxes, len(levels) + 1))
    (share, _), sizes = max((_ascend(start, boxes, levels, map_sizes, image_size) for start in starts),
                            key=lambda result: result[0])
    is_better = share > (best_ious(boxes, levels, map_sizes, image_size) >= GOOD_IOU).mean()
    return sizes if is_better else current


def _ascend(sizes: Sequence[float], boxes: np.ndarray, levels: Sequence[PriorLevel], map_sizes: Sequence[tuple[int, int]],
            image_size: int) -> tuple[tuple[float, float], tuple[float, ...]]:
    """Return (score, sizes) after changing one size at a time until no change improves the score, or after ROUNDS passes."""
    sizes = list(sizes)
    per_map = [_best_ious_of_map(boxes, level, size, image_size)
               for level, size in zip(with_sizes(levels, sizes), map_sizes, strict=True)]
    best = _score(per_map)
    for _ in range(ROUNDS):
        before = best
        for k in range(len(sizes)):
            low = sizes[k - 1] if k else SMALLEST
            high = sizes[k + 1] if k + 1 < len(sizes) else LARGEST
            for size in np.geomspace(low, high, TRIES + 2)[1:-1].round(4).tolist():
                trial = [*sizes[:k], size, *sizes[k + 1:]]
                changed = with_sizes(levels, trial)
                touched = [i for i in (k - 1, k) if 0 <= i < len(levels)]
                ious = [_best_ious_of_map(boxes, changed[i], map_sizes[i], image_size) if i in touched else per_map[i]
                        for i in range(len(levels))]
                if low < size < high and _score(ious) > best:
                    best, sizes, per_map = _score(ious), trial, ious
        if best == before:
            break
    return best, tuple(sizes)


def _score(per_map: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return (share of boxes with GOOD_IOU, mean IoU), compared in this order."""
    ious = np.max(per_map, axis=0)
    return float((ious >= GOOD_IOU).mean()), float(ious.mean())


def _spread_like(boxes: np.ndarray, count: int) -> tuple[float, ...]:
    """Return increasing sizes: quantiles of the square roots of the box areas."""
    scales = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    sizes = np.quantile(scales, (np.arange(count) + 0.5) / count).clip(SMALLEST, LARGEST)
    return tuple((np.maximum.accumulate(sizes) * 1.001 ** np.arange(count)).tolist())


def _best_ious_of_map(boxes: np.ndarray, level: PriorLevel, size: tuple[int, int], image_size: int) -> np.ndarray:
    sides = boxes[:, 2:] - boxes[:, :2]
    middles = (boxes[:, 2:] + boxes[:, :2]) / 2
    nearest = [_nearest(middles[:, axis], centres_of(level, cells, image_size)) for axis, cells in enumerate(size[::-1])]
    centres = np.stack(nearest, axis=1)
    best = np.zeros(len(boxes))
    for shape in shapes_of(level):
        prior = np.minimum(shape, 1.0)
        low = np.maximum(boxes[:, :2], centres - prior / 2)
        high = np.minimum(boxes[:, 2:], centres + prior / 2)
        overlap = (high - low).clip(min=0).prod(axis=1)
        best = np.maximum(best, overlap / (sides.prod(axis=1) + prior.prod() - overlap))
    return best


def _nearest(values: np.ndarray, centres: Sequence[float]) -> np.ndarray:
    """Return the nearest centre to each value; centres are sorted, and clipped to the image as in `make_priors`."""
    inside = np.minimum(centres, 1.0)
    return inside[np.searchsorted((inside[1:] + inside[:-1]) / 2, values)]
