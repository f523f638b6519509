"""Select detections from the scores and boxes of priors, with NumPy: score threshold, NMS and box voting or Soft-NMS, limits.

torch is not imported, so that an exported detector runs without it; NumPy is also faster in so many small steps.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

Nms = Literal["hard", "soft"]  # drop the weaker of two overlapping boxes, or lower its score
Tiles = int | Literal["auto"]  # see tiles.py
Threshold = float | Literal["auto"] | None  # see `Postprocess.lowest_scores`
SIGMA = 0.5  # width of Soft-NMS's Gaussian, as in the paper
SHOWN_SCORE = 0.4  # the threshold for a class without its own in `class_thresholds`
BLOCK = 256  # candidates that NMS compares at once
VOTER_SHARE = 0.25  # a box votes on one with at most four times its score
LEAST_WEIGHT = 1e-30  # of a vote: a box with a score of 0 votes on itself


class Postprocess(NamedTuple):
    """Thresholds and limits for detections: section `postprocess` of params.yaml, stored in models/ssd.pt and ONNX files.

    The defaults, which hold for files without these values, are those of the SSD authors' code and COCO's 100 detections per
    image.

    Attributes:
        score_threshold: candidates have at least this score, [0, 1].
        nms_iou: of two boxes of a class with a higher IoU the one with the lower score is dropped, [0, 1].
        top_k_per_class: at most this many candidates of each class, the best ones, enter NMS.
        max_detections: at most this many detections of an image, the best ones, remain after NMS.
        class_thresholds: K scores, [0, 1]: where people are shown detections, those of a class have at least its score. They
            are chosen on the validation images (evaluate/matching.py) and not used for AP; empty if unknown.
        tiles: also detect in at most so many parts of the image, see tiles.py; 0 is off.
        vote_iou: box voting after NMS, see `vote`: boxes with at least this IoU vote on a detection's, [0, 1]; 0 is off.
    """

    score_threshold: float = 0.01
    nms_iou: float = 0.45
    top_k_per_class: int = 200
    max_detections: int = 100
    class_thresholds: tuple[float, ...] = ()
    tiles: Tiles = 0
    vote_iou: float = 0.0

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Postprocess":
        """Return the values read from a file, with the defaults for missing ones."""
        known = {key: values[key] for key in cls._fields if key in values}
        return cls(**{**known, "class_thresholds": tuple(known.get("class_thresholds", ()))})

    def to_plain(self) -> dict[str, Any]:
        """Return the values for a file; the newer ones only if they are on: else a file has the bytes of an older one."""
        return {key: value for key, value in self._asdict().items() if key not in ("tiles", "vote_iou") or value}

    @property
    def lowest_vote(self) -> float:
        """Boxes with a lower score neither become detections nor vote on one."""
        return self.score_threshold * (VOTER_SHARE if self.vote_iou else 1.0)

    def lowest_scores(self, threshold: Threshold, classes: int) -> tuple[float, ...]:
        """Return the lowest score of each class that people are shown.

        Args:
            threshold: "auto" for `class_thresholds`, or `SHOWN_SCORE` without them; None for `score_threshold`; or a number.
            classes: K.
        """
        if threshold == "auto":
            return tuple(max(score, self.score_threshold) for score in self.class_thresholds or (SHOWN_SCORE,) * classes)
        return (self.score_threshold if threshold is None else threshold,) * classes


PUBLISHED = Postprocess()


class Selected(NamedTuple):
    """The detections, or the candidates, of one image.

    Attributes:
        boxes: (N, 4) float32, xyxy in [0, 1], each with a positive area.
        labels: (N,) int64 in 1..K.
        scores: (N,) float32; those of detections are in descending order.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


_Suppress = Callable[[Selected, Postprocess], Selected]


