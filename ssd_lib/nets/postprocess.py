"""Turn the outputs of a net into detections: scores and boxes of its priors, of which boxes/selection.py selects the best."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssd_lib.boxes.coder import decode
from ssd_lib.boxes.selection import Nms, Postprocess, select
from ssd_lib.errors import StateError
from ssd_lib.nets.ssd import SSD, Scores, scores_of

ROUNDING = 1e-3  # far above the rounding error of the logarithm of a score


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
    return select_detections(*score_priors(net, images, postprocess.lowest_vote), postprocess, nms)


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
    return decode_candidates(logits, offsets, net.priors, floor, net.scores)


def decode_candidates(logits: Tensor, offsets: Tensor, priors: Tensor, floor: float,
                      kind: Scores = "softmax") -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return scores and boxes of the priors that may have a score of at least `floor`; a trained net has few of them.

    Guarantees: every prior with such a score is included, in the order of the priors, with the scores of `scores_of`.

    Args:
        logits: (B, P, K + 1), class 0 the background; (B, P, K) for sigmoid scores.
        offsets: (B, P, 4).
        priors: (P, 4) float32, cxcywh in [0, 1].
        floor: the lowest score of interest, [0, 1].
        kind: what the logits mean, see `SSD`.

    Returns:
        On the CPU: B times (R, K) float32 scores without the background, and B times (R, 4) float32 boxes, xyxy in [0, 1].

    Raises:
        StateError: a logit or offset is nan or infinite.
    """
    if not torch.stack([*logits.aminmax(), *offsets.aminmax()]).isfinite().all():
        raise StateError("net: its output is nan or infinite; its training has diverged. Lower train.lr or set "
                         "train.precision: fp32, then train again.")
    if kind == "softmax":  # an upper bound for the logarithm of the score
        bound = logits[..., 1:].amax(dim=2).float() - logits[..., 0].float()
    else:
        bound = F.logsigmoid(logits.amax(dim=2).float())
    lowest = math.log(floor) - ROUNDING if floor > 0 else -math.inf
    images, rows = (bound >= lowest).nonzero(as_tuple=True)
    scores = scores_of(logits[images, rows].float(), kind)[:, 1:]
    boxes = decode(offsets[images, rows].float(), priors[rows]).clamp(0, 1)
    counts = torch.bincount(images, minlength=len(logits)).tolist()
    return scores.cpu().split(counts), boxes.cpu().split(counts)


def select_detections(scores: Iterable[Tensor], boxes: Iterable[Tensor], postprocess: Postprocess,
                      nms: Nms = "hard") -> list[Detections]:
    """Return the best boxes of every image, as `select` describes it.

    Args:
        scores: B times (P, K) float32, without the background; P may differ from image to image.
        boxes: B times (P, 4) float32, xyxy in [0, 1].
        postprocess: thresholds and limits.
        nms: "hard" | "soft".

    Returns:
        B detections.
    """
    found = (select(image_scores.cpu().numpy(), image_boxes.cpu().numpy(), postprocess, nms)
             for image_scores, image_boxes in zip(scores, boxes, strict=True))
    return [Detections(*map(torch.from_numpy, one)) for one in found]


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
