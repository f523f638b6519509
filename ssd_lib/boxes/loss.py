"""Multibox loss: classification with hard negative mining, and box regression."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEGATIVES_PER_POSITIVE = 3


class LossSums(NamedTuple):
    """Loss sums of a batch, not yet divided: several processes divide by the number of positives of all of them.

    Attributes:
        classification: () cross-entropy of positives and hard negatives.
        box: () smooth L1 of the offsets of positives.
        positives: () float32, the divisor: the number of positive priors, where an image without positives counts as one.
    """

    classification: Tensor
    box: Tensor
    positives: Tensor


def multibox_loss(logits: Tensor, offsets: Tensor, labels: Tensor, target_offsets: Tensor) -> LossSums:
    """Return the two summed losses of a batch, in float32 even if the net computes in half precision.

    The hard negatives of an image are the background priors of highest loss, three for each positive. An image without
    objects, which the published loss skips, contributes three hard negatives, as if it had one positive.
    Source: Liu et al. 2016, arXiv 1512.02325, eq. 1-3 and "Hard negative mining".

    Args:
        logits: (B, P, K + 1) float, class 0 is the background.
        offsets: (B, P, 4) float.
        labels: (B, P) int64: 1..K positive, 0 background, -1 ignored.
        target_offsets: (B, P, 4) float32; used where the label is above 0.
    """
    positive = labels > 0
    positives = positive.sum(dim=1).clamp(min=1)  # (B,)
    cross_entropy = _cross_entropy(logits, labels)
    counted = positive | _hard_negatives(cross_entropy.detach(), labels, positives)
    box = F.smooth_l1_loss(offsets.float(), target_offsets, reduction="none").sum(dim=2)
    return LossSums((cross_entropy * counted).sum(), torch.where(positive, box, 0.0).sum(), positives.sum().float())


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