def select(scores: np.ndarray, boxes: np.ndarray, postprocess: Postprocess, nms: Nms = "hard") -> Selected:
    """Return the best boxes of an image.

    The candidates of a class are its `top_k_per_class` best scores that reach the threshold, of boxes with a positive area. Of
    two candidates with an IoU above `nms_iou` the one with the lower score is dropped. Of the rest, the best `max_detections`
    of all classes are kept, and the `top_k_per_class` best scores of each class vote on their boxes if `vote_iou` says so, also
    those below the threshold. Ties are broken by prior, then by class, so that the same input gives the same detections.
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3 "Inference time".

    Args:
        scores: (P, K) float32, without the background.
        boxes: (P, 4) float32, xyxy in [0, 1].
        postprocess: thresholds and limits.
        nms: "hard", or "soft" for `soft_nms` instead of `nms_iou`; detections whose score falls below the threshold are
            dropped.
    """
    if nms == "soft":
        return _best(scores, boxes, postprocess, _suppress_softly)
    found = _best(scores, boxes, postprocess, _suppress)
    if not postprocess.vote_iou or not len(found.scores):
        return found
    classes = np.unique(found.labels)
    voters = _candidates(scores[:, classes - 1], boxes, VOTER_SHARE * float(found.scores[-1]), postprocess.top_k_per_class)
    return found._replace(boxes=vote(found, voters._replace(labels=classes[voters.labels - 1]), postprocess.vote_iou))


def _best(scores: np.ndarray, boxes: np.ndarray, postprocess: Postprocess, suppress: _Suppress) -> Selected:
    """Return what is left of all candidates.

    Whether one is kept depends only on those with higher scores. So the best priors are processed first, and more only if these
    give too few detections: an untrained net has a quarter of a million candidates per image.
    """
    count = 2 * postprocess.max_detections
    while count < len(scores):
        best = scores.max(axis=1)
        floor = max(float(np.partition(best, -count)[-count]), postprocess.score_threshold)
        rows = np.flatnonzero(best >= floor)
        found = suppress(_candidates(scores[rows], boxes[rows], floor, postprocess.top_k_per_class), postprocess)
        is_full = len(found.scores) == postprocess.max_detections
        if floor == postprocess.score_threshold or (is_full and found.scores[-1] >= floor):
            return found
        count *= 4
    return suppress(_candidates(scores, boxes, postprocess.score_threshold, postprocess.top_k_per_class), postprocess)


def vote(found: Selected, candidates: Selected, iou: float) -> np.ndarray:
    """Return the boxes of detections after box voting: the mean, weighted by score, of all boxes of the same object.

    NMS keeps the box with the best score, but the boxes that it drops were predicted for the same object, and their mean is
    nearer to it. Scores do not change. Unlike in the paper, a box votes only if its score is at least `VOTER_SHARE` of that of
    the detection: so the box of a detection does not depend on the score threshold.
    Guarantees: a box lies within those that vote on it; one on which only itself votes stays as it is.
    Source: Gidaris and Komodakis 2015, arXiv 1505.01749, "bounding box voting".

    Args:
        found: the detections.
        candidates: boxes that may vote, those of the detections among them.
        iou: a candidate of the same class with at least this IoU to a detection votes, (0, 1].

    Returns:
        (N, 4) float32, xyxy.
    """
    means = np.empty_like(found.boxes)
    for label in np.unique(found.labels):
        rows, own = (np.flatnonzero(labels == label) for labels in (found.labels, candidates.labels))
        boxes, scores = candidates.boxes[own].astype(np.float64), candidates.scores[own]
        votes = ious(found.boxes[rows].astype(np.float64), boxes) >= iou
        votes &= scores >= VOTER_SHARE * found.scores[rows, None]
        weights = np.where(votes, np.maximum(scores, LEAST_WEIGHT), 0.0)
        means[rows] = weights @ boxes / weights.sum(axis=1, keepdims=True)
    return means


def hard_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float, limit: int) -> np.ndarray:
    """Select boxes of one image by NMS: a box that overlaps a better one of its class is dropped.

    Guarantees: the first `limit` boxes that torchvision's `nms` selects of the same boxes in float64.

    Args:
        boxes: (N, 4) float32 xyxy in [0, 1], each with a positive area.
        scores: (N,) float32.
        labels: (N,) int64.
        iou: a box is dropped if its IoU with a selected one of its class is higher.
        limit: selection ends after this many boxes.

    Returns:
        (M,) int64 indices of the selected boxes, highest score first.
    """
    order = np.argsort(-scores, kind="stable")
    apart = (boxes + 2.0 * labels[:, None])[order]  # shifted apart by class, in float64 so that small boxes stay exact
    kept = order[:0]
    for start in range(0, len(order), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(order)))
        block = block[~(ious(apart[kept], apart[block]) > iou).any(axis=0)]
        overlaps = np.triu(ious(apart[block], apart[block]) > iou, k=1)
        is_kept = np.ones(len(block), dtype=bool)
        for row in np.flatnonzero(overlaps.any(axis=1)):
            if is_kept[row]:
                is_kept &= ~overlaps[row]
        kept = np.concatenate([kept, block[is_kept]])
        if len(kept) >= limit:
            break
    return order[kept[:limit]]


