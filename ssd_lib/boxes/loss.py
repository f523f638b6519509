"""Losses of a batch of predictions: multibox, focal and quality focal loss of the classes; smooth L1 and GIoU of the boxes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from ssd_lib.boxes.coder import decode, encode

NEGATIVES_PER_POSITIVE = 3
GIOU_WEIGHT = 2.0  # as in Li et al. 2020, arXiv 2006.04388


class Criterion(NamedTuple):
    """What a net is trained with; the defaults are SSD's.

    Attributes:
        assignment: "iou" | "atss", see `match_priors`.
        class_loss: "multibox" (softmax, hard negatives) | "focal" | "quality" (sigmoid of each class).
        box_loss: "smooth_l1" (of offsets) | "giou" (of boxes).
    """

    assignment: str = "iou"
    class_loss: str = "multibox"
    box_loss: str = "smooth_l1"


MULTIBOX = Criterion()


class LossSums(NamedTuple):
    """Loss sums of a batch, not yet divided: several processes divide by the number of positives of all of them.

    Attributes:
        classification: () class loss of the priors that it counts.
        box: () box loss of positives.
        positives: () float32, the divisor: the number of positive priors, where an image without positives counts as one.
    """

    classification: Tensor
    box: Tensor
    positives: Tensor


def detection_loss(logits: Tensor, offsets: Tensor, labels: Tensor, boxes: Tensor, priors: Tensor,
                   criterion: Criterion = MULTIBOX) -> LossSums:
    """Return the two summed losses of a batch, in float32 even if the net computes in half precision.

    Args:
        logits: (B, P, K + 1) float, class 0 is the background; (B, P, K) for the losses with a sigmoid.
        offsets: (B, P, 4) float.
        labels, boxes: (B, P) and (B, P, 4) of `match_priors`; ground-truth boxes are used where the label is above 0.
        priors: (P, 4) float32, cxcywh.
        criterion: its two losses.
    """
    positive = labels > 0
    count = count_positives(labels)
    if criterion.class_loss == "multibox":
        classification = multibox_loss(logits, labels)
    else:
        quality = positive.float()
        if criterion.class_loss == "quality":
            quality *= _iou(decode(offsets.detach().float(), priors), boxes)
        targets = torch.zeros_like(logits, dtype=torch.float32)
        targets.scatter_(2, (labels.clamp(min=1) - 1)[..., None], quality[..., None])
        loss = sigmoid_focal_loss if criterion.class_loss == "focal" else quality_focal_loss
        classification = (loss(logits.float(), targets) * (labels >= 0)[..., None]).sum()
    if criterion.box_loss == "giou":
        box = GIOU_WEIGHT * generalized_box_iou_loss(decode(offsets.float(), priors), boxes)
    else:
        box = F.smooth_l1_loss(offsets.float(), encode(boxes, priors), reduction="none").sum(dim=2)
    return LossSums(classification, torch.where(positive, box, 0.0).sum(), count)


def count_positives(labels: Tensor) -> Tensor:
    """Return () float32, the positive priors of (B, P) labels, where an image without positives counts as one."""
    return (labels > 0).sum(dim=1).clamp(min=1).sum().float()


def multibox_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy of positives and hard negatives.

    The hard negatives of an image are the background priors of highest loss, three for each positive. An image without
    objects, which the published loss skips, contributes three hard negatives, as if it had one positive.
    Source: Liu et al. 2016, arXiv 1512.02325, eq. 1-3 and "Hard negative mining".

    Args:
        logits: (B, P, K + 1) float, class 0 is the background.
        labels: (B, P) int64: 1..K positive, 0 background, -1 ignored.
    """
    positive = labels > 0
    positives = positive.sum(dim=1).clamp(min=1)  # (B,)
    cross_entropy = _cross_entropy(logits, labels)
    counted = positive | _hard_negatives(cross_entropy.detach(), labels, positives)
    return (cross_entropy * counted).sum()


def quality_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each logit, whose sigmoid shall be the IoU of its box with the object, or 0 for the background.

    Source: Li et al. 2020, arXiv 2006.04388, eq. 5, with beta 2.

    Args:
        logits, targets: (B, P, K) float32; targets in [0, 1].
    """
    return (logits.sigmoid() - targets).square() * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of each pair of (..., 4) boxes, xyxy."""
    sides = (torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])).clamp(min=0)
    both = sides.prod(dim=-1)
    either = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1) - both
    return both / either.clamp(min=1e-12)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the (B, P) cross-entropy of every prior."""
    flat = logits.float().flatten(0, 1)  # transposing to (B, K + 1, P) would take twice as long
    return F.cross_entropy(flat, labels.clamp(min=0).flatten(), reduction="none").view_as(labels)


def _hard_negatives(cross_entropy: Tensor, labels: Tensor, positives: Tensor) -> Tensor:
    """Return (B, P) bool: the background priors of highest loss, three for each positive."""
    background, counts = labels == 0, NEGATIVES_PER_POSITIVE * positives
    most = min(int(counts.max()), labels.shape[1]) if labels.device.type == "cpu" else labels.shape[1]
    hardest_first = (cross_entropy * background).topk(most, dim=1).indices
    is_counted = torch.arange(most, device=labels.device) < counts[:, None]
    return torch.zeros_like(background).scatter(1, hardest_first, is_counted) & background
