"""NMS with NumPy selects what torchvision's NMS selects; Soft-NMS is compared with what is worked out by hand."""

from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from ssd_lib.boxes import selection
from ssd_lib.boxes.selection import BLOCK, SHOWN_SCORE, SIGMA, Postprocess, Selected, hard_nms, ious, select, vote


def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, limit: int) -> tuple[Tensor, Tensor]:
    selected, left = selection.soft_nms(boxes.numpy(), scores.numpy(), labels.numpy(), threshold, limit)
    return torch.from_numpy(selected), torch.from_numpy(left)


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


# Neighbours share half of their areas: IoU 1/3. The outer two only touch.
ROW = torch.tensor([[0.0, 0.0, 0.4, 0.2], [0.2, 0.0, 0.6, 0.2], [0.4, 0.0, 0.8, 0.2]])
DECAY = exp(-2 / 9)  # exp(-(1/3)^2 / 0.5)


@st.composite
def boxes_of_classes(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Draw up to 30 boxes of three classes on a coarse grid, so that many coincide, touch or overlap."""
    count, generator = draw(st.integers(0, 30)), torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    corner = torch.randint(0, 8, (count, 2), generator=generator) / 10
    boxes = torch.cat([corner, corner + torch.randint(1, 4, (count, 2), generator=generator) / 10], dim=1)
    return boxes, torch.rand(count, generator=generator), torch.randint(1, 4, (count,), generator=generator)


def test_scores_decay_as_worked_out_by_hand() -> None:
    selected, scores = soft_nms(ROW, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1]), threshold=0.1, limit=9)
    assert selected.tolist() == [0, 2, 1]  # the score of the middle one falls below that of the last: 0.8 * 0.80 < 0.7
    assert scores.tolist() == pytest.approx([0.9, 0.7, 0.8 * DECAY * DECAY])


def test_a_copy_of_a_box_keeps_exp_minus_2_of_its_score() -> None:
    _, scores = soft_nms(ROW[[0, 0]], torch.tensor([0.9, 0.8]), torch.tensor([1, 1]), threshold=0.0, limit=9)
    assert scores.tolist() == pytest.approx([0.9, 0.8 * exp(-1 / SIGMA)])


def test_classes_do_not_affect_each_other() -> None:
    _, scores = soft_nms(ROW[[0, 0]], torch.tensor([0.8, 0.9]), torch.tensor([1, 2]), threshold=0.1, limit=9)
    assert scores.tolist() == pytest.approx([0.9, 0.8])


def test_a_score_that_falls_below_the_threshold_is_dropped() -> None:
    selected, _ = soft_nms(ROW, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1]), threshold=0.6, limit=9)
    assert selected.tolist() == [0, 2]


def test_no_more_boxes_than_the_limit_are_selected() -> None:
    selected, _ = soft_nms(ROW, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1]), threshold=0.0, limit=2)
    assert selected.tolist() == [0, 2]


def test_soft_nms_of_no_boxes_is_empty() -> None:
    selected, scores = soft_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.1, 9)
    assert (selected.shape, selected.dtype, scores.shape) == ((0,), torch.int64, (0,))


@given(boxes_of_classes())
def test_scores_never_increase_and_are_sorted(found: tuple[Tensor, Tensor, Tensor]) -> None:
    boxes, scores, labels = found
    selected, left = soft_nms(boxes, scores, labels, threshold=0.0, limit=30)
    assert sorted(selected.tolist()) == list(range(len(scores)))
    assert (left <= scores[selected]).all()
    assert (left.diff() <= 0).all()


@given(boxes_of_classes())
def test_boxes_that_overlap_nothing_keep_their_scores(found: tuple[Tensor, Tensor, Tensor]) -> None:
    _, scores, labels = found
    positions = torch.arange(len(scores))[:, None] * torch.tensor([1.0, 0.0, 1.0, 0.0])
    apart = positions + torch.tensor([0.0, 0.0, 0.5, 1.0])
    selected, left = soft_nms(apart, scores, labels, threshold=0.0, limit=30)
    assert torch.equal(left, scores[selected])


@given(boxes_of_classes())
def test_all_classes_together_give_the_same_as_one_by_one(found: tuple[Tensor, Tensor, Tensor]) -> None:
    boxes, scores, labels = found
    selected, left = soft_nms(boxes, scores, labels, threshold=0.05, limit=30)
    together = dict(zip(selected.tolist(), left.tolist(), strict=True))
    alone: dict[int, float] = {}
    for label in (1, 2, 3):
        own = (labels == label).nonzero()[:, 0]
        indices, kept = soft_nms(boxes[own], scores[own], labels[own], threshold=0.05, limit=30)
        alone |= dict(zip(own[indices].tolist(), kept.tolist(), strict=True))
    assert together == alone


def test_people_are_shown_what_reaches_the_threshold_of_its_class_and_of_the_candidates() -> None:
    own = Postprocess(0.2, class_thresholds=(0.1, 0.7))
    assert [own.lowest_scores(threshold, 2) for threshold in ("auto", None, 0.05)] == [(0.2, 0.7), (0.2, 0.2), (0.05, 0.05)]
    assert [Postprocess(score).lowest_scores("auto", 3) for score in (0.01, 0.5)] == [(SHOWN_SCORE,) * 3, (0.5,) * 3]


# The IoUs of the first box with the others are 0.8, 0.5, 0.8 and 0.9; the last two are of another class and too unsure.
VOTERS = Selected(np.float32([[0, 0, 0.4, 0.4], [0, 0, 0.4, 0.5], [0, 0, 0.4, 0.2], [0, 0, 0.5, 0.4], [0, 0, 0.36, 0.4]]),
                  np.array([1, 1, 1, 2, 1]), np.array([0.6, 0.2, 0.4, 0.5, 0.149], np.float32))
WINNER = Selected(*(column[:1] for column in VOTERS))


@pytest.mark.parametrize(("iou", "bottom"), [(0.75, (0.6 * 0.4 + 0.2 * 0.5) / 0.8), (0.9, 0.4),
                                             (0.45, (0.6 * 0.4 + 0.2 * 0.5 + 0.4 * 0.2) / 1.2)])
def test_boxes_of_the_class_with_the_iou_vote_by_their_scores(iou: float, bottom: float) -> None:
    assert vote(WINNER, VOTERS, iou)[0].tolist() == pytest.approx([0, 0, 0.4, bottom])


def test_a_box_that_alone_votes_on_itself_keeps_every_bit_even_with_a_score_of_0() -> None:
    boxes = np.random.default_rng(0).random((50, 2)).astype(np.float32) / 2
    own = Selected(np.hstack([boxes, boxes + np.float32(0.3)]), np.arange(1, 51), np.linspace(0.9, 0, 50, dtype=np.float32))
    assert vote(own, own, 0.5).tolist() == own.boxes.tolist()


@pytest.mark.parametrize("priors", [50, 700])  # of 700, the best are processed first
@pytest.mark.parametrize("top_k", [5, 200])
def test_voting_moves_boxes_by_all_candidates_and_changes_nothing_else(priors: int, top_k: int) -> None:
    rng = np.random.default_rng(priors)
    corner = rng.random((priors, 2)) * 0.2
    boxes = np.hstack([corner, corner + 0.3 + 0.2 * rng.random((priors, 2))]).astype(np.float32)
    scores = rng.random((priors, 3)).astype(np.float32)
    values = Postprocess(0.05, 0.6, top_k, 10)
    plain, voted = (select(scores, boxes, values._replace(vote_iou=iou)) for iou in (0.0, 0.7))
    assert (voted.labels.tolist(), voted.scores.tolist()) == (plain.labels.tolist(), plain.scores.tolist())
    for box, label, score, mean in zip(*plain, voted.boxes, strict=True):
        own = scores[:, label - 1]
        best = np.argsort(-own)[:top_k]
        voters = best[(own[best] >= score / 4) & (ious(box[None], boxes[best])[0] >= 0.7)]
        assert mean == pytest.approx(np.average(boxes[voters], axis=0, weights=own[voters]), abs=1e-6)
    assert not np.array_equal(plain.boxes, voted.boxes)


def test_the_box_of_a_detection_does_not_depend_on_the_threshold() -> None:
    boxes, scores = VOTERS.boxes[:3], VOTERS.scores[:3, None]
    low, high = (select(scores, boxes, Postprocess(threshold, vote_iou=0.75)) for threshold in (0.01, 0.5))
    assert low.boxes[0].tolist() == high.boxes[0].tolist() != boxes[0].tolist()


def test_soft_nms_does_without_voting() -> None:
    boxes, scores = VOTERS.boxes, VOTERS.scores[:, None]
    plain, voted = (select(scores, boxes, Postprocess(vote_iou=iou), "soft") for iou in (0.0, 0.5))
    assert [column.tolist() for column in plain] == [column.tolist() for column in voted]
