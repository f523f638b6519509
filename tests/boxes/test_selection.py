"""NMS with NumPy selects what torchvision's NMS selects."""

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from ssd_lib.boxes.selection import BLOCK, hard_nms


@pytest.mark.parametrize("count", [0, 1, 40, BLOCK, 3 * BLOCK + 7])
@pytest.mark.parametrize("side", [0.02, 0.5])
@pytest.mark.parametrize("limit", [10, 10_000])
def test_nms_selects_what_torchvision_selects(count: int, side: float, limit: int) -> None:
    rng = np.random.default_rng(count)
    corners = rng.random((count, 2)) * (1 - side)
    boxes = np.concatenate([corners, corners + side * (0.1 + 0.9 * rng.random((count, 2)))], axis=1).astype(np.float32)
    scores, labels = rng.random(count).astype(np.float32).round(2), rng.integers(1, 4, count)  # with equal scores
    apart = torch.from_numpy(boxes + 2.0 * labels[:, None])
    expected = nms(apart, torch.from_numpy(scores).double(), 0.45)[:limit]
    assert hard_nms(boxes, scores, labels, 0.45, limit).tolist() == expected.tolist()


def test_boxes_of_two_classes_do_not_affect_each_other() -> None:
    boxes, scores = np.array([[0, 0, 1, 1]] * 3, np.float32), np.array([0.5, 0.9, 0.7], np.float32)
    assert hard_nms(boxes, scores, np.array([1, 2, 1]), 0.45, 9).tolist() == [1, 2]
