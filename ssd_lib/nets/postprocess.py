"""Turn the outputs of a net into detections: score threshold, NMS or Soft-NMS, limits."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou
from torchvision.ops import nms as hard_nms

from ssd_lib.boxes.coder import decode
from ssd_lib.errors import StateError
from ssd_lib.nets.ssd import SSD

Nms = Literal["hard", "soft"]  # drop the weaker of two overlapping boxes, or lower its score
ROUNDING = 1e-3  # far above the rounding error of the logarithm of a score
SIGMA = 0.5  # width of Soft-NMS's Gaussian, as in the paper


class Postprocess(NamedTuple):
    """Thresholds and limits for detections: section `postprocess` of params.yaml, stored in models/ssd.pt and ONNX files.

    The defaults, which hold for files without these values, are those of the SSD authors' code and COCO's 100 detections per
    image.

    Attributes:
        score_threshold: candidates have at least this score, [0, 1].
        nms_iou: of two boxes of a class with a higher IoU the one with the lower score is dropped, [0, 1].
        top_k_per_class: at most this many candidates of each class, the best ones, enter NMS.
        max_detections: at most this many detections of an image, the best ones, remain after NMS.
    """

    score_threshold: float = 0.01
    nms_iou: float = 0.45
    top_k_per_class: int = 200
    max_detections: int = 100

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Postprocess":
        """Return the values read from a file, with the defaults for missing ones."""
        return cls(**{key: values[key] for key in cls._fields if key in values})


PUBLISHED = Postprocess()


class Detections(NamedTuple):
    """The detections of one image, highest score first, on the CPU.

    Attributes:
        boxes: (N, 4) float32, xyxy in [0, 1], each with a positive area.
        labels: (N,) int64 in 1..K.
        scores: (N,) float32.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


_Candidates = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes, labels and scores of an image's candidates
_Suppress = Callable[[_Candidates, Postprocess], Detections]


@torch.inference_mode()
def detect(net: SSD, images: Tensor, postprocess: Postprocess, nms: Nms = "hard") -> list[Detections]:
    """Detect objects in a batch of images: `score_priors`, then `select_detections`; see these for errors.

    Args:
        net: on the device of `images`.
        images: (B, 3, S, S) RGB in [0, 255], uint8 or float.
        postprocess: thresholds and limits.
        nms: "hard" | "soft".

    Returns:
        B detections.
    """
    return select_detections(*score_priors(net, images, postprocess.score_threshold), postprocess, nms)


@torch.inference_mode()
def score_priors(net: SSD, images: Tensor, floor: float) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Run the net and return scores and boxes of `decode_candidates`. The net's mode is unchanged afterwards.

    Args:
        net: on the device of `images`.
        images: (B, 3, S, S) RGB in [0, 255], uint8 or float.
        floor: the lowest score of interest.

    Raises:
        StateError: an output is nan or infinite.
    """
    with _evaluating(net):
        logits, offsets = net(images)
    return decode_candidates(logits, offsets, net.priors, floor)


def decode_candidates(logits: Tensor, offsets: Tensor, priors: Tensor,
                      floor: float) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return scores and boxes of the priors that may have a score of at least `floor`; a trained net has few of them.

    Guarantees: every prior with such a score is included, in the order of the priors, with the scores of the full softmax.

    Args:
        logits: (B, P, K + 1), class 0 the background.
        offsets: (B, P, 4).
        priors: (P, 4) float32, cxcywh in [0, 1].
        floor: the lowest score of interest, [0, 1].

    Returns:
        On the CPU: B times (R, K) float32 scores without the background, and B times (R, 4) float32 boxes, xyxy in [0, 1].

    Raises:
        StateError: a logit or offset is nan or infinite.
    """
    if not torch.stack([*logits.aminmax(), *offsets.aminmax()]).isfinite().all():
        raise StateError("net: its output is nan or infinite; its training has diverged. Lower train.lr or set "
                         "train.precision: fp32, then train again.")
    # an upper bound for the logarithm of the score
    over_background = logits[..., 1:].amax(dim=2).float() - logits[..., 0].float()
    lowest = math.log(floor) - ROUNDING if floor > 0 else -math.inf
    images, rows = (over_background >= lowest).nonzero(as_tuple=True)
    scores = logits[images, rows].float().softmax(dim=1)[:, 1:]
    boxes = decode(offsets[images, rows].float(), priors[rows]).clamp(0, 1)
    counts = torch.bincount(images, minlength=len(logits)).tolist()
    return scores.cpu().split(counts), boxes.cpu().split(counts)


