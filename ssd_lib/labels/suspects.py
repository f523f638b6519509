"""Find the labels that a detector contradicts, and rank them by how sure it is: pure functions of the matches of evaluation.

That overlooked objects, swapped classes and badly located boxes show in what a detector sees of each label is the idea of
ObjectLab (Tkachenko, Thyagarajan, Mueller 2023, arXiv 2309.00832). Here one scale ranks them all, and spurious boxes with them.
"""

from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.boxes.selection import hard_nms
from ssd_lib.evaluate.coco_eval import Predictions
from ssd_lib.evaluate.error_kinds import BACKGROUND_IOU
from ssd_lib.evaluate.matching import MIN_IOU, NOTHING, Pairs, find_pairs, match

MISSING, WRONG_CLASS, LOOSE, SPURIOUS = range(4)
KINDS = ("missing box", "wrong class", "loose or shifted box", "spurious box")
SURE_QUANTILE = 0.75  # of the scores of right detections of a class: from it on, the detector is entirely sure
NO_FIT, FULL_FIT = 0.4, 0.7  # IoU to which a detection contradicts the box of a label entirely, and from which it confirms it
CONTRADICTED = 0.3  # a label with weaker contradictions is spurious: nothing else seems to be there
MIN_SCORE = 0.4  # nine of ten errors that benchmarks/label_errors.py plants have a higher one
ALONE = 0.8  # weight of what only one of label and detector says: an object that the other one does not see at all


class Suspects(NamedTuple):
    """Suspected errors, the most certain first.

    Attributes:
        kinds: (S,) int64, index into `KINDS`.
        scores: (S,) float64 in [0, 1].
        detections: (S,) int64, row of the predictions, what the label should be; NOTHING for a spurious box.
        objects: (S,) int64, row of the ground truth; NOTHING for a missing box.
    """

    kinds: np.ndarray
    scores: np.ndarray
    detections: np.ndarray
    objects: np.ndarray


def find_suspects(fixed: FixedSet, predictions: Predictions, limit: int) -> Suspects:
    """Return the suspects with the highest scores, at least `MIN_SCORE`, one for each place of an image.

    A label is the more suspect the less a detection of its class fits its box, or the surer one of another class does. What is
    contradicted, by another class or another box, is more suspect than that of which nothing is seen. A detection without a
    label is the more suspect the surer it is, and the less it overlaps labels.

    Args:
        fixed, predictions: of one split; low scores are needed, too, as they confirm a little.
        limit: the most suspects, at least 1.
    """
    pairs = find_pairs(fixed, predictions, BACKGROUND_IOU)
    matched = match(fixed, predictions, pairs)
    sure = sureness(predictions, matched)
    of_both = (_of_labels(fixed, predictions, pairs, matched, sure), _of_detections(pairs, matched, sure))
    found = Suspects(*(np.concatenate(columns) for columns in zip(*of_both, strict=True)))
    found = Suspects(*(column[found.scores >= MIN_SCORE] for column in found))
    boxes, images = boxes_of(fixed, predictions, found), images_of(fixed, predictions, found)
    shares = boxes / fixed.sizes[images][:, [1, 0, 1, 0]]
    corners = np.concatenate([shares[:, :2], shares[:, :2] + shares[:, 2:]], axis=1)
    kept = hard_nms(corners, found.scores, images, MIN_IOU, limit)
    return Suspects(*(column[kept] for column in found))


def sureness(predictions: Predictions, matched: np.ndarray) -> np.ndarray:
    """Return (T,) how sure the detector is of each detection, [0, 1]: its score relative to those of right ones of its class.

    Args:
        predictions: of one split.
        matched: of `match`.
    """
    scores, labels, is_right = predictions.scores, predictions.labels, matched >= 0
    sure = np.zeros(len(matched))
    for label in np.unique(labels).tolist() if is_right.any() else ():
        of_class = labels == label
        right = is_right & of_class if (is_right & of_class).any() else is_right  # of all classes, if this one is never right
        sure[of_class] = scores[of_class] / np.quantile(scores[right], SURE_QUANTILE)
    return sure.clip(max=1)


