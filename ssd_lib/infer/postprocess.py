"""From what a net says of every prior to the few boxes that are its detections. Files are not known here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ssd_lib.boxes.coder import decode
from ssd_lib.errors import StateError
from ssd_lib.infer.soft_nms import soft_nms
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import EvalParams

Nms = Literal["hard", "soft"]  # of boxes that overlap, the weaker goes, or loses score


class Detections(NamedTuple):
    """What was found in one image, the highest score first.

    Attributes:
        boxes: (N, 4) float32, xyxy in [0, 1], each with an area.
        labels: (N,) int64 in 1..K.
        scores: (N,) float32.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


@torch.inference_mode()
def detect(net: SSD, images: Tensor, params: EvalParams, nms: Nms = "hard") -> list[Detections]:
    """Find objects in a batch of images: `score_priors`, then `select_detections`, which say what is raised and when.

    Args:
        net: on the device of `images`.
        images: (B, 3, S, S) RGB in [0, 255], uint8 or float.
        params: thresholds and limits.
        nms: "hard" | "soft".

    Returns:
        B detections.
    """
    return select_detections(*score_priors(net, images), params, nms)


@torch.inference_mode()
def score_priors(net: SSD, images: Tensor) -> tuple[Tensor, Tensor]:
    """Give every prior its scores and its box. The net runs in evaluation mode and is left in the mode that it was in.

    Args:
        net: on the device of `images`.
        images: (B, 3, S, S) RGB in [0, 255], uint8 or float.

    Returns:
        (B, P, K) float32 scores without the background, and (B, P, 4) float32 boxes, xyxy in [0, 1].

    Raises:
        StateError: the net gives nan or infinity.
    """
    with _evaluating(net):
        logits, offsets = net(images)
    if not (logits.isfinite().all() and offsets.isfinite().all()):
        raise StateError("net: its output is nan or infinite; the output of good weights is finite, so its training "
                         "has diverged. Lower train.lr or set train.precision: fp32, then train again.")
    return logits.float().softmax(dim=2)[..., 1:], decode(offsets.float(), net.priors).clamp(0, 1)


def select_detections(scores: Tensor, boxes: Tensor, params: EvalParams, nms: Nms = "hard") -> list[Detections]:
    """Keep the best boxes of every image.

    A class's candidates are its `top_k_per_class` best scores from the threshold up; of two that overlap by more than
    `nms_iou` the weaker goes; of what is left, the best `max_detections` of all classes stay. All have an area.
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3 "Inference time". Soft-NMS takes the place of `nms_iou` on request.

    Args:
        scores: (B, P, K) float32, without the background.
        boxes: (B, P, 4) float32, xyxy in [0, 1].
        params: thresholds and limits.
        nms: "hard", or "soft" as `soft_nms` does it: no score after it is below the threshold either.

    Returns:
        B detections.
    """
    batch, _, classes = scores.shape
    has_area = (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
    by_class = scores.masked_fill(~has_area[..., None], -1.0).transpose(1, 2).flatten(0, 1)  # (B * K, P)
    rows, priors = _candidates(by_class, params.score_threshold, params.top_k_per_class)
    images = rows // classes
    counts = torch.bincount(images, minlength=batch).tolist()
    columns = zip(boxes[images, priors].split(counts), (rows % classes + 1).split(counts),
                  by_class[rows, priors].split(counts), strict=True)
    suppress = _suppress_softly if nms == "soft" else _suppress
    return [suppress(Detections(*column), params) for column in columns]


def _candidates(scores: Tensor, threshold: float, top_k: int) -> tuple[Tensor, Tensor]:
    """(rows, columns) of the scores that pass the threshold, the `top_k` best of a row, row after row.

    Only rows with too many of them are sorted: few in a trained net, nearly all in a new one.
    """
    passes = scores >= threshold
    crowded = (passes.sum(dim=1) > top_k).nonzero()  # (R, 1)
    if len(crowded):
        best = scores[crowded[:, 0]].topk(top_k, dim=1).indices
        passes[crowded[:, 0]] = False
        passes[crowded, best] = True
    rows, columns = passes.nonzero(as_tuple=True)
    return rows, columns


def _suppress(found: Detections, params: EvalParams) -> Detections:
    """Class-wise NMS of one image, then its best.

    In float64, since batched_nms may shift the boxes of class k by 2k, which costs float32 the small ones. One image
    at a time, since for many boxes batched_nms looks through all of them once a class: 11 s for a batch of 16 from a
    new net of 80 classes on two cores, and 1 to 2 s this way.
    """
    keep = batched_nms(found.boxes.double(), found.scores.double(), found.labels, params.nms_iou)
    return Detections(*(column[keep[:params.max_detections]] for column in found))


def _suppress_softly(found: Detections, params: EvalParams) -> Detections:
    picked, scores = soft_nms(found.boxes, found.scores, found.labels, params.score_threshold, params.max_detections)
    return Detections(found.boxes[picked], found.labels[picked], scores)


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