def select_detections(scores: Iterable[Tensor], boxes: Iterable[Tensor], postprocess: Postprocess,
                      nms: Nms = "hard") -> list[Detections]:
    """Return the best boxes of every image.

    The candidates of a class are its `top_k_per_class` best scores that reach the threshold, of boxes with a positive area. Of
    two candidates with an IoU above `nms_iou` the one with the lower score is dropped. Of the rest, the best `max_detections`
    of all classes are kept. Ties are broken by prior, then by class, so that the same input gives the same detections.
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3 "Inference time".

    Args:
        scores: B times (P, K) float32, without the background; P may differ from image to image.
        boxes: B times (P, 4) float32, xyxy in [0, 1].
        postprocess: thresholds and limits.
        nms: "hard", or "soft" for `soft_nms` instead of `nms_iou`; detections whose score falls below the threshold are
            dropped.

    Returns:
        B detections.
    """
    suppress = _suppress_softly if nms == "soft" else _suppress
    return [_select(image_scores.cpu().numpy(), image_boxes.cpu().numpy(), postprocess, suppress)
            for image_scores, image_boxes in zip(scores, boxes, strict=True)]


@torch.inference_mode()
def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
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
    remaining = scores.clone()
    selected, selected_scores = [], []
    for _ in range(min(limit, len(scores))):
        score, best = remaining.max(dim=0)
        if score < threshold:
            break
        selected.append(best)
        selected_scores.append(score)
        decay = torch.exp(-box_iou(boxes[best, None], boxes)[0].square() / SIGMA)
        remaining = torch.where(labels == labels[best], remaining * decay, remaining)
        remaining[best] = -1.0  # never selected again
    if not selected:
        return labels[:0], scores[:0]
    return torch.stack(selected), torch.stack(selected_scores)


def _select(scores: np.ndarray, boxes: np.ndarray, postprocess: Postprocess, suppress: _Suppress) -> Detections:
    """Return the detections of one image, with NumPy: PyTorch takes several times as long for so many small steps.

    Whether a candidate is kept depends only on those with higher scores. So the best priors are processed first, and more only
    if these give too few detections: an untrained net has a quarter of a million candidates per image.
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


def _candidates(scores: np.ndarray, boxes: np.ndarray, floor: float, top_k: int) -> _Candidates:
    """Return the `top_k` best candidates of each class with a score of at least `floor` and a positive area, by prior."""
    has_area = np.all(boxes[:, 2:] > boxes[:, :2], axis=1, keepdims=True)
    passes = (scores >= floor) & has_area
    per_class = passes.sum(axis=0) if len(scores) > top_k else np.zeros(0)
    full = np.flatnonzero(per_class > top_k)
    if len(full):
        order = np.where(passes[:, full], -scores[:, full], 1.0).argsort(axis=0, kind="stable")
        passes[order[top_k:], full] = False
    priors, classes = np.divmod(np.flatnonzero(passes), passes.shape[1])  # np.nonzero takes ten times as long
    return boxes[priors], classes + 1, scores[priors, classes]


def _suppress(candidates: _Candidates, postprocess: Postprocess) -> Detections:
    """Apply class-wise NMS to one image: boxes are shifted apart by class, in float64 so that small boxes stay exact."""
    boxes, labels, scores = candidates
    apart = boxes + 2.0 * labels[:, None]
    keep = hard_nms(torch.from_numpy(apart), torch.from_numpy(scores.astype(np.float64)), postprocess.nms_iou).numpy()
    return Detections(*(torch.from_numpy(column[keep[:postprocess.max_detections]]) for column in candidates))


def _suppress_softly(candidates: _Candidates, postprocess: Postprocess) -> Detections:
    boxes, labels, scores = (torch.from_numpy(column) for column in candidates)
    selected, selected_scores = soft_nms(boxes, scores, labels, postprocess.score_threshold, postprocess.max_detections)
    return Detections(boxes[selected], labels[selected], selected_scores)


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Set evaluation mode; restore the mode of every module afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