def boxes_of(fixed: FixedSet, predictions: Predictions, found: Suspects) -> np.ndarray:
    """Return (S, 4) the box that each label should have, or of a spurious one the box that it has; xywh in pixels."""
    return np.where((found.detections >= 0)[:, None], _taken(predictions.boxes, found.detections),
                    _taken(label_boxes(fixed), found.objects))


def images_of(fixed: FixedSet, predictions: Predictions, found: Suspects) -> np.ndarray:
    """Return (S,) int64, the index of the image of each suspect."""
    return np.where(found.detections >= 0, _taken(predictions.images, found.detections),
                    _taken(fixed.image_indices(), found.objects))


def overlaps(fixed: FixedSet, predictions: Predictions, found: Suspects) -> np.ndarray:
    """Return (S,) the IoU of label and detection of each suspect; 0 where one is missing."""
    seen = np.flatnonzero(found.detections >= 0)
    pairs = find_pairs(fixed, Predictions(*(column[found.detections[seen]] for column in predictions)), BACKGROUND_IOU)
    is_own = pairs.objects == found.objects[seen][pairs.detections]
    ious = np.zeros(len(found.kinds))
    ious[seen[pairs.detections[is_own]]] = pairs.ious[is_own]
    return ious


def label_boxes(fixed: FixedSet) -> np.ndarray:
    """Return (N, 4) float64, the boxes of the objects as xywh in pixels."""
    boxes = fixed.boxes.astype(np.float64)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _of_labels(fixed: FixedSet, predictions: Predictions, pairs: Pairs, matched: np.ndarray, sure: np.ndarray) -> Suspects:
    """Return one suspect for each object; a detection that finds another object confirms its label, but contradicts none."""
    finds, certainty = matched[pairs.detections], sure[pairs.detections]
    is_same = predictions.labels[pairs.detections] == fixed.labels[pairs.objects]
    is_free = (finds == NOTHING) | (finds == pairs.objects)
    fit = ((pairs.ious - NO_FIT) / (FULL_FIT - NO_FIT)).clip(0, 1)
    as_other = certainty * (is_free & ~is_same & (pairs.ious >= MIN_IOU))
    as_loose = certainty * (is_free & is_same) * (1 - fit)
    confirmed, _ = _best(certainty * is_same * fit, pairs, len(fixed.labels))
    renamed, _ = _best(as_other, pairs, len(fixed.labels))
    contradicted, by = _best(np.maximum(as_other, as_loose), pairs, len(fixed.labels))
    scores = (1 - confirmed * (1 - renamed)) * (ALONE + (1 - ALONE) * contradicted)
    is_spurious = contradicted < CONTRADICTED
    kinds = np.select([is_spurious, _taken(predictions.labels, by) == fixed.labels], [SPURIOUS, LOOSE], WRONG_CLASS)
    rows = np.flatnonzero(~fixed.is_crowd)
    return Suspects(kinds[rows], scores[rows], np.where(is_spurious, NOTHING, by)[rows], rows)


def _of_detections(pairs: Pairs, matched: np.ndarray, sure: np.ndarray) -> Suspects:
    """Return one suspect for each detection that finds no object."""
    overlap = np.zeros(len(matched))
    np.maximum.at(overlap, pairs.detections, pairs.ious)
    rows = np.flatnonzero(matched == NOTHING)
    return Suspects(np.full(len(rows), MISSING), ALONE * sure[rows] * (1 - overlap[rows]), rows, np.full(len(rows), NOTHING))


def _best(values: np.ndarray, pairs: Pairs, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) the highest value of each object in its pairs, and the detection of that pair; 0 and NOTHING without one."""
    order = np.argsort(values, kind="stable")
    highest, by = np.zeros(objects), np.full(objects, NOTHING)
    highest[pairs.objects[order]] = values[order]  # of repeated indices the last value stays
    by[pairs.objects[order]] = pairs.detections[order]
    return highest, by


def _taken(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the rows of a column, zeros for NOTHING."""
    return np.concatenate([column, np.zeros_like(column[:1], shape=(1, *column.shape[1:]))])[rows]  # NOTHING is the last one
