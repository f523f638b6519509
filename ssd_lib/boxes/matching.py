"""Which prior is to find which object: the training targets of a batch, on whatever device it lies."""

import torch
from torch import Tensor

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
        crowd_boxes: (B, C, 4) float32, xyxy in [0, 1]: regions of uncounted objects, and behind them padding without an area. C
            may be 0.
        priors: (P, 4) float32, xyxy in [0, 1], with P >= M.
        iou_threshold: a prior at or above it is positive.

    Returns:
        (B, P, 4) boxes and (B, P) int64 labels; where the label is not above 0 the box has no meaning.
    """
    columns = priors.T.contiguous()
    if priors.device.type != "cpu":
        return _match(gt_boxes, gt_labels, crowd_boxes, columns, iou_threshold)
    # A processor is quicker with one image after the other: it stays in its cache, and padding costs nothing.
    objects, crowds = (gt_labels > 0).sum(dim=1).tolist(), (crowd_boxes[..., 2] > crowd_boxes[..., 0]).sum(dim=1).tolist()
    images = [_match(gt_boxes[i:i + 1, :m], gt_labels[i:i + 1, :m], crowd_boxes[i:i + 1, :c], columns, iou_threshold)
              for i, (m, c) in enumerate(zip(objects, crowds, strict=True))]
    boxes, labels = zip(*images, strict=True)
    return torch.cat(boxes), torch.cat(labels)


def _match(gt_boxes: Tensor, gt_labels: Tensor, crowd_boxes: Tensor, priors: Tensor,
           iou_threshold: float) -> tuple[Tensor, Tensor]:
    """The same, of priors as columns, (4, P): arithmetic over whole rows is several times as quick as over pairs of numbers."""
    (batch, objects), is_here = gt_labels.shape, priors.device.type == "cpu"
    prior_areas = _area(*priors)
    if objects == 0:
        boxes = priors.T.expand(batch, -1, -1)
        labels = gt_labels.new_full((batch, priors.shape[1]), BACKGROUND)
    else:
        overlap = _overlap(gt_boxes, priors)  # (B, M, P)
        iou = overlap / (_area(*gt_boxes.unbind(2))[..., None] + prior_areas - overlap)
        if not is_here:
            iou = iou.masked_fill((gt_labels == 0)[..., None], -1.0)
        best_iou, owner = iou.max(dim=1)  # (B, P)
        claim = _claim_on_processor if is_here else _claim_on_device
        owner = claim(iou, torch.where(best_iou >= iou_threshold, owner, -1))
        index = owner.clamp(min=0)
        boxes = gt_boxes.gather(1, index[..., None].expand(-1, -1, 4))
        labels = torch.where(owner >= 0, gt_labels.gather(1, index), BACKGROUND)
    if crowd_boxes.shape[1]:
        in_crowd = (_overlap(crowd_boxes, priors) >= CROWD_COVER * prior_areas).any(dim=1)
        labels = labels.masked_fill(in_crowd & (labels == BACKGROUND), IGNORED)
    return boxes, labels


def _claim_on_device(iou: Tensor, owner: Tensor) -> Tensor:
    """Overwrite `owner` (B, P) so that each object owns a prior, by bipartite matching; the host never waits for a result.

    Only an object's M best priors can matter: others take M - 1 at most.
    """
    count, rows = min(iou.shape[1:]), torch.arange(len(iou), device=iou.device)
    candidate_iou, candidate = iou.topk(count, dim=2)  # (B, M, count)
    for _ in range(iou.shape[1]):
        value, flat = candidate_iou.flatten(1).max(dim=1)  # (B,): the best pair left in each image
        prior = candidate.flatten(1)[rows, flat]
        winner = flat // count
        owner[rows, prior] = torch.where(value >= 0, winner, owner[rows, prior])
        candidate_iou[rows, winner] = -1.0
        candidate_iou = candidate_iou.masked_fill(candidate == prior[:, None, None], -1.0)
    return owner


def _claim_on_processor(iou: Tensor, owner: Tensor) -> Tensor:
    """The same for one image without padding."""
    claims = _claims(iou[0])
    owner[0, list(claims)] = torch.tensor(list(claims.values()))
    return owner


def _claims(iou: Tensor) -> dict[int, int]:
    """{prior: object} of the (M, P) IoU of an image."""
    best = iou.argmax(dim=1).tolist()
    claims = {prior: number for number, prior in enumerate(best)}
    if len(claims) == len(best):
        return claims  # nobody competes
    count = min(iou.shape)
    value, candidate = (column.flatten() for column in iou.topk(count, dim=1))
    order = value.argsort(descending=True, stable=True)
    claims, served = {}, set()
    for number, prior in zip((order // count).tolist(), candidate[order].tolist(), strict=True):
        if number not in served and prior not in claims:
            claims[prior] = number
            served.add(number)
    return claims


def _overlap(boxes: Tensor, priors: Tensor) -> Tensor:
    """(B, M, P): the area that each of (B, M, 4) boxes shares with each of (4, P) priors."""
    (x1, y1, x2, y2), (left, top, right, bottom) = boxes[..., None].unbind(dim=2), priors
    width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
    return torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0).mul_(width)


def _area(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    return (x2 - x1) * (y2 - y1)
