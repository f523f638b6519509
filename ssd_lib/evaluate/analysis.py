"""Everything that evaluation knows about the detections of a split besides COCO's and VOC's metrics."""

from typing import Any, NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.boxes.selection import SHOWN_SCORE
from ssd_lib.evaluate.coco_eval import Predictions
from ssd_lib.evaluate.error_kinds import BACKGROUND_IOU, Errors, confusion, find_errors, lost_ap50
from ssd_lib.evaluate.matching import BestF1, best_f1, find_pairs, match


class Analysis(NamedTuple):
    """The detections of a split beside its objects.

    Attributes:
        fixed: the ground truth.
        predictions: T detections.
        matched: (T,) of `match` at IoU 0.5.
        best: the score threshold with the best F1 of each class.
        thresholds: (K,) the same, `SHOWN_SCORE` where it is not known.
        shown: (T,) bool, detections with at least the threshold of their class.
        errors: of the shown detections.
        lost: of `lost_ap50`, of all detections.
        confused: of `confusion`, of the shown detections.
    """

    fixed: FixedSet
    predictions: Predictions
    matched: np.ndarray
    best: BestF1
    thresholds: np.ndarray
    shown: np.ndarray
    errors: Errors
    lost: dict[str, float]
    confused: np.ndarray


def analyse(fixed: FixedSet, predictions: Predictions) -> Analysis:
    """Match the detections to the objects, and find what is wrong with them."""
    pairs = find_pairs(fixed, predictions, BACKGROUND_IOU)
    matched = match(fixed, predictions, pairs)
    best = best_f1(fixed, predictions, matched)
    thresholds = np.where(np.isnan(best.threshold), SHOWN_SCORE, best.threshold)
    shown = predictions.scores >= thresholds[predictions.labels - 1]
    errors = find_errors(fixed, predictions, pairs, matched, shown)
    of_all = find_errors(fixed, predictions, pairs, matched, np.ones(len(matched), dtype=bool))
    return Analysis(fixed, predictions, matched, best, thresholds, shown, errors,
                    lost_ap50(fixed, predictions, matched, of_all),
                    confusion(fixed, predictions, matched, shown, errors))


def key_numbers(analysis: Analysis) -> dict[str, Any]:
    """Return what eval.json says of an analysis: F1 of each class with its threshold, and the AP50 that errors cost.

    What is not defined, as of a class of which no object is found, is None.
    """
    rows = np.stack(analysis.best, axis=1).tolist()
    return {"best_f1": {name: {key: _or_none(value) for key, value in zip(BestF1._fields, row, strict=True)}
                        for name, row in zip(analysis.fixed.class_names, rows, strict=True)},
            "lost_ap50": {kind: _or_none(gain) for kind, gain in analysis.lost.items()}}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
