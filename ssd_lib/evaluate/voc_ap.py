"""Pascal VOC's average precision at IoU 0.5: the 11-point AP of VOC2007 and the all-point AP of VOC2010 and later.

Source: the VOC development kits, VOCevaldet.m and VOCap.m; Everingham et al., "The Pascal Visual Object Classes (VOC)
Challenge", IJCV 2010, sec. 4.2.

The kits count pixels from 1 and include the last one, so that the width of a box is xmax - xmin + 1. Here the same box extends
from x = xmin - 1 to xmax and has the same width, so that the IoU is the same without the + 1.
"""

from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.coco_eval import Predictions

MIN_IOU = 0.5  # VOCevaldet.m: ovmax >= VOCopts.minoverlap
POINTS = 10  # recalls 0, 1/10 ... 10/10


class VocAP(NamedTuple):
    """(K,) float64 each: the AP of every class; nan for a class without objects that count."""

    voc07: np.ndarray
    voc10: np.ndarray


def voc_metrics(fixed: FixedSet, predictions: Predictions) -> dict[str, float | None]:
    """Return {"VOC07": ..., "VOC10": ...}: the mean AP over the classes that have objects; None if no class has any."""
    by_class = voc_ap(fixed, predictions)
    return {name: None if np.isnan(ap).all() else float(np.nanmean(ap))
            for name, ap in zip(("VOC07", "VOC10"), by_class, strict=True)}


def voc_ap(fixed: FixedSet, predictions: Predictions) -> VocAP:
    """Compute the AP of each class by both procedures.

    Guarantees: the detections of a class are ranked by score, equal scores in input order. Each is matched to the box of its
    image and class with the highest IoU. It is a false positive if that IoU is below `MIN_IOU` or a detection ranked higher has
    matched the same box. Detections matched to a difficult object (`is_crowd`), and the object itself, are ignored.

    Args:
        fixed: the ground truth of a split.
        predictions: its detections, in any order; may be empty.
    """
    order = np.argsort(-predictions.scores, kind="stable")
    ranked = Predictions(*(column[order] for column in predictions))
    matched = _match_boxes(fixed, ranked)
    is_ignored = np.append(fixed.is_crowd, False)[matched]  # the last one is for -1
    is_true = _is_first(matched)
    aps = [_ap_of_class(is_true[(ranked.labels == label) & ~is_ignored], int((~fixed.is_crowd & (fixed.labels == label)).sum()))
           for label in range(1, len(fixed.class_names) + 1)]
    return VocAP(*np.array(aps, dtype=np.float64).reshape(-1, 2).T)


def _match_boxes(fixed: FixedSet, predictions: Predictions) -> np.ndarray:
    """Return (T,) the box with the highest IoU for each detection; -1 if that IoU is below `MIN_IOU`.

    All pairs of a detection and a box of its image and class are one flat array, ordered by detection.
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
    best_first = np.lexsort((-iou, detection))  # stable: of equal IoUs the first box wins
    best = best_first[_is_first(detection[best_first]) & (iou[best_first] >= MIN_IOU)]
    matched = np.full(len(group), -1)
    matched[detection[best]] = box[best]
    return matched


def _iou(xywh: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
    """Return (N,) the IoU of each row."""
    corner = xywh[:, :2] + xywh[:, 2:]
    sides = np.minimum(corner, xyxy[:, 2:]) - np.maximum(xywh[:, :2], xyxy[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    return shared / (xywh[:, 2:].prod(axis=1) + (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1) - shared)


def _is_first(values: np.ndarray) -> np.ndarray:
    """Return (N,) bool: where a value of 0 or more occurs for the first time."""
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first & (values >= 0)


def _ap_of_class(is_true: np.ndarray, objects: int) -> tuple[float, float]:
    """Return the 11-point and the all-point AP of a class, from its ranked detections without ignored ones.

    Recalls are compared as integers, so that 3 objects of 10 are exactly a recall of 3/10.
    """
    if not objects:
        return np.nan, np.nan
    hits = is_true.cumsum()
    precision = hits / np.arange(1, len(hits) + 1)
    best_from = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # best precision at this recall or above
    reached = np.searchsorted(hits * POINTS, np.arange(POINTS + 1) * objects)
    return float(best_from[reached].mean()), float(best_from[:-1][is_true].sum() / objects)
