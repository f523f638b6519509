"""Match priors to ground-truth boxes: the training targets of a batch, on CPU or GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssd_lib.boxes.atss import match_by_atss

BACKGROUND = 0
IGNORED = -1  # neither object nor background: not counted in the loss
CROWD_COVER = 0.5  # a background prior with at least this share of its area inside a crowd box is ignored


def match_priors(gt_boxes: Tensor, gt_labels: Tensor, crowd_boxes: Tensor, priors: Tensor,
                 iou_threshold: float = 0.5, per_level: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Match every prior of every image to one ground-truth box and its label, to background, or to "ignored".

    Guarantees: every ground-truth box is matched to at least one prior, however low the IoU; pairs are made greedily, highest
        IoU first. (With ATSS, two objects with one best prior may share it: the one of higher IoU has it.)
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2 "Matching strategy", and the authors' MatchBBox; or ATSS.

    Args:
        gt_boxes: (B, M, 4) float32, xyxy in [0, 1]; rows past an image's last object are padding. M may be 0.
        gt_labels: (B, M) int64 in 1..K; 0 marks padding.
        crowd_boxes: (B, C, 4) float32, xyxy in [0, 1]: regions of uncounted objects, then padding with zero area. C may be 0.
        priors: (P, 4) float32, xyxy in [0, 1], with P >= M.
        iou_threshold: a prior at or above it is positive.
        per_level: the number of priors of each map, for the assignment of `ssd_lib.boxes.atss`; empty for that by IoU.

    Returns:
        (B, P, 4) boxes and (B, P) int64 labels; where the label is not above 0 the box has no meaning.
    """
    columns, (batch, objects) = priors.T.contiguous(), gt_labels.shape  # contiguous columns are faster than strided ones
    if objects == 0:
        boxes, labels = priors.expand(batch, -1, -1), gt_labels.new_full((batch, len(priors)), BACKGROUND)
    else:
        if per_level:
            matched = match_by_atss(gt_boxes, gt_labels, priors, per_level)
        else:
            match = match_on_cpu if priors.device.type == "cpu" else match_on_gpu
            matched = match(gt_boxes, gt_labels, columns, iou_threshold)
        index = matched.clamp(min=0)
        boxes = gt_boxes.gather(1, index[..., None].expand(-1, -1, 4))
        labels = torch.where(matched >= 0, gt_labels.gather(1, index), BACKGROUND)
    if crowd_boxes.shape[1]:
        in_crowd = (_overlap(crowd_boxes, columns) >= CROWD_COVER * _area(*columns)).any(dim=1)
        labels = labels.masked_fill(in_crowd & (labels == BACKGROUND), IGNORED)
    return boxes, labels


def match_on_gpu(gt_boxes: Tensor, gt_labels: Tensor, priors: Tensor, iou_threshold: float) -> Tensor:
    """Return (B, P) int64: the index of the object matched to each of (4, P) priors, or -1; without waiting for the GPU.

    Only the M best priors of an object are candidates: the other objects take at most M - 1 of them.
    """
    overlap = _overlap(gt_boxes, priors)  # (B, M, P)
    iou = overlap / (_area(*gt_boxes.unbind(2))[..., None] + _area(*priors) - overlap)
    iou = iou.masked_fill((gt_labels == 0)[..., None], -1.0)
    best_iou, matched = iou.max(dim=1)  # (B, P)
    matched = torch.where(best_iou >= iou_threshold, matched, -1)
    count, rows = min(iou.shape[1:]), torch.arange(len(iou), device=iou.device)
    candidate_iou, candidate = iou.topk(count, dim=2)  # (B, M, count)
    for _ in range(iou.shape[1]):
        value, flat = candidate_iou.flatten(1).max(dim=1)  # (B,): the best remaining pair of each image
        prior = candidate.flatten(1)[rows, flat]
        winner = flat // count
        matched[rows, prior] = torch.where(value >= 0, winner, matched[rows, prior])
        candidate_iou[rows, winner] = -1.0
        candidate_iou = candidate_iou.masked_fill(candidate == prior[:, None, None], -1.0)
    return matched


def match_on_cpu(gt_boxes: Tensor, gt_labels: Tensor, priors: Tensor, iou_threshold: float) -> Tensor:
    """Return what `match_on_gpu` returns, computed image by image: each fits in the cache, and padding costs nothing.

    NumPy is used because its overhead per call is lower than PyTorch's on such small arrays.
    """
    matched = np.full((len(gt_boxes), priors.shape[1]), -1)
    columns = priors.numpy()
    areas = _area(*columns)
    for row, boxes, objects in zip(matched, gt_boxes.numpy(), (gt_labels > 0).sum(dim=1).tolist(), strict=True):
        if objects:
            match_one_image(row, boxes[:objects], columns, areas, iou_threshold)
    return torch.from_numpy(matched)


def match_one_image(matched: np.ndarray, boxes: np.ndarray, priors: np.ndarray, prior_areas: np.ndarray,
                    iou_threshold: float) -> None:
    """Write the index of the object matched to each prior of one image into (P,) `matched`, filled with -1."""
    (x1, y1, x2, y2), (left, top, right, bottom) = boxes.T[..., None], priors
    overlap = np.clip(right, x1, x2) - np.clip(left, x1, x2)  # (M, P)
    overlap *= np.clip(bottom, y1, y2) - np.clip(top, y1, y2)
    iou = overlap / (_area(x1, y1, x2, y2) + prior_areas - overlap)
    positive = np.flatnonzero(iou.max(axis=0) >= iou_threshold)
    matched[positive] = iou[:, positive].argmax(axis=0)
    best, numbers = iou.argmax(axis=1), np.arange(len(boxes))
    if len(set(best.tolist())) == len(best):  # no two objects share a best prior
        matched[best] = numbers
        return
    value = iou[numbers, best]
    for _ in boxes:  # take the best remaining pair
        winner = value.argmax()
        prior = best[winner]
        matched[prior], value[winner], iou[:, prior] = winner, -1, -1
        for other in np.flatnonzero((best == prior) & (value >= 0)):
            best[other] = iou[other].argmax()
            value[other] = iou[other, best[other]]


def _overlap(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return (B, M, P): the area of the intersection of each of (B, M, 4) boxes with each of (4, P) priors."""
    (x1, y1, x2, y2), (left, top, right, bottom) = boxes[..., None].unbind(dim=2), priors
    width = torch.minimum(x2, right).sub_(torch.maximum(x1, left)).clamp_(min=0)
    return torch.minimum(y2, bottom).sub_(torch.maximum(y1, top)).clamp_(min=0).mul_(width)


def _area(x1: Any, y1: Any, x2: Any, y2: Any) -> Any:
    return (x2 - x1) * (y2 - y1)
