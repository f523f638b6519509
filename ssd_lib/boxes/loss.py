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
    sums = sums_of_chosen if logits.device.type == "cpu" else sums_of_all
    owned = (labels > 0).sum(dim=1).clamp(min=1)  # (B,)
    return LossSums(*sums(logits, offsets, labels, target_offsets, owned), owned.sum().float())


def sums_of_chosen(logits: Tensor, offsets: Tensor, labels: Tensor, target_offsets: Tensor, owned: Tensor
                   ) -> tuple[Tensor, Tensor]:
    """The two sums, with gradients computed for the priors that count alone. How many that are the host must know, for which it
    would wait for a GPU."""
    with torch.no_grad():
        chosen = ((labels > 0) | _hardest(_cross_entropy(logits, labels), labels, owned)).flatten().nonzero().flatten()
    rows, targets = logits.flatten(0, 1).index_select(0, chosen), labels.flatten()[chosen]
    positive = chosen[targets > 0]
    found, wanted = (each.flatten(0, 1).index_select(0, positive) for each in (offsets, target_offsets))
    return F.cross_entropy(rows.float(), targets, reduction="sum"), F.smooth_l1_loss(found.float(), wanted, reduction="sum")


def sums_of_all(logits: Tensor, offsets: Tensor, labels: Tensor, target_offsets: Tensor, owned: Tensor
                ) -> tuple[Tensor, Tensor]:
    """The same without a question to the device."""
    cross_entropy, positive = _cross_entropy(logits, labels), labels > 0
    counts = positive | _hardest(cross_entropy.detach(), labels, owned)
    box = F.smooth_l1_loss(offsets.float(), target_offsets, reduction="none").sum(dim=2)
    return (cross_entropy * counts).sum(), torch.where(positive, box, 0.0).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, P), of every prior."""
    rows = logits.float().flatten(0, 1)  # transposed, as (B, K + 1, P), takes twice as long
    return F.cross_entropy(rows, labels.clamp(min=0).flatten(), reduction="none").view_as(labels)


def _hardest(cross_entropy: Tensor, labels: Tensor, owned: Tensor) -> Tensor:
    """(B, P) bool: the hard negatives."""
    background, wanted = labels == 0, NEGATIVES_PER_POSITIVE * owned
    most = min(int(wanted.max()), labels.shape[1]) if labels.device.type == "cpu" else labels.shape[1]
    hardest_first = (cross_entropy * background).topk(most, dim=1).indices
    is_wanted = torch.arange(most, device=labels.device) < wanted[:, None]
    return torch.zeros_like(background).scatter(1, hardest_first, is_wanted) & background
