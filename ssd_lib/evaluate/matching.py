"""Match detections to the objects of their images, and choose score thresholds by it: pure functions of flat arrays."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet

if TYPE_CHECKING:
    from ssd_lib.evaluate.coco_eval import Predictions

MIN_IOU = 0.5  # a detection with a lower IoU has not found the object
NOTHING, CROWD = -1, -2  # in place of an object
BLOCK = 50_000  # detections that are compared at once, which bounds memory
THRESHOLD_DIGITS = 4


class Pairs(NamedTuple):
    """Pairs of a detection and an object of its image, of any two classes, by detection.

    Attributes:
        detections: (P,) int64, row of the predictions.
        objects: (P,) int64, row of the ground truth.
        ious: (P,) float64; of a crowd, the share of the detection that lies in it, as in COCO's evaluation.
    """

    detections: np.ndarray
    objects: np.ndarray
    ious: np.ndarray


class BestF1(NamedTuple):
    """(K,) float64 each: the score threshold with the best F1 of every class, and what it gives; nan where nothing is right.

    F1 is the harmonic mean of precision and recall.
    """

    threshold: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


def find_pairs(fixed: FixedSet, predictions: "Predictions", min_iou: float = MIN_IOU) -> Pairs:
    """Return all pairs of an image with at least this IoU.

    Args:
        fixed: the ground truth of a split.
        predictions: its detections; may be empty.
        min_iou: above 0.
    """
    blocks = [_pairs_of_block(fixed, predictions, start, min_iou) for start in range(0, len(predictions.images), BLOCK)]
    empty = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate(column) for column in zip(empty, *blocks, strict=True)))


def match(fixed: FixedSet, predictions: "Predictions", pairs: Pairs, min_iou: float = MIN_IOU) -> np.ndarray:
    """Return (T,) the object of its class that each detection finds, `NOTHING`, or `CROWD` for one that does not count.

    Guarantees: as in COCO's evaluation, detections choose in the order of their scores, each the free object with the highest
    IoU; a crowd is found by any number of detections that find no object.

    Args:
        fixed, predictions: of one split.
        pairs: of `find_pairs` with `min_iou` or less.
        min_iou: the IoU that is needed.
    """
    fits = (predictions.labels[pairs.detections] == fixed.labels[pairs.objects]) & (pairs.ious >= min_iou)
    is_crowd = fixed.is_crowd[pairs.objects]
    matched = np.full(len(predictions.images), NOTHING)
    matched[pairs.detections[fits & is_crowd]] = CROWD
    detections, objects, ious = (column[fits & ~is_crowd] for column in pairs)
    is_free, is_searching = bytearray(b"\1" * len(fixed.labels)), bytearray(b"\1" * len(matched))
    order = np.lexsort((-ious, detections, -predictions.scores[detections]))
    for detection, item in zip(detections[order].tolist(), objects[order].tolist(), strict=True):
        if is_free[item] and is_searching[detection]:
            is_free[item] = is_searching[detection] = 0
            matched[detection] = item
    return matched


def best_f1(fixed: FixedSet, predictions: "Predictions", matched: np.ndarray) -> BestF1:
    """Choose the score threshold of each class: midway between the last detection that helps F1 and the next one.

    Args:
        fixed, predictions: of one split.
        matched: of `match`.
    """
    rows = []
    for label in range(1, len(fixed.class_names) + 1):
        of_class = (predictions.labels == label) & (matched != CROWD)
        objects = int(((fixed.labels == label) & ~fixed.is_crowd).sum())
        rows.append(_best_of_class(predictions.scores[of_class], matched[of_class] >= 0, objects))
    return BestF1(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)


def class_thresholds(fixed: FixedSet, predictions: "Predictions", default: float) -> tuple[float, ...]:
    """Return the K score thresholds of `best_f1` that a model file stores; `default` for a class of which nothing is found."""
    best = best_f1(fixed, predictions, match(fixed, predictions, find_pairs(fixed, predictions)))
    return tuple(np.where(np.isnan(best.threshold), default, best.threshold).tolist())


def _pairs_of_block(fixed: FixedSet, predictions: "Predictions", start: int, min_iou: float) -> Pairs:
    images = predictions.images[start:start + BLOCK]
    begin, counts = fixed.box_offsets[images], np.diff(fixed.box_offsets)[images]
    detections = np.repeat(np.arange(len(images)), counts)
    objects = np.arange(len(detections)) - np.repeat(counts.cumsum() - counts - begin, counts)
    ious = _ious(predictions.boxes[start + detections], fixed.boxes[objects].astype(np.float64), fixed.is_crowd[objects])
    kept = ious >= min_iou
    return Pairs(start + detections[kept], objects[kept], ious[kept])


def _ious(xywh: np.ndarray, xyxy: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    """Return (N,) the IoU of each row; for a crowd the share of the first box."""
    sides = np.minimum(xywh[:, :2] + xywh[:, 2:], xyxy[:, 2:]) - np.maximum(xywh[:, :2], xyxy[:, :2])
    shared, area = sides.clip(min=0).prod(axis=1), xywh[:, 2:].prod(axis=1)
    union = area + np.where(is_crowd, 0, (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1) - shared)
    return np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0)


def _best_of_class(scores: np.ndarray, is_right: np.ndarray, objects: int) -> tuple[float, float, float, float]:
    """Return threshold, F1, precision and recall."""
    order = np.argsort(-scores, kind="stable")
    scores, hits = np.append(scores[order], 0.0), is_right[order].cumsum()
    ends = np.flatnonzero(scores[:-1] > scores[1:])  # a threshold cannot separate equal scores
    if not objects or not len(ends) or not hits[-1]:
        return (np.nan,) * 4
    f1 = 2 * hits[ends] / (ends + 1 + objects)
    last = ends[f1.argmax()]
    return (round(float(scores[last] + scores[last + 1]) / 2, THRESHOLD_DIGITS), float(f1.max()),
            float(hits[last] / (last + 1)), float(hits[last] / objects))
