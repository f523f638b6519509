"""Adaptive training sample selection: which priors are positive follows from the statistics of each object's candidates."""

from collections.abc import Sequence

import torch
from torch import Tensor

NEAREST = 9  # candidates of each object on every level


def match_by_atss(gt_boxes: Tensor, gt_labels: Tensor, priors: Tensor, per_level: Sequence[int]) -> Tensor:
    """Return the index of the object matched to each prior, or -1.

    Candidates of an object are the priors nearest to its centre, NEAREST of each level. Those are positive whose IoU reaches
    the mean plus the standard deviation of all candidates' and whose centre lies in the object, and always the candidate of
    highest IoU, so that objects smaller than a cell are learned. A prior that several objects claim goes to a best candidate's
    object first, then to that of highest IoU.
    Source: Zhang et al. 2020, arXiv 1912.02424, algorithm 1.

    Args:
        gt_boxes: (B, M, 4) float32, xyxy in [0, 1]; M at least 1.
        gt_labels: (B, M) int64; 0 marks padding.
        priors: (P, 4) float32, xyxy in [0, 1].
        per_level: the number of priors of each level, in their order.

    Returns:
        (B, P) int64.
    """
    centres = (priors[:, :2] + priors[:, 2:]) / 2
    distances = torch.cdist((gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2, centres)  # (B, M, P)
    offsets = torch.tensor([0, *per_level]).cumsum(0).tolist()
    index = torch.cat([level.topk(min(NEAREST, level.shape[2]), dim=2, largest=False).indices + offset
                       for offset, level in zip(offsets, distances.split(list(per_level), dim=2), strict=False)], dim=2)
    near = priors[index]  # (B, M, C, 4)
    iou = _iou(gt_boxes[:, :, None], near)
    threshold = iou.mean(dim=2, keepdim=True) + iou.std(dim=2, keepdim=True)
    centre, box = centres[index], gt_boxes[:, :, None]
    inside = ((centre > box[..., :2]) & (centre < box[..., 2:])).all(dim=3)
    value = torch.where((iou >= threshold) & inside, iou, -1.0)
    best = iou.argmax(dim=2, keepdim=True)
    value = value.scatter(2, best, 1.0 + iou.gather(2, best))  # above every other claim
    value = value.masked_fill((gt_labels == 0)[..., None], -1.0)
    claims = torch.full_like(distances, -1.0).scatter(2, index, value)
    highest, matched = claims.max(dim=1)
    return torch.where(highest >= 0, matched, -1)


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    sides = (torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])).clamp(min=0)
    both = sides.prod(dim=-1)
    return both / ((boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1) - both)
