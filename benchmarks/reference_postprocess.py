"""From a net's outputs to detections in the predecessors' manner, to compare with: one image at a time, class after class.

Written from the description of what they do; nothing of the project's postprocess is used.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from ssd_lib.nets.ssd import SSD

SCORE_FLOOR, NMS_IOU, CANDIDATES, DETECTIONS = 0.01, 0.45, 200, 100
CENTER_VARIANCE, SIZE_VARIANCE = 0.1, 0.2


@torch.no_grad()
def detect_plain(net: SSD, image: np.ndarray) -> list[Tensor]:
    """The detections of one picture: resized, made float and copied to NCHW before the net, whose own first step takes the mean
    away and divides, as they do.

    Args:
        net: in evaluation mode, its batch norms as they were trained.
        image: (H, W, 3) uint8 RGB.

    Returns:
        As of `postprocess_plain`.
    """
    pixels = cv2.resize(image, (net.image_size, net.image_size)).astype(np.float32)
    batch = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().unsqueeze(0)
    logits, offsets = net(batch)
    return postprocess_plain(logits, offsets, net.priors)


def postprocess_plain(logits: Tensor, offsets: Tensor, priors: Tensor) -> list[Tensor]:
    """The detections of the first image of a batch.

    Args:
        logits: (1, P, K + 1).
        offsets: (1, P, 4).
        priors: (P, 4) cxcywh.

    Returns:
        (N, 4) boxes xyxy in [0, 1], (N,) labels from 1 on, (N,) scores, the highest first.
    """
    scores, boxes = torch.softmax(logits, dim=2)[0], decode_plain(offsets, priors)[0]
    kept, labels = [], []
    for label in range(1, scores.shape[1]):
        mask = scores[:, label] > SCORE_FLOOR
        if mask.sum() == 0:
            continue
        rows = nms_plain(torch.cat([boxes[mask], scores[mask, label].reshape(-1, 1)], dim=1))
        kept.append(rows)
        labels += [label] * len(rows)
    if not kept:
        return [torch.empty(0, 4), torch.empty(0, dtype=torch.int64), torch.empty(0)]
    rows = torch.cat(kept)
    best = rows[:, 4].topk(min(DETECTIONS, len(rows)))
    return [rows[best.indices, :4], torch.tensor(labels)[best.indices], best.values]


def decode_plain(offsets: Tensor, priors: Tensor) -> Tensor:
    """(1, P, 4) boxes, xyxy."""
    if priors.dim() + 1 == offsets.dim():
        priors = priors.unsqueeze(0)
    centers = offsets[..., :2] * CENTER_VARIANCE * priors[..., 2:] + priors[..., :2]
    sides = torch.exp(offsets[..., 2:] * SIZE_VARIANCE) * priors[..., 2:]
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=2)


def nms_plain(rows: Tensor) -> Tensor:
    """Those of the (N, 5) boxes and scores of one class that no better one of it overlaps."""
    order = rows[:, 4].sort(descending=True).indices[:CANDIDATES]
    picked = []
    while len(order) > 0:
        picked.append(order[0].item())
        best, order = rows[order[0], :4], order[1:]
        order = order[iou_plain(rows[order, :4], best.unsqueeze(0)) <= NMS_IOU]
    return rows[picked]


def iou_plain(boxes: Tensor, other: Tensor) -> Tensor:
    """(N,) IoU of boxes with one of shape (1, 4)."""
    low, high = torch.max(boxes[..., :2], other[..., :2]), torch.min(boxes[..., 2:], other[..., 2:])
    common = area_plain(low, high)
    return common / (area_plain(boxes[..., :2], boxes[..., 2:]) + area_plain(other[..., :2], other[..., 2:]) - common + 1e-5)


def area_plain(low: Tensor, high: Tensor) -> Tensor:
    """Of boxes between two corners."""
    sides = torch.clamp(high - low, min=0.0)
    return sides[..., 0] * sides[..., 1]
