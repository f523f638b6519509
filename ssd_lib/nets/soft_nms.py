"""Soft-NMS: a box that overlaps a better one of its class loses score, not its place. Hard NMS is torchvision's."""

import torch
from torch import Tensor
from torchvision.ops import box_iou

SIGMA = 0.5  # width of the Gaussian, as in the paper


@torch.inference_mode()
def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    """Pick the boxes of one image and give each the score that is left of it.

    The best box is picked, every other one of its class is multiplied by exp(-IoU^2 / `SIGMA`), and so on.
    Guarantees: no score grows; a box that overlaps none of its class keeps its score; picked scores never rise. Classes do not
    touch each other, so picking over all of them at once gives what one class at a time would.
    Source: Bodla et al. 2017, arXiv 1704.04503, sec. 3, the Gaussian penalty.

    Args:
        boxes: (N, 4) float32 xyxy, each with an area.
        scores: (N,) float32.
        labels: (N,) int64.
        threshold: picking ends below this score.
        limit: picking ends after so many boxes.

    Returns:
        (M,) int64 indices of the boxes picked, the highest score first, and (M,) their scores.
    """
    left = scores.clone()
    picked, kept = [], []
    for _ in range(min(limit, len(scores))):
        score, best = left.max(dim=0)
        if score < threshold:
            break
        picked.append(best)
        kept.append(score)
        decay = torch.exp(-box_iou(boxes[best, None], boxes)[0].square() / SIGMA)
        left = torch.where(labels == labels[best], left * decay, left)
        left[best] = -1.0  # never again
    if not picked:
        return labels[:0], scores[:0]
    return torch.stack(picked), torch.stack(kept)
