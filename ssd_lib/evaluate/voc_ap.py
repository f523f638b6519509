"""Pascal VOC's average precision of a whole split, at IoU 0.5: eleven points of VOC2007, every point of VOC2010 and later.

Source: the VOC development kits, VOCevaldet.m and VOCap.m; Everingham et al., "The Pascal Visual Object Classes (VOC)
Challenge", IJCV 2010, sec. 4.2.

The kits' boxes are whole pixels, counted from 1, the last one included, so that they take xmax - xmin + 1 for a width. Here
the same box reaches from x = xmin - 1 to xmax, so that its plain width is that number: the kits' IoU is the plain one.
"""

from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.coco_eval import Predictions

MIN_IOU = 0.5  # VOCevaldet.m: ovmax >= VOCopts.minoverlap
POINTS = 10  # the recalls 0, 1/10 ... 10/10


class VocAP(NamedTuple):
    """(K,) float64 each: the AP of every class; nan for a class without an object that counts."""

    voc07: np.ndarray
    voc10: np.ndarray


def voc_metrics(fixed: FixedSet, predictions: Predictions) -> dict[str, float | None]:
    """{"VOC07": ..., "VOC10": ...}: the mean over the classes that have objects; None where none has."""
    by_class = voc_ap(fixed, predictions)
    return {name: None if np.isnan(ap).all() else float(np.nanmean(ap))
            for name, ap in zip(("VOC07", "VOC10"), by_class, strict=True)}


def voc_ap(fixed: FixedSet, predictions: Predictions) -> VocAP:
    """Measure each class by both procedures.

    Guarantees: a class's detections are taken from the highest score down, equal scores in their order; each belongs to the box of its
    image and class that it overlaps most. Below `MIN_IOU` it is false; the first that finds an object is true, every other
    false; one that finds a difficult object (`is_crowd`) counts as nothing, and so does the object.

    Args:
        fixed: the ground truth of a split.
        predictions: its detections, in any order; there may be none.
    """
    order = np.argsort(-predictions.scores, kind="stable")
    ranked = Predictions(*(column[order] for column in predictions))
    found = _found_boxes(fixed, ranked)
    is_void = np.append(fixed.is_crowd, False)[found]  # the last one is for -1
    is_true = _is_first(found)
    aps = [_both(is_true[(ranked.labels == label) & ~is_void], int((~fixed.is_crowd & (fixed.labels == label)).sum()))
           for label in range(1, len(fixed.class_names) + 1)]
    return VocAP(*np.array(aps, dtype=np.float64).reshape(-1, 2).T)


def _found_boxes(fixed: FixedSet, predictions: Predictions) -> np.ndarray:
    """(T,) the box that each detection overlaps most, by at least `MIN_IOU`; -1 where there is none.

    All pairs of a detection and a box of its image and class are laid out in one row, detection after detection.
    """
    classes = len(fixed.class_names) + 1
    group_of_box = np.repeat(np.arange(len(fixed)), np.diff(fixed.box_offsets)) * classes + fixed.labels
    by_group = np.argsort(group_of_box, kind="stable")
    group = predictions.images * classes + predictions.labels
    begin, end = (np.searchsorted(group_of_box[by_group], group, side) for side in ("left", "right"))
    counts = end - begin
    detection = np.repeat(np.arange(len(group)), counts)
    box = by_group[np.arange(len(detection)) - np.repeat(counts.cumsum() - counts - begin, counts)]
    iou = _iou(predictions.boxes[detection], fixed.boxes[box].astype(np.float64))
    best_first = np.lexsort((-iou, detection))  # stable: of equal overlaps the first box is the best
    best = best_first[_is_first(detection[best_first]) & (iou[best_first] >= MIN_IOU)]
    found = np.full(len(group), -1)
    found[detection[best]] = box[best]
    return found


def _iou(xywh: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
    """(N,) intersection over union, row by row."""
    corner = xywh[:, :2] + xywh[:, 2:]
    sides = np.minimum(corner, xyxy[:, 2:]) - np.maximum(xywh[:, :2], xyxy[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    return shared / (xywh[:, 2:].prod(axis=1) + (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1) - shared)


def _is_first(values: np.ndarray) -> np.ndarray:
    """(N,) bool: where a value from 0 up stands for the first time."""
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first & (values >= 0)


def _both(is_true: np.ndarray, objects: int) -> tuple[float, float]:
    """A class's AP by eleven points and by every point, from its ranked detections without void ones.

    Recalls are compared as whole numbers, so that 3 objects of 10 are a recall of 3/10.
    """
    if not objects:
        return np.nan, np.nan
    hits = is_true.cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    best_from = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # the best precision at this recall or above
    reached = np.searchsorted(hits * POINTS, np.arange(POINTS + 1) * objects)
    return float(best_from[reached].mean()), float(best_from[:-1][is_true].sum() / objects)
