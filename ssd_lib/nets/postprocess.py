"""Turn a net's outputs for every prior into detections: score threshold, NMS or Soft-NMS, limits."""

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
    """What becomes a detection: the section `postprocess` of params.yaml, stored in models/ssd.pt and in ONNX files.

    The defaults are those of the SSD authors' code, with COCO's 100 detections an image; files without values have them.

    Attributes:
        score_threshold: candidates have at least this score, [0, 1].
        nms_iou: of two boxes of a class with a higher IoU the one with the lower score is dropped, [0, 1].
        top_k_per_class: candidates of each class before NMS, the best ones.
        max_detections: detections of an image after NMS, the best ones.
    """

    score_threshold: float = 0.01
    nms_iou: float = 0.45
    top_k_per_class: int = 200
    max_detections: int = 100

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Postprocess":
        """Return the values that a file holds; the defaults for those that it lacks."""
        return cls(**{key: values[key] for key in cls._fields if key in values})


PUBLISHED = Postprocess()


class Detections(NamedTuple):
    """The detections of one image, highest score first, on the CPU.

    Attributes:
        boxes: (N, 4) float32, xyxy in [0, 1], each with an area.
        labels: (N,) int64 in 1..K.
        scores: (N,) float32.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes, labels, scores of an image's candidates
_Suppress = Callable[[_Rows, Postprocess], Detections]


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


def decode_candidates(logits: Tensor, offsets: Tensor, priors: Tensor, floor: float) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return scores and boxes of the priors that may have a score of `floor` or more: few, for a trained net.

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
        raise StateError("net: its output is nan or infinite; its training has "
                         "diverged. Lower train.lr or set train.precision: fp32, then train again.")
    over_background = logits[..., 1:].amax(dim=2).float() - logits[..., 0].float()  # an upper bound of the score's logarithm
    lowest = math.log(floor) - ROUNDING if floor > 0 else -math.inf
    images, rows = (over_background >= lowest).nonzero(as_tuple=True)
    scores = logits[images, rows].float().softmax(dim=1)[:, 1:]
    boxes = decode(offsets[images, rows].float(), priors[rows]).clamp(0, 1)
    counts = torch.bincount(images, minlength=len(logits)).tolist()
    return scores.cpu().split(counts), boxes.cpu().split(counts)


def select_detections(scores: Iterable[Tensor], boxes: Iterable[Tensor], postprocess: Postprocess,
                      nms: Nms = "hard") -> list[Detections]:
    """Return the best boxes of every image.

    A class's candidates are its `top_k_per_class` best scores from the threshold up; of two that overlap by more than
    `nms_iou` the weaker is dropped; of the rest, the best `max_detections` of all classes are kept. All have an area. Of equal
    scores the earlier prior comes first, then the lower class: the same input gives the same detections.
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3 "Inference time". Soft-NMS replaces `nms_iou` on request.

    Args:
        scores: B times (P, K) float32, without the background; P may differ from image to image.
        boxes: B times (P, 4) float32, xyxy in [0, 1].
        postprocess: thresholds and limits.
        nms: "hard", or "soft": see `soft_nms`; its lowered scores are not below the threshold either.

    Returns:
        B detections.
    """
    suppress = _suppress_softly if nms == "soft" else _suppress
    return [_select(of_image.cpu().numpy(), places.cpu().numpy(), postprocess, suppress)
            for of_image, places in zip(scores, boxes, strict=True)]


@torch.inference_mode()
def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """Select boxes of one image by Soft-NMS: overlapping boxes of a class lose score instead of being dropped.

    The best box is picked, the score of every other box of its class is multiplied by exp(-IoU^2 / `SIGMA`), and so on.
    Guarantees: no score grows; a box that overlaps no other of its class keeps its score; picked scores never rise. Classes do
    not affect each other, so all are handled at once.
    Source: Bodla et al. 2017, arXiv 1704.04503, sec. 3, the Gaussian penalty.

    Args:
        boxes: (N, 4) float32 xyxy, each with an area.
        scores: (N,) float32.
        labels: (N,) int64.
        threshold: selection ends below this score.
        limit: selection ends after this many boxes.

    Returns:
        (M,) int64 indices of the selected boxes, highest score first, and (M,) their scores.
    """
    left = scores.clone()
    picked, kept = [], []
    for _ in range(min(limit, len(scores))):
        score, best = left.max(dim=0)
        if score < threshold:
            break
        picked.append(best)
        kept.append(score)
        decay = torch.exp(-box_iou(boxes[best, None], boxes)[0].square() / SIGMA)
        left = torch.where(labels == labels[best], left * decay, left)
        left[best] = -1.0  # never picked again
    if not picked:
        return labels[:0], scores[:0]
    return torch.stack(picked), torch.stack(kept)


def _select(scores: np.ndarray, boxes: np.ndarray, postprocess: Postprocess, suppress: _Suppress) -> Detections:
    """Return the detections of one image, in NumPy: PyTorch takes several times as long for so many small steps.

    Whether a candidate is kept depends only on those with higher scores. So the best priors are tried first, and more only if
    they give too few detections: an untrained net has a quarter of a million candidates an image.
    """
    looked_at = 2 * postprocess.max_detections
    while looked_at < len(scores):
        best = scores.max(axis=1)
        floor = max(float(np.partition(best, -looked_at)[-looked_at]), postprocess.score_threshold)
        rows = np.flatnonzero(best >= floor)
        found = suppress(_candidates(scores[rows], boxes[rows], floor, postprocess.top_k_per_class), postprocess)
        if floor == postprocess.score_threshold or (len(found.scores) == postprocess.max_detections and found.scores[-1] >= floor):
            return found
        looked_at *= 4
    return suppress(_candidates(scores, boxes, postprocess.score_threshold, postprocess.top_k_per_class), postprocess)


def _candidates(scores: np.ndarray, boxes: np.ndarray, floor: float, top_k: int) -> _Rows:
    """Return the scores of at least `floor` whose box has an area: the `top_k` best of each class, earlier priors first."""
    has_area = np.all(boxes[:, 2:] > boxes[:, :2], axis=1, keepdims=True)
    passes = (scores >= floor) & has_area
    for_class = passes.sum(axis=0) if len(scores) > top_k else np.zeros(0)
    crowded = np.flatnonzero(for_class > top_k)
    if len(crowded):
        order = np.where(passes[:, crowded], -scores[:, crowded], 1.0).argsort(axis=0, kind="stable")
        passes[order[top_k:], crowded] = False
    priors, classes = np.divmod(np.flatnonzero(passes), passes.shape[1])  # np.nonzero takes ten times as long
    return boxes[priors], classes + 1, scores[priors, classes]


def _suppress(found: _Rows, postprocess: Postprocess) -> Detections:
    """Apply class-wise NMS to one image, keep the best. Classes are moved apart, in float64 so that small boxes stay exact."""
    boxes, labels, scores = found
    apart = boxes + 2.0 * labels[:, None]
    keep = hard_nms(torch.from_numpy(apart), torch.from_numpy(scores.astype(np.float64)), postprocess.nms_iou).numpy()
    return Detections(*(torch.from_numpy(column[keep[:postprocess.max_detections]]) for column in found))


def _suppress_softly(found: _Rows, postprocess: Postprocess) -> Detections:
    boxes, labels, scores = (torch.from_numpy(column) for column in found)
    picked, left = soft_nms(boxes, scores, labels, postprocess.score_threshold, postprocess.max_detections)
    return Detections(boxes[picked], labels[picked], left)


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
