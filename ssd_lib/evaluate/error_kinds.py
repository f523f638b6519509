"""Say for each wrong detection and missed object why, and how much AP50 each kind of error costs: pure functions of matches.

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, sec. 2.2 and 2.3.
"""

from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.coco_eval import Predictions
from ssd_lib.evaluate.matching import MIN_IOU, NOTHING, Pairs

BACKGROUND_IOU = 0.1  # a detection that overlaps no object by more lies on the background
WRONG_CLASS, LOOSE_BOX, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
NO_ERROR = -1
RECALLS = np.linspace(0, 1, 101)  # of COCO's AP


class Errors(NamedTuple):
    """What is wrong with the detections of a split.

    Attributes:
        kinds: (T,) int64, index into `KINDS` for a wrong detection; `NO_ERROR` for the others.
        targets: (T,) int64, the object that a detection of the wrong class or with a loose box is meant for; else NOTHING.
        is_found: (N,) bool, objects with a right detection.
        is_missed: (N,) bool, objects without one, and that no detection is meant for.
    """

    kinds: np.ndarray
    targets: np.ndarray
    is_found: np.ndarray
    is_missed: np.ndarray


def find_errors(fixed: FixedSet, predictions: Predictions, pairs: Pairs, matched: np.ndarray, shown: np.ndarray) -> Errors:
    """Find the errors of some of the detections.

    Args:
        fixed, predictions: of one split.
        pairs: of `find_pairs` with `BACKGROUND_IOU`.
        matched: of `match`.
        shown: (T,) bool, the detections that count; of a class those with at least some score.
    """
    is_object = ~fixed.is_crowd[pairs.objects]
    is_same = predictions.labels[pairs.detections] == fixed.labels[pairs.objects]
    same_iou, same = _nearest(pairs, is_object & is_same, len(matched))
    other_iou, other = _nearest(pairs, is_object & ~is_same, len(matched))
    is_loose = (same_iou >= BACKGROUND_IOU) & (same_iou < MIN_IOU)
    kinds = np.select([is_loose, other_iou >= MIN_IOU, same_iou >= MIN_IOU, np.maximum(same_iou, other_iou) < BACKGROUND_IOU],
                      [LOOSE_BOX, WRONG_CLASS, DUPLICATE, BACKGROUND], BOTH)
    kinds = np.where(shown & (matched == NOTHING), kinds, NO_ERROR)
    targets = np.select([kinds == LOOSE_BOX, kinds == WRONG_CLASS], [same, other], NOTHING)
    is_found, is_meant = np.zeros((2, len(fixed.labels)), dtype=bool)
    is_found[matched[shown & (matched >= 0)]] = True
    is_meant[targets[targets >= 0]] = True
    return Errors(kinds, targets, is_found, ~(is_found | is_meant | fixed.is_crowd))


def lost_ap50(fixed: FixedSet, predictions: Predictions, matched: np.ndarray, errors: Errors) -> dict[str, float]:
    """Return for each of `KINDS` by how much AP50 would rise if only these errors were mended.

    A wrong class or a loose box becomes right, if its object is not found already; of several for one object only that with the
    highest score. Other wrong detections are removed. Missed objects no longer count.

    Args:
        fixed, predictions: of one split.
        matched: of `match`.
        errors: of `find_errors` for all detections.
    """
    objects = np.bincount(fixed.labels[~fixed.is_crowd], minlength=len(fixed.class_names) + 1)[1:]
    counts, is_right = (matched >= 0) | (errors.kinds != NO_ERROR), matched >= 0
    before = mean_ap(predictions.labels, predictions.scores, is_right, counts, objects, objects > 0)
    gains = {}
    for kind, name in enumerate(KINDS[:MISSED]):
        mended = _mended(predictions.scores, errors, kind)
        labels = predictions.labels.copy()
        labels[mended] = fixed.labels[errors.targets[mended]]
        kept = counts & ((errors.kinds != kind) | mended)
        gains[name] = mean_ap(labels, predictions.scores, is_right | mended, kept, objects, objects > 0) - before
    missed = np.bincount(fixed.labels[errors.is_missed], minlength=len(objects) + 1)[1:]
    gains[KINDS[MISSED]] = mean_ap(predictions.labels, predictions.scores, is_right, counts, objects - missed,
                                   objects > 0) - before
    return gains