def soft_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, threshold: float,
             limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Select boxes of one image by Soft-NMS: the scores of overlapping boxes of a class are lowered.

    The best box is picked, the score of every other box of its class is multiplied by exp(-IoU^2 / `SIGMA`), and so on.
    Guarantees: no score increases; a box that overlaps no other box of its class keeps its score; selected scores are in
    descending order; classes do not affect each other.
    Source: Bodla et al. 2017, arXiv 1704.04503, sec. 3, the Gaussian penalty.

    Args:
        boxes: (N, 4) float32 xyxy, each with a positive area.
        scores: (N,) float32.
        labels: (N,) int64.
        threshold: selection ends below this score.
        limit: selection ends after this many boxes.

    Returns:
        (M,) int64 indices of the selected boxes, highest score first, and (M,) their scores.
    """
    remaining = scores.copy()
    selected: list[int] = []
    selected_scores: list[float] = []
    for _ in range(min(limit, len(scores))):
        best = int(remaining.argmax())
        if remaining[best] < threshold:
            break
        selected.append(best)
        selected_scores.append(remaining[best])
        decay = np.exp(-ious(boxes[best, None], boxes)[0] ** 2 / SIGMA)
        remaining = np.where(labels == labels[best], remaining * decay, remaining)
        remaining[best] = -1.0  # never selected again
    return np.array(selected, dtype=np.int64), np.array(selected_scores, dtype=scores.dtype)


def ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of every pair: (N, 4) and (M, 4) xyxy to (N, M)."""
    left, top, right, bottom = boxes.T[:, :, None]
    lefts, tops, rights, bottoms = others.T[:, None, :]
    width = (np.minimum(right, rights) - np.maximum(left, lefts)).clip(min=0)
    height = (np.minimum(bottom, bottoms) - np.maximum(top, tops)).clip(min=0)
    overlap = width * height
    return overlap / ((right - left) * (bottom - top) + (rights - lefts) * (bottoms - tops) - overlap)


def _candidates(scores: np.ndarray, boxes: np.ndarray, floor: float, top_k: int) -> Selected:
    """Return the `top_k` best candidates of each class with a score of at least `floor` and a positive area, by prior."""
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    passes = (scores >= floor) & has_area[:, None]
    per_class = passes.sum(axis=0) if len(scores) > top_k else np.zeros(0)
    full = np.flatnonzero(per_class > top_k)
    if len(full):
        of_class = np.where(passes[:, full], scores[:, full], -1.0).T  # (full classes, P)
        last = np.partition(of_class, -top_k)[:, -top_k, None]  # the lowest score that remains; of equal ones, the first priors
        above, equal = of_class > last, of_class == last
        passes[:, full] = (above | (equal & (equal.cumsum(axis=1) <= top_k - above.sum(axis=1, keepdims=True)))).T
    priors, classes = np.divmod(np.flatnonzero(passes), passes.shape[1])  # np.nonzero takes ten times as long
    return Selected(boxes[priors], classes + 1, scores[priors, classes])


def _suppress(candidates: Selected, postprocess: Postprocess) -> Selected:
    boxes, labels, scores = candidates
    kept = hard_nms(boxes, scores, labels, postprocess.nms_iou, postprocess.max_detections)
    return Selected(boxes[kept], labels[kept], scores[kept])


def _suppress_softly(candidates: Selected, postprocess: Postprocess) -> Selected:
    boxes, labels, scores = candidates
    kept, lowered = soft_nms(boxes, scores, labels, postprocess.score_threshold, postprocess.max_detections)
    return Selected(boxes[kept], labels[kept], lowered)
