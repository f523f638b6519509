"""How well priors cover the boxes of a data set, and sizes of priors that cover them better."""

from collections.abc import Sequence

import numpy as np

from ssd_lib.boxes.priors import PriorLevel, centres_of, shapes_of, sizes_of, with_sizes

GOOD_IOU = 0.5  # from here on a prior is matched to an object for its own sake, not only as the object's best
SMALLEST, LARGEST = 0.01, 1.2  # sizes that are tried, as fractions of the image
TRIES, ROUNDS = 15, 6  # sizes tried between two neighbours; times that all are gone through


def best_ious(boxes: np.ndarray, rows: Sequence[PriorLevel], maps: Sequence[tuple[int, int]], image_size: int) -> np.ndarray:
    """The IoU of every box with the prior that overlaps it most.

    Of the priors of one shape, that with the nearest centre overlaps most, so the others are not looked at.

    Args:
        boxes: (N, 4) xyxy in [0, 1].
        rows, maps, image_size: as of `make_priors`.

    Returns:
        (N,) float64.
    """
    per_map = [_best_ious_of_map(boxes, row, size, image_size) for row, size in zip(rows, maps, strict=True)]
    return np.max(per_map, axis=0)


def fit_sizes(boxes: np.ndarray, rows: Sequence[PriorLevel], maps: Sequence[tuple[int, int]],
              image_size: int) -> tuple[float, ...]:
    """Sizes of priors under which more boxes overlap one by GOOD_IOU: coordinate ascent from the sizes of `rows`.

    Guarantees: sizes rise from map to map. The share of boxes with GOOD_IOU is never below that of `rows`. The same boxes give the
    same sizes.

    Args:
        boxes: (N, 4) xyxy in [0, 1], one at least.
        rows, maps, image_size: as of `make_priors`.
    """
    present = sizes_of(rows)
    starts = (present, _spread_like(boxes, len(rows) + 1))
    (share, _), sizes = max((_ascend(start, boxes, rows, maps, image_size) for start in starts), key=lambda found: found[0])
    is_better = share > (best_ious(boxes, rows, maps, image_size) >= GOOD_IOU).mean()
    return sizes if is_better else present


def _ascend(sizes: Sequence[float], boxes: np.ndarray, rows: Sequence[PriorLevel], maps: Sequence[tuple[int, int]],
            image_size: int) -> tuple[tuple[float, float], tuple[float, ...]]:
    """(score, sizes) when no size alone can be moved for the better."""
    sizes = list(sizes)
    per_map = [_best_ious_of_map(boxes, row, size, image_size)
               for row, size in zip(with_sizes(rows, sizes), maps, strict=True)]
    best = _score(per_map)
    for _ in range(ROUNDS):
        before = best
        for k in range(len(sizes)):
            low = sizes[k - 1] if k else SMALLEST
            high = sizes[k + 1] if k + 1 < len(sizes) else LARGEST
            for size in np.geomspace(low, high, TRIES + 2)[1:-1].round(4).tolist():
                trial = [*sizes[:k], size, *sizes[k + 1:]]
                changed = with_sizes(rows, trial)
                touched = [i for i in (k - 1, k) if 0 <= i < len(rows)]
                ious = [_best_ious_of_map(boxes, changed[i], maps[i], image_size) if i in touched else per_map[i]
                        for i in range(len(rows))]
                if low < size < high and _score(ious) > best:
                    best, sizes, per_map = _score(ious), trial, ious
        if best == before:
            break
    return best, tuple(sizes)


def _score(per_map: Sequence[np.ndarray]) -> tuple[float, float]:
    """Share of boxes with GOOD_IOU, then mean IoU: the first decides."""
    ious = np.max(per_map, axis=0)
    return float((ious >= GOOD_IOU).mean()), float(ious.mean())


def _spread_like(boxes: np.ndarray, count: int) -> tuple[float, ...]:
    """Rising sizes that cut the boxes, by the square root of their area, into equal parts."""
    scales = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    sizes = np.quantile(scales, (np.arange(count) + 0.5) / count).clip(SMALLEST, LARGEST)
    return tuple((np.maximum.accumulate(sizes) * 1.001 ** np.arange(count)).tolist())


def _best_ious_of_map(boxes: np.ndarray, row: PriorLevel, size: tuple[int, int], image_size: int) -> np.ndarray:
    sides = boxes[:, 2:] - boxes[:, :2]
    middles = (boxes[:, 2:] + boxes[:, :2]) / 2
    nearest = [_nearest(middles[:, axis], centres_of(row, cells, image_size)) for axis, cells in enumerate(size[::-1])]
    centres = np.stack(nearest, axis=1)
    best = np.zeros(len(boxes))
    for shape in shapes_of(row):
        prior = np.minimum(shape, 1.0)
        low = np.maximum(boxes[:, :2], centres - prior / 2)
        high = np.minimum(boxes[:, 2:], centres + prior / 2)
        overlap = (high - low).clip(min=0).prod(axis=1)
        best = np.maximum(best, overlap / (sides.prod(axis=1) + prior.prod() - overlap))
    return best


def _nearest(values: np.ndarray, centres: Sequence[float]) -> np.ndarray:
    """For each value the centre next to it; centres rise, and those beyond the image lie on its edge, as in `make_priors`."""
    inside = np.minimum(centres, 1.0)
    return inside[np.searchsorted((inside[1:] + inside[:-1]) / 2, values)]
