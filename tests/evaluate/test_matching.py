"""Images of 100 px; the boxes of objects are 10 px wide and high, and lie apart."""

import numpy as np
import pytest
from support.made_up import Found, Object, detections, truth

from ssd_lib.evaluate.matching import CROWD, NOTHING, best_f1, class_thresholds, find_pairs, match

A, B, NOWHERE = (0, 0, 10, 10), (20, 0, 30, 10), (80, 80, 90, 90)
SHIFTED = (2, 0, 12, 10)  # IoU with A: 80 / 120


def matched(gt: list[Object], found: list[Found], classes: int = 1) -> list[int]:
    fixed, predictions = truth(*gt, classes=classes), detections(*found)
    return match(fixed, predictions, find_pairs(fixed, predictions)).tolist()


def test_the_better_score_has_the_object_and_the_other_one_finds_nothing() -> None:
    assert matched([Object(0, A)], [Found(0.5, 0, A), Found(0.9, 0, SHIFTED), Found(0.8, 0, NOWHERE)]) == [NOTHING, 0, NOTHING]


def test_a_detection_takes_the_next_best_object_that_is_free() -> None:
    near = (3, 0, 13, 10)  # IoU with SHIFTED: 90 / 110
    assert matched([Object(0, A), Object(0, near)], [Found(0.9, 0, SHIFTED), Found(0.5, 0, SHIFTED)]) == [1, 0]


def test_images_and_classes_are_kept_apart_and_a_crowd_does_not_count() -> None:
    gt = [Object(0, A, 1), Object(1, A, 2), Object(1, (40, 40, 90, 90), 1, is_crowd=True)]
    found = [Found(0.9, 1, A, 1), Found(0.8, 0, A, 2), Found(0.7, 1, A, 2), Found(0.6, 1, (60, 60, 70, 70)), Found(0.5, 0, A)]
    assert matched(gt, found, classes=2) == [NOTHING, NOTHING, 1, CROWD, 0]


def test_the_iou_of_a_pair_is_that_of_its_boxes() -> None:
    pairs = find_pairs(truth(Object(0, A), Object(1, B)), detections(Found(0.5, 0, SHIFTED), Found(0.5, 1, NOWHERE)), 0.1)
    assert (pairs.detections.tolist(), pairs.objects.tolist()) == ([0], [0])
    assert pairs.ious[0] == pytest.approx(80 / 120)


def test_the_threshold_with_the_best_f1_lies_midway_to_the_next_detection() -> None:
    gt = truth(Object(0, A), Object(0, B), Object(1, A))
    found = detections(Found(0.9, 0, A), Found(0.8, 0, B), Found(0.4, 0, NOWHERE), Found(0.2, 1, NOWHERE), Found(0.1, 1, A))
    best = best_f1(gt, found, match(gt, found, find_pairs(gt, found)))
    assert best.threshold.tolist() == [0.6]  # two right of three objects: F1 4/5; with all five detections 6/8
    assert (best.f1[0], best.precision[0], best.recall[0]) == pytest.approx((0.8, 1, 2 / 3))


def test_equal_scores_are_shown_together() -> None:
    gt, found = truth(Object(0, A)), detections(Found(0.5, 0, A), Found(0.5, 0, NOWHERE), Found(0.3, 0, NOWHERE))
    best = best_f1(gt, found, match(gt, found, find_pairs(gt, found)))
    assert (best.threshold[0], best.precision[0]) == (0.4, 0.5)


def test_a_class_of_which_nothing_is_found_has_the_default_threshold() -> None:
    gt, found = truth(Object(0, A, 1), Object(0, B, 2), classes=3), detections(Found(0.5, 0, A), Found(0.9, 0, A, 3))
    assert class_thresholds(gt, found, default=0.4) == (0.25, 0.4, 0.4)
    assert class_thresholds(gt, detections(), default=0.4) == (0.4, 0.4, 0.4)
    assert np.isnan(best_f1(gt, detections(), np.zeros(0, int)).f1).all()