def mean_ap(labels: np.ndarray, scores: np.ndarray, is_right: np.ndarray, counts: np.ndarray, objects: np.ndarray,
            classes: np.ndarray) -> float:
    """Return COCO's AP at one IoU, averaged over some classes; nan if there are none.

    Args:
        labels, scores, is_right: (T,) of the detections.
        counts: (T,) bool, without the detections to ignore.
        objects: (K,) of each class; a class without any is perfect.
        classes: (K,) bool, those to average.
    """
    aps = [_average_precision(scores[rows], is_right[rows], int(objects[k]))
           for k in np.flatnonzero(classes) for rows in [counts & (labels == k + 1)]]
    return float(np.mean(aps)) if aps else float("nan")


def confusion(fixed: FixedSet, predictions: Predictions, matched: np.ndarray, shown: np.ndarray, errors: Errors) -> np.ndarray:
    """Return (K + 1, K + 1) int64: objects by class and class of their detection; the last row and column is the background.

    An object that only a detection of the wrong class finds counts as taken for that class. Every other wrong detection counts
    as one of the background, and every other object as one that is taken for it.

    Args:
        fixed, predictions, matched, shown: as in `find_errors`.
        errors: of `find_errors` for the same detections.
    """
    background = len(fixed.class_names)
    table = np.zeros((background + 1, background + 1), dtype=np.int64)
    right = np.flatnonzero(shown & (matched >= 0))
    np.add.at(table, (fixed.labels[matched[right]] - 1, predictions.labels[right] - 1), 1)
    swapped = _mended(predictions.scores, errors, WRONG_CLASS)
    np.add.at(table, (fixed.labels[errors.targets[swapped]] - 1, predictions.labels[swapped] - 1), 1)
    np.add.at(table, (background, predictions.labels[(errors.kinds != NO_ERROR) & ~swapped] - 1), 1)
    unfound = ~(errors.is_found | fixed.is_crowd)
    unfound[errors.targets[swapped]] = False
    np.add.at(table, (fixed.labels[unfound] - 1, background), 1)
    return table


def _nearest(pairs: Pairs, chosen: np.ndarray, detections: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (T,) the highest IoU of each detection in some pairs, and its object; 0 and NOTHING without a pair."""
    order = np.flatnonzero(chosen)
    order = order[np.argsort(pairs.ious[order], kind="stable")]
    ious, objects = np.zeros(detections), np.full(detections, NOTHING)
    ious[pairs.detections[order]] = pairs.ious[order]  # of repeated indices the last value stays
    objects[pairs.detections[order]] = pairs.objects[order]
    return ious, objects


def _mended(scores: np.ndarray, errors: Errors, kind: int) -> np.ndarray:
    """Return (T,) bool: of the detections of a kind that are meant for an object that is not found, the best of each object."""
    rows = np.flatnonzero((errors.kinds == kind) & (errors.targets >= 0))
    rows = rows[~errors.is_found[errors.targets[rows]]]
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    mended = np.zeros(len(scores), dtype=bool)
    mended[rows[np.unique(errors.targets[rows], return_index=True)[1]]] = True
    return mended


def _average_precision(scores: np.ndarray, is_right: np.ndarray, objects: int) -> float:
    if not objects:
        return 1.0
    hits = is_right[np.argsort(-scores, kind="stable")].cumsum()
    precision = np.append(hits / np.arange(1, len(hits) + 1), 0.0)
    best_from = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from[np.searchsorted(hits / objects, RECALLS)].mean())
