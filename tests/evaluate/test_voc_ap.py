"""Boxes of the hand-worked cases are xmin, ymin, xmax, ymax in VOC's pixels: whole, from 1, the last one included."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import made_up
from support.made_up import Corners, Found, Object

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.coco_eval import Predictions
from ssd_lib.evaluate.voc_ap import voc_ap, voc_metrics

Row = TypeVar("Row", Object, Found)
A, B, C, D = (1, 1, 10, 10), (21, 1, 30, 10), (41, 1, 50, 10), (61, 1, 70, 10)
NOWHERE = (81, 81, 90, 90)


def truth(*objects: Object, classes: int = 1, images: int = 2) -> FixedSet:
    """Return the objects as data/fixed has them."""
    return made_up.truth(*sorted(map(_from_zero, objects), key=lambda row: row.image), classes=classes, images=images)


def detections(*rows: Found) -> Predictions:
    """Return the detections as `predict` gives them."""
    return made_up.detections(*map(_from_zero, rows))


def _from_zero(row: Row) -> Row:
    x1, y1, x2, y2 = row.box
    return row._replace(box=(x1 - 1, y1 - 1, x2, y2))


def both(gt: FixedSet, found: Predictions) -> tuple[float, float]:
    """Return both APs of the only class."""
    return tuple(float(ap[0]) for ap in voc_ap(gt, found))


def test_a_curve_that_a_reader_can_check() -> None:
    gt = truth(Object(0, A), Object(0, B), Object(1, A), Object(1, B))
    found = detections(Found(0.9, 0, A),         # true   precision 1/1  recall 1/4
                       Found(0.8, 1, NOWHERE),   # false            1/2         1/4
                       Found(0.7, 1, A),         # true             2/3         2/4
                       Found(0.6, 0, NOWHERE),   # false            2/4         2/4
                       Found(0.5, 0, B))         # true             3/5         3/4; the object B of image 1 is never found
    # Eleven points: best precision 1 at recalls 0, 0.1, 0.2; 2/3 at 0.3, 0.4, 0.5; 3/5 at 0.6, 0.7; 0 at 0.8, 0.9, 1.
    # Every point: a quarter of recall each at 1, 2/3 and 3/5.
    assert both(gt, found) == (pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11), pytest.approx((1 + 2 / 3 + 3 / 5) / 4))


def test_a_later_precision_that_is_better_holds_for_lower_recalls() -> None:
    gt = truth(Object(0, A), Object(0, B))
    found = detections(Found(0.9, 0, NOWHERE), Found(0.8, 0, A), Found(0.7, 0, B))  # precisions 0, 1/2, 2/3
    assert both(gt, found) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_three_objects_of_ten_reach_a_recall_of_three_tenths() -> None:
    boxes = [(20 * i + 1, 1, 20 * i + 10, 10) for i in range(10)]
    gt = truth(*(Object(0, box) for box in boxes))
    found = detections(*(Found(0.9, 0, box) for box in boxes[:3]))
    assert both(gt, found) == (pytest.approx(4 / 11), pytest.approx(3 / 10))  # recalls 0, 0.1, 0.2, 0.3


def test_a_second_detection_of_an_object_is_false() -> None:
    gt = truth(Object(0, A), Object(0, B))
    found = detections(Found(0.9, 0, A), Found(0.8, 0, A), Found(0.7, 0, B))  # precisions 1, 1/2, 2/3
    assert both(gt, found) == (pytest.approx((6 * 1 + 5 * 2 / 3) / 11), pytest.approx((1 + 2 / 3) / 2))


def test_a_detection_belongs_to_the_box_that_it_overlaps_most_though_that_one_is_taken() -> None:
    near = (3, 1, 12, 10)  # 8 of 12 columns shared with A, IoU 2/3: enough, were A not nearer
    gt = truth(Object(0, A), Object(0, near))
    found = detections(Found(0.9, 0, A), Found(0.8, 0, A))
    assert both(gt, found) == (pytest.approx(6 / 11), pytest.approx(1 / 2))


def test_the_better_score_takes_the_object_wherever_it_stands() -> None:
    gt = truth(Object(0, A), Object(1, A))
    rows = [Found(0.5, 0, NOWHERE), Found(0.9, 0, A), Found(0.7, 1, A)]
    assert both(gt, detections(*rows)) == both(gt, detections(*rows[::-1])) == (1, 1)


def test_equal_scores_are_taken_in_their_order() -> None:
    gt, false = truth(Object(0, A)), [Found(0.5, 0, NOWHERE), Found(0.4, 0, NOWHERE)] * 99
    assert both(gt, detections(Found(0.5, 0, A), *false))[1] == 1
    assert both(gt, detections(*false, Found(0.5, 0, A)))[1] == pytest.approx(1 / 100)


def test_of_two_boxes_that_are_overlapped_equally_the_first_is_found() -> None:
    gt = truth(Object(0, A), Object(0, A))
    assert both(gt, detections(Found(0.9, 0, A), Found(0.8, 0, A)))[1] == pytest.approx(1 / 2)


def test_difficult_objects_and_their_detections_count_as_nothing() -> None:
    gt = truth(Object(0, A), Object(0, B, is_crowd=True))
    found = detections(Found(0.9, 0, B), Found(0.8, 0, B), Found(0.7, 0, A), Found(0.6, 0, NOWHERE))
    assert both(gt, found) == (1, 1)
    assert both(gt, detections(Found(0.9, 0, B))) == (0, 0)


def test_a_detection_half_over_a_difficult_object_is_false() -> None:
    gt = truth(Object(0, A), Object(0, B, is_crowd=True))
    beside = (25, 1, 34, 10)  # 6 of 14 columns, IoU 3/7
    assert both(gt, detections(Found(0.9, 0, beside), Found(0.7, 0, A)))[1] == pytest.approx(1 / 2)


def test_widths_hold_the_last_pixel() -> None:
    half = (1, 1, 5, 10)  # 5 of the 10 columns of A: IoU 50/100. Without the last pixel it were 4 * 9 / (9 * 9) = 4/9.
    assert both(truth(Object(0, A)), detections(Found(0.9, 0, half))) == (1, 1)
    less = (1, 1, 5, 9)  # 45/100
    assert both(truth(Object(0, A)), detections(Found(0.9, 0, less))) == (0, 0)


def test_boxes_of_another_image_or_class_are_not_found() -> None:
    gt = truth(Object(0, A), Object(0, A, label=2), classes=2)
    found = detections(Found(0.9, 1, A), Found(0.8, 0, A, label=2), Found(0.7, 0, A))
    assert voc_ap(gt, found).voc10.tolist() == [pytest.approx(1 / 2), 1]


def test_the_mean_is_of_the_classes_that_have_objects() -> None:
    gt = truth(Object(0, A), Object(0, B, label=2), Object(0, C, label=3, is_crowd=True), classes=4)
    found = detections(Found(0.9, 0, A), Found(0.8, 0, D, label=4))
    assert voc_metrics(gt, found) == {"VOC07": 1 / 2, "VOC10": 1 / 2}
    assert [math.isnan(ap) for ap in voc_ap(gt, found).voc07] == [False, False, True, True]


def test_no_detections_are_ap_0_and_no_objects_are_none() -> None:
    assert voc_metrics(truth(Object(0, A)), detections()) == {"VOC07": 0, "VOC10": 0}
    assert voc_metrics(truth(), detections(Found(0.9, 0, A))) == {"VOC07": None, "VOC10": None}
    assert voc_metrics(truth(Object(0, A, is_crowd=True)), detections()) == {"VOC07": None, "VOC10": None}


corner = st.integers(1, 12)
pixels = st.tuples(corner, corner, st.integers(1, 8), st.integers(1, 8)).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
an_image, a_label = st.integers(0, 1), st.integers(1, 2)
objects = st.lists(st.builds(Object, an_image, pixels, a_label, st.booleans()), max_size=8)
founds = st.lists(st.builds(Found, st.sampled_from((0.2, 0.5, 0.8)), an_image, pixels, a_label), max_size=12)


@given(objects, founds)
def test_the_numbers_are_those_of_the_published_procedure_word_by_word(gt: list[Object], found: list[Found]) -> None:
    got = voc_ap(truth(*gt, classes=2), detections(*found))
    for label in (1, 2):
        expected = published([row for row in gt if row.label == label], [row for row in found if row.label == label])
        assert [ap[label - 1] for ap in got] == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.builds(Object, an_image, pixels, st.just(1), st.just(False)), min_size=1, max_size=8, unique=True))
def test_perfect_detections_have_ap_1(gt: list[Object]) -> None:
    assert both(truth(*gt), detections(*(Found(0.5, row.image, row.box) for row in gt))) == (1, 1)


@given(objects, founds)
def test_aps_are_fractions(gt: list[Object], found: list[Found]) -> None:
    for ap in np.concatenate(voc_ap(truth(*gt, classes=2), detections(*found))):
        assert math.isnan(ap) or 0 <= ap <= 1


@given(objects, founds, pixels)
def test_a_detection_below_all_others_that_finds_nothing_changes_nothing(gt: list[Object], found: list[Found],
                                                                         box: Corners) -> None:
    far = tuple(side + 50 for side in box)
    before, after = (voc_ap(truth(*gt, classes=2), detections(*rows)) for rows in (found, [*found, Found(0.01, 0, far)]))
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(before, after, strict=True))


@given(objects, founds)
def test_a_false_detection_above_all_others_never_raises_ap(gt: list[Object], found: list[Found]) -> None:
    before, after = (voc_ap(truth(*gt, classes=2), detections(*rows)) for rows in (found, [Found(1, 0, NOWHERE), *found]))
    assert all((after_ap <= before_ap).all() for before_ap, after_ap in
               zip(np.nan_to_num(before), np.nan_to_num(after), strict=True))


def published(gt: Sequence[Object], found: Sequence[Found]) -> tuple[float, float]:
    """Return the AP of a class, computed step by step as the development kits do, on their pixels with their + 1."""
    objects = sum(not row.is_crowd for row in gt)
    if not objects:
        return math.nan, math.nan
    taken: set[tuple[int, int]] = set()
    curve, true, false = [], 0, 0
    for row in sorted(found, key=lambda row: -row.score):
        rivals = [box for box in gt if box.image == row.image]
        at = max(range(len(rivals)), key=lambda i: overlap(row.box, rivals[i].box), default=-1)
        if at < 0 or overlap(row.box, rivals[at].box) < 0.5 or (row.image, at) in taken:
            false += 1
        elif not rivals[at].is_crowd:
            true += 1
            taken.add((row.image, at))
        curve.append((10 * true, true / max(true + false, 1)))  # recall in tenths of an object, to compare exactly
    eleven = sum(max((p for r, p in curve if r >= k * objects), default=0) for k in range(11)) / 11
    levels = sorted({0, *(r for r, _ in curve)})
    every = sum((high - low) * max(p for r, p in curve if r >= high) for low, high in pairwise(levels))
    return eleven, every / 10 / objects


def overlap(one: Corners, other: Corners) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return -math.inf
    return width * height / (area(one) + area(other) - width * height)


def area(box: Corners) -> float:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
