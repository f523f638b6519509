"""Images of 100 px. The detector finds the objects at A with scores of 0.8, so that a score of 0.8 is entirely sure."""

import numpy as np
import pytest
from support.made_up import Corners, Found, Object, detections, truth
from support.predictions import ground_truth_as_predictions

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.boxes.selection import SHOWN_SCORE
from ssd_lib.evaluate.coco_eval import Predictions
from ssd_lib.evaluate.matching import NOTHING
from ssd_lib.labels.suspects import (
    ALONE,
    KINDS,
    LOOSE,
    MISSING,
    SPURIOUS,
    WRONG_CLASS,
    boxes_of,
    find_suspects,
    images_of,
    overlaps,
)

A, B, NOWHERE = (0, 0, 20, 20), (40, 0, 60, 20), (70, 70, 90, 90)
SHIFTED_B = (50, 0, 70, 20)  # IoU with B: 200 / 600
CLOSE_B = (42, 0, 62, 20)  # IoU with B: 360 / 440


def scene(label: Object | None, *found: Found) -> tuple[FixedSet, Predictions]:
    """Return one object of each class that is found, and what is to be tried in the first image."""
    objects = [Object(0, A), *([label] if label else []), Object(1, A, 2)]
    return truth(*objects, classes=2), detections(Found(0.8, 0, A), *found, Found(0.8, 1, A, 2))


@pytest.mark.parametrize(("label", "found", "kind", "score"), [
    (None, Found(0.8, 0, B), MISSING, ALONE),
    (Object(0, B, 2), Found(0.8, 0, B, 1), WRONG_CLASS, 1),
    (Object(0, B), Found(0.8, 0, SHIFTED_B), LOOSE, 1),
    (Object(0, B), None, SPURIOUS, ALONE),
])
def test_each_kind_of_error_is_the_first_suspect(label: Object | None, found: Found | None, kind: int, score: float) -> None:
    fixed, predictions = scene(label, *([found] if found else []))
    first = find_suspects(fixed, predictions, 1)
    assert [KINDS[row] for row in first.kinds] == [KINDS[kind]]
    assert first.scores.tolist() == pytest.approx([score])
    assert (first.objects[0] == NOTHING) == (kind == MISSING)
    assert (first.detections[0] == NOTHING) == (kind == SPURIOUS)
    expected = found.box if found else B
    assert boxes_of(fixed, predictions, first).tolist() == [[expected[0], expected[1], 20, 20]]
    assert images_of(fixed, predictions, first).tolist() == [0]
    assert overlaps(fixed, predictions, first).tolist() == pytest.approx([{WRONG_CLASS: 1, LOOSE: 1 / 3}.get(kind, 0)])


@pytest.mark.parametrize(("label", "weak", "strong"), [
    (None, Found(0.5, 0, B), Found(0.6, 0, B)),
    (Object(0, B, 2), Found(0.5, 0, B), Found(0.6, 0, B)),
    (Object(0, B), Found(0.5, 0, SHIFTED_B), Found(0.6, 0, SHIFTED_B)),
])
def test_a_surer_detection_makes_a_surer_suspect(label: Object | None, weak: Found, strong: Found) -> None:
    lower, higher = (find_suspects(*scene(label, found), 1).scores[0] for found in (weak, strong))
    assert 0 < lower < higher


@pytest.mark.parametrize("box", [B, CLOSE_B])
def test_a_label_that_is_confirmed_is_no_suspect(box: Corners) -> None:
    assert len(find_suspects(*scene(Object(0, B), Found(0.8, 0, box)), 9).kinds) == 0


def test_a_box_that_fits_by_half_contradicts_by_the_other_half() -> None:
    fit = (14 / 26 - 0.4) / 0.3  # of the IoU, from 0.4 on, to 0.7
    found = find_suspects(*scene(Object(0, B), Found(0.8, 0, (46, 0, 66, 20))), 9)
    assert (found.kinds.tolist(), found.scores.tolist()) == (
        [LOOSE], pytest.approx([(1 - fit) * (ALONE + (1 - ALONE) * (1 - fit))]))


def test_another_class_contradicts_a_label_only_where_it_fits_its_box() -> None:
    found = find_suspects(*scene(Object(0, B), Found(0.8, 0, SHIFTED_B, 2)), 9)
    assert (found.kinds.tolist(), found.scores.tolist()) == ([SPURIOUS, MISSING], pytest.approx([ALONE, ALONE * (1 - 1 / 3)]))


def test_a_weak_contradiction_leaves_a_label_spurious() -> None:
    found = find_suspects(*scene(Object(0, B, 2), Found(0.2, 0, B, 1)), 9)
    assert (found.kinds.tolist(), found.detections.tolist()) == ([SPURIOUS], [NOTHING])
    found = find_suspects(*scene(Object(0, B, 2), Found(0.3, 0, B, 1)), 9)
    assert (found.kinds.tolist(), found.detections.tolist()) == ([WRONG_CLASS], [1])


