from math import exp

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ssd_lib.nets.soft_nms import SIGMA, soft_nms

# Neighbours overlap by half of each: IoU 1/3. The outer two only touch.
ROW = torch.tensor([[0.0, 0.0, 0.4, 0.2], [0.2, 0.0, 0.6, 0.2], [0.4, 0.0, 0.8, 0.2]])
DECAY = exp(-2 / 9)  # exp(-(1/3)^2 / 0.5)


@st.composite
def boxes_of_classes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Up to 30 boxes of three classes on a coarse grid, so that many coincide, touch or overlap."""
    count, dice = draw(st.integers(0, 30)), torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    corner = torch.randint(0, 8, (count, 2), generator=dice) / 10
    boxes = torch.cat([corner, corner + torch.randint(1, 4, (count, 2), generator=dice) / 10], dim=1)
    return boxes, torch.rand(count, generator=dice), torch.randint(1, 4, (count,), generator=dice)


def test_scores_decay_as_worked_out_by_hand() -> None:
    picked, scores = soft_nms(ROW, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1]), threshold=0.1, limit=9)
    assert picked.tolist() == [0, 2, 1]  # the middle one falls behind the last: 0.8 * 0.80 < 0.7
    assert scores.tolist() == pytest.approx([0.9, 0.7, 0.8 * DECAY * DECAY])


def test_a_copy_of_a_box_keeps_exp_minus_2_of_its_score() -> None:
    _, scores = soft_nms(ROW[[0, 0]], torch.tensor([0.9, 0.8]), torch.tensor([1, 1]), threshold=0.0, limit=9)
    assert scores.tolist() == pytest.approx([0.9, 0.8 * exp(-1 / SIGMA)])


def test_classes_do_not_touch_each_other() -> None:
    _, scores = soft_nms(ROW[[0, 0]], torch.tensor([0.8, 0.9]), torch.tensor([1, 2]), threshold=0.1, limit=9)
    assert scores.tolist() == pytest.approx([0.9, 0.8])


def test_a_score_that_falls_below_the_threshold_is_no_detection() -> None:
    picked, _ = soft_nms(ROW, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1]), threshold=0.6, limit=9)
    assert picked.tolist() == [0, 2]


def test_no_more_than_the_limit_are_picked() -> None:
    picked, _ = soft_nms(ROW, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1]), threshold=0.0, limit=2)
    assert picked.tolist() == [0, 2]


def test_no_boxes_give_none() -> None:
    picked, scores = soft_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.1, 9)
    assert (picked.shape, picked.dtype, scores.shape) == ((0,), torch.int64, (0,))


@given(boxes_of_classes())
def test_scores_never_grow_and_come_in_order(found: tuple[Tensor, Tensor, Tensor]) -> None:
    boxes, scores, labels = found
    picked, left = soft_nms(boxes, scores, labels, threshold=0.0, limit=30)
    assert sorted(picked.tolist()) == list(range(len(scores)))
    assert (left <= scores[picked]).all()
    assert (left.diff() <= 0).all()


@given(boxes_of_classes())
def test_boxes_that_overlap_nothing_keep_their_scores(found: tuple[Tensor, Tensor, Tensor]) -> None:
    _, scores, labels = found
    places = torch.arange(len(scores))[:, None] * torch.tensor([1.0, 0.0, 1.0, 0.0])
    apart = places + torch.tensor([0.0, 0.0, 0.5, 1.0])
    picked, left = soft_nms(apart, scores, labels, threshold=0.0, limit=30)
    assert torch.equal(left, scores[picked])


@given(boxes_of_classes())
def test_all_classes_at_once_give_what_one_at_a_time_gives(found: tuple[Tensor, Tensor, Tensor]) -> None:
    boxes, scores, labels = found
    picked, left = soft_nms(boxes, scores, labels, threshold=0.05, limit=30)
    together = dict(zip(picked.tolist(), left.tolist(), strict=True))
    alone: dict[int, float] = {}
    for label in (1, 2, 3):
        own = (labels == label).nonzero()[:, 0]
        indices, kept = soft_nms(boxes[own], scores[own], labels[own], threshold=0.05, limit=30)
        alone |= dict(zip(own[indices].tolist(), kept.tolist(), strict=True))
    assert together == alone
