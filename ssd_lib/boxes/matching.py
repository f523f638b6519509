"""Which prior is to find which object: the training targets of a batch, on whatever device it lies."""

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

BACKGROUND = 0
IGNORED = -1  # neither object nor background: takes no part in the loss
CROWD_COVER = 0.5  # a background prior that lies in a crowd box by at least this share of its area is ignored


def match_priors(gt_boxes: Tensor, gt_labels: Tensor, crowd_boxes: Tensor, priors: Tensor,
                 iou_threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Give every prior of every image one ground-truth box and its label, or background, or "ignored".

    Law: every ground-truth box owns at least one prior whatever the IoU; pairs are made greedily, highest IoU first.
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2 "Matching strategy", and the authors' MatchBBox.

    Args:
        gt_boxes: (B, M, 4) float32, xyxy in [0, 1]; rows past an image's last object are padding. M may be 0.
        gt_labels: (B, M) int64 in 1..K; 0 marks padding.
        crowd_boxes: (B, C, 4) float32, xyxy in [0, 1]: regions of uncounted objects; padding has no area. C may be 0.
        priors: (P, 4) float32, xyxy in [0, 1], with P >= M.
        iou_threshold: a prior at or above it is positive.

    Returns:
        (B, P, 4) boxes and (B, P) int64 labels; where the label is not above 0 the box has no meaning.
    """
    batch, objects = gt_labels.shape
    if objects == 0:
        boxes = priors.expand(batch, -1, -1)
        labels = gt_labels.new_full((batch, len(priors)), BACKGROUND)
    else:
        iou = box_iou(gt_boxes, priors).masked_fill((gt_labels == 0)[..., None], -1.0)  # (B, M, P)
        best_iou, owner = iou.max(dim=1)  # (B, P)
        owner = _give_each_object_a_prior(iou, torch.where(best_iou >= iou_threshold, owner, -1))
        index = owner.clamp(min=0)
        boxes = gt_boxes.gather(1, index[..., None].expand(-1, -1, 4))
        labels = torch.where(owner >= 0, gt_labels.gather(1, index), BACKGROUND)
    in_crowd = _lies_in_crowd(priors, crowd_boxes) & (labels == BACKGROUND)
    return boxes, labels.masked_fill(in_crowd, IGNORED)


def _give_each_object_a_prior(iou: Tensor, owner: Tensor) -> Tensor:
    """Overwrite `owner` (B, P) by bipartite matching. Only an object's M best priors can matter: others take M - 1 at most."""
    batch, objects, _ = iou.shape
    count = min(objects, iou.shape[2])
    candidate_iou, candidate = iou.topk(count, dim=2)  # (B, M, count)
    owner, rows = owner.clone(), torch.arange(batch, device=iou.device)
    for _ in range(objects):
        value, flat = candidate_iou.flatten(1).max(dim=1)  # (B,): the best pair left in each image
        prior = candidate.flatten(1)[rows, flat]
        winner = flat // count
        owner[rows, prior] = torch.where(value >= 0, winner, owner[rows, prior])
        candidate_iou[rows, winner] = -1.0
        candidate_iou = candidate_iou.masked_fill(candidate == prior[:, None, None], -1.0)
    return owner


def _lies_in_crowd(priors: Tensor, crowd_boxes: Tensor) -> Tensor:
    """(B, P) bool: by at least CROWD_COVER of its area in one crowd box."""
    if crowd_boxes.shape[1] == 0:
        return torch.zeros(len(crowd_boxes), len(priors), dtype=torch.bool, device=priors.device)
    top_left = torch.maximum(priors[None, None, :, :2], crowd_boxes[:, :, None, :2])
    bottom_right = torch.minimum(priors[None, None, :, 2:], crowd_boxes[:, :, None, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(dim=-1)  # (B, C, P)
    return (overlap >= CROWD_COVER * box_area(priors)).any(dim=1)