def test_no_detection_is_surer_than_entirely_sure() -> None:
    assert find_suspects(*scene(None, Found(0.95, 0, B)), 9).scores.tolist() == [ALONE]


def test_the_overlap_of_a_suspect_is_that_with_its_own_label() -> None:
    neighbour = (64, 0, 84, 20)  # IoU with SHIFTED_B: 120 / 680
    fixed = truth(Object(0, A), Object(0, B), Object(0, neighbour), Object(1, A))
    predictions = detections(Found(0.8, 0, A), Found(0.8, 0, SHIFTED_B), Found(0.8, 0, neighbour), Found(0.8, 1, A))
    found = find_suspects(fixed, predictions, 9)
    assert (found.kinds.tolist(), overlaps(fixed, predictions, found).tolist()) == ([LOOSE], pytest.approx([1 / 3]))


@pytest.mark.parametrize(("score", "suspects"), [(0.41, 1), (0.39, 0)])
def test_what_is_hardly_suspect_is_left_out(score: float, suspects: int) -> None:
    assert len(find_suspects(*scene(None, Found(score, 0, B)), 9).kinds) == suspects  # entirely sure it would have 0.8


@pytest.mark.parametrize(("other", "score"), [(0.8, 1), (0.4, (1 - 4 / 7 / 2) * 0.9)])
def test_a_weak_confirmation_lowers_the_score_of_a_wrong_class_unless_another_is_sure(other: float, score: float) -> None:
    # Right of class 2 are 0.4 and 0.8, of which three quarters are below 0.7; of class 1 only 0.8.
    both = scene(Object(0, B, 2), Found(other, 0, B, 1), Found(0.4, 0, B, 2))
    assert find_suspects(*both, 1).scores[0] == pytest.approx(score)


def test_how_sure_a_score_is_depends_on_those_of_its_class() -> None:
    fixed = truth(Object(0, A), Object(1, A, 2), classes=2)
    predictions = detections(Found(0.8, 0, A), Found(0.4, 0, B, 1), Found(0.4, 1, A, 2), Found(0.4, 1, B, 2))
    found = find_suspects(fixed, predictions, 2)
    assert found.scores.tolist() == pytest.approx([ALONE, ALONE / 2])
    assert predictions.labels[found.detections].tolist() == [2, 1]


def test_a_class_that_is_never_right_is_compared_with_the_others() -> None:
    fixed = truth(Object(0, A), Object(1, A), classes=2)
    found = find_suspects(fixed, detections(Found(0.8, 0, A), Found(0.4, 0, B, 2), Found(0.8, 1, A)), 1)
    assert found.scores.tolist() == pytest.approx([ALONE / 2])


def test_a_crowd_is_no_suspect_and_neither_are_detections_in_it() -> None:
    fixed = truth(Object(0, A), Object(0, (40, 0, 90, 90), is_crowd=True), Object(1, A), Object(1, B, is_crowd=True))
    predictions = detections(Found(0.8, 0, A), Found(0.8, 0, (30, 0, 50, 20)), Found(0.8, 0, NOWHERE),  # one lies in it by half
                             Found(0.8, 1, A))
    assert len(find_suspects(fixed, predictions, 9).kinds) == 0


def test_several_detections_of_one_place_are_one_suspect() -> None:
    found = find_suspects(*scene(None, Found(0.8, 0, B, 1), Found(0.7, 0, CLOSE_B, 2)), 9)
    assert found.kinds.tolist() == [MISSING]


@pytest.mark.parametrize("unseen", [Object(0, (12, 0, 32, 20)), Object(0, (2, 0, 22, 20), 2)])  # IoU 160 / 640, 360 / 440
def test_a_detection_of_a_neighbour_does_not_contradict_a_label(unseen: Object) -> None:
    fixed = truth(Object(0, A), unseen, classes=2)
    assert find_suspects(fixed, detections(Found(0.8, 0, A)), 9).kinds.tolist() == [SPURIOUS]


def test_suspects_are_in_the_order_of_their_scores_and_limited(fixed: FixedSet) -> None:
    right = ground_truth_as_predictions(fixed)
    found = find_suspects(fixed, right._replace(scores=right.scores * 0 + SHOWN_SCORE, labels=3 - right.labels), 2)
    assert len(found.scores) == 2
    assert (np.diff(found.scores) <= 0).all()


def test_without_detections_every_label_is_spurious_and_without_both_there_is_nothing() -> None:
    assert find_suspects(truth(Object(0, A), Object(1, B)), detections(), 9).kinds.tolist() == [SPURIOUS, SPURIOUS]
    assert len(find_suspects(truth(), detections(), 9).kinds) == 0
