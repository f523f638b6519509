"""The multibox loss: classification with hard negatives, and box regression."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NEGATIVES_PER_POSITIVE = 3


class LossSums(NamedTuple):
    """Sums over a batch, before division, so that several processes can divide by the objects of them all.

    Attributes:
        classification: () cross-entropy of positives and hard negatives.
        box: () smooth L1 of the offsets of positives.
        positives: () float32, what to divide by: the number of positive priors, an image without any counting as one.
    """

    classification: Tensor
    box: Tensor
    positives: Tensor


def multibox_loss(logits: Tensor, offsets: Tensor, labels: Tensor, target_offsets: Tensor) -> LossSums:
    """Sum the two losses of a batch, in float32 whatever the precision of the net.

    The hard negatives of an image are the background priors of highest loss, three for each positive. An image without
    objects, which the published loss passes over, trains the background as if it had one positive.
    Source: Liu et al. 2016, arXiv 1512.02325, eq. 1-3 and "Hard negative mining".

    Args:
        logits: (B, P, K + 1) float, class 0 is the background.
        offsets: (B, P, 4) float.
        labels: (B, P) int64: 1..K positive, 0 background, -1 ignored.
        target_offsets: (B, P, 4) float32; read where the label is above 0.
    """
    positive = labels > 0
    rows, targets = logits.float().flatten(0, 1), labels.clamp(min=0).flatten()  # transposed (B, K + 1, P) takes twice as long
    cross_entropy = F.cross_entropy(rows, targets, reduction="none").view_as(labels)
    owned = positive.sum(dim=1).clamp(min=1)  # (B,)
    hardest_first = (cross_entropy * (labels == 0)).sort(dim=1, descending=True).values
    is_hard = torch.arange(labels.shape[1], device=labels.device) < NEGATIVES_PER_POSITIVE * owned[:, None]
    box = F.smooth_l1_loss(offsets.float(), target_offsets, reduction="none").sum(dim=2)
    return LossSums(
        classification=(cross_entropy * positive).sum() + (hardest_first * is_hard).sum(),
        box=torch.where(positive, box, 0.0).sum(),
        positives=owned.sum().float(),
    )
