"""The laws of repair, over any annotations, and each cure by hand."""

import math
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import Rows, flat, rows_of

from ssd_lib.annotations.coco import format_annotations
from ssd_lib.annotations.repair import fix, fix_and_count, merge_categories
from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.errors import InputError
from ssd_lib.validation.annotations import check_annotations

COORDINATE = st.one_of(st.floats(-20, 120), st.floats(), st.sampled_from([0.0, -0.0, 1.0, 100.0, 99.99999999999999]))
IDS = st.integers(0, 6)
SIZE = st.integers(-1, 100)
NAMES = st.sampled_from(["cat", "dog", " dog ", "", "a\nb"])
ANNOTATIONS = st.builds(
    Rows,
    st.lists(st.builds(Image, IDS, st.sampled_from("abcd"), SIZE, SIZE), max_size=5).map(tuple),
    st.lists(st.builds(Box, IDS, IDS, IDS, COORDINATE, COORDINATE, COORDINATE, COORDINATE, st.floats(), st.booleans()),
             max_size=12).map(tuple),
    st.lists(st.builds(Category, IDS, NAMES, IDS), max_size=5).map(tuple),
    st.just({}))
SIDES = st.sampled_from([1e-300, 0.1, 1.0, 7.5])
SMALL = Rows((Image(1, "a.jpg", 100, 50), Image(2, "b.jpg", 20, 20)),
                    (Box(10, 1, 3, 10.0, 10.0, 20.0, 20.0, 300.0, False),), (Category(3, "dog", 3),), {})
BOX = SMALL.boxes[0]


def mended(rows: Rows, unreadable: Collection[str], min_box_px: float) -> Rows:
    return rows_of(fix(flat(rows), unreadable, min_box_px))


def fixed_boxes(*boxes: Box) -> tuple[Box, ...]:
    return mended(SMALL._replace(boxes=boxes), (), 1.0).boxes


@given(ANNOTATIONS, st.sets(st.sampled_from("abcd"), max_size=2), SIDES)
def test_fixing_twice_is_fixing_once_to_the_byte(rows: Rows, unreadable: set[str], side: float) -> None:
    once = fix(flat(rows), unreadable, side)
    assert b"".join(format_annotations(fix(once, unreadable, side))) == b"".join(format_annotations(once))


@given(ANNOTATIONS, SIDES)
def test_fixed_boxes_lie_in_their_image_exactly(rows: Rows, side: float) -> None:
    fixed = mended(rows, (), side)
    images = {image.id: image for image in fixed.images}
    for box in fixed.boxes:
        image = images[box.image_id]
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= image.width
        assert box.y + box.height <= image.height
        assert min(box.width, box.height) >= side
        assert 0 <= box.area <= box.width * box.height


@given(ANNOTATIONS)
def test_fixed_annotations_have_no_faults_and_labels_from_one(rows: Rows) -> None:
    fixed = fix(flat(rows), (), 1e-300)
    assert list(check_annotations(fixed, "train")) == []
    assert [category.id for category in fixed.categories] == list(range(1, len(fixed.categories) + 1))


def test_labels_follow_the_order_of_the_original_ids_and_remember_them() -> None:
    categories = (Category(90, "toothbrush", 90), Category(1, "person", 1), Category(13, "stop sign", 13))
    fixed = mended(SMALL._replace(categories=categories, boxes=(BOX._replace(category_id=90),)), (), 1.0)
    assert fixed.categories == (Category(1, "person", 1), Category(2, "stop sign", 13), Category(3, "toothbrush", 90))
    assert fixed.boxes[0].category_id == 3


def test_a_sound_box_is_kept_to_the_last_bit() -> None:
    box = BOX._replace(x=0.1, width=0.2 + 99.7, area=3.3)
    assert fixed_boxes(box) == (box._replace(category_id=1),)


def test_a_box_on_the_edge_too_thin_to_reach_anywhere_is_left_out() -> None:
    edge = float(SMALL.images[0].height)
    assert mended(SMALL._replace(boxes=(BOX._replace(y=edge, height=1e-106),)), (), 1e-300).boxes == ()


def test_a_box_over_the_edge_is_clipped_and_its_area_is_no_more_than_what_is_left() -> None:
    clipped, = fixed_boxes(BOX._replace(x=-5.0, y=40.0, width=15.0, height=99.0, area=5000.0))
    assert clipped[3:8] == (0.0, 40.0, 10.0, 10.0, 100.0)


@pytest.mark.parametrize("x", [-0.5, -1e-300, 99.0 - 1e-14])
def test_a_box_over_the_edge_by_a_fraction_is_clipped_too(x: float) -> None:
    box, = fixed_boxes(BOX._replace(x=x, width=80.0))
    assert box.x == max(x, 0.0)
    assert box.x + box.width == min(x + 80.0, 100.0)


@pytest.mark.parametrize("area", [math.nan, math.inf, 0.0, -1.0])
def test_an_area_that_cannot_be_is_measured_anew(area: float) -> None:
    assert fixed_boxes(BOX._replace(area=area))[0].area == 400.0


@pytest.mark.parametrize("change", [
    {"width": 0.0}, {"height": -3.0}, {"x": math.nan}, {"width": math.inf}, {"x": 100.0}, {"y": -20.0}, {"x": 99.5},
    {"width": 0.9}, {"image_id": 5}, {"category_id": 1}, {"x": 1e308}, {"x": -1e308, "width": 1e308},
])
def test_a_box_that_cannot_be_trained_on_is_removed(change: dict[str, Any]) -> None:
    assert fixed_boxes(BOX._replace(**change)) == ()


def test_of_two_boxes_with_one_id_the_first_stays() -> None:
    assert [box.x for box in fixed_boxes(BOX, BOX._replace(x=5.0))] == [10.0]


def test_crowds_stay_crowds_and_images_without_boxes_stay() -> None:
    fixed = mended(SMALL._replace(boxes=(BOX._replace(is_crowd=True),)), (), 1.0)
    assert fixed.boxes[0].is_crowd
    assert fixed.images == SMALL.images


def test_an_unreadable_image_leaves_with_its_boxes() -> None:
    fixed = mended(SMALL, {"a.jpg"}, 1.0)
    assert (fixed.images, fixed.boxes) == ((Image(2, "b.jpg", 20, 20),), ())


def test_an_image_listed_twice_stays_once_with_the_boxes_of_both() -> None:
    images = (*SMALL.images, Image(7, "a.jpg", 100, 50))
    fixed = mended(SMALL._replace(images=images, boxes=(BOX, BOX._replace(id=11, image_id=7, x=20.0))), (), 1.0)
    assert fixed.images == SMALL.images
    assert [box.image_id for box in fixed.boxes] == [1, 1]


def test_two_ids_of_one_name_become_one_class() -> None:
    categories = (Category(3, "dog", 3), Category(8, "dog ", 8))
    fixed = mended(SMALL._replace(categories=categories, boxes=(BOX, BOX._replace(id=11, category_id=8, x=20.0))), (), 1.0)
    assert fixed.categories == (Category(1, "dog", 3),)
    assert [box.category_id for box in fixed.boxes] == [1, 1]


def test_images_and_boxes_are_sorted_by_id() -> None:
    shuffled = SMALL._replace(images=SMALL.images[::-1], boxes=(BOX._replace(id=99, x=20.0), BOX))
    fixed = mended(shuffled, (), 1.0)
    assert ([image.id for image in fixed.images], [box.id for box in fixed.boxes]) == ([1, 2], [10, 99])


@pytest.mark.parametrize(("change", "kept"), [
    ({}, 1), ({"x": 10.001}, 2), ({"image_id": 2, "x": 0.0, "y": 0.0}, 2), ({"category_id": 8}, 2), ({"is_crowd": True}, 2),
    ({"area": 299.0}, 2)])
def test_of_equal_boxes_one_stays(change: dict[str, Any], kept: int) -> None:
    categories = (Category(3, "dog", 3), Category(8, "cat", 8))
    rows = SMALL._replace(categories=categories, boxes=(BOX, BOX._replace(id=11, **change)))
    fixed, removed = fix_and_count(flat(rows), (), 1.0)
    assert len(fixed.boxes) == kept
    assert removed == ({"an equal box is there already": 1} if kept == 1 else {})


def test_boxes_that_become_equal_by_clipping_are_one() -> None:
    assert len(fixed_boxes(BOX._replace(x=90.0, area=math.nan), BOX._replace(id=11, x=90.0, width=50.0, area=math.nan))) == 1


def test_what_is_removed_is_counted_with_its_reason() -> None:
    boxes = (BOX, BOX._replace(id=11, image_id=9), BOX._replace(id=12, category_id=9), BOX._replace(id=13, width=0.5),
             BOX._replace(id=14), BOX._replace(x=1.0))
    assert fix_and_count(flat(SMALL._replace(boxes=boxes)), (), 1.0)[1] == {
        "their image is left out or unknown": 1, "their class is unknown": 1,
        "a side is below 1 px, or they are not boxes in their image": 1, "their id occurs before": 1,
        "an equal box is there already": 1}


def test_the_input_is_not_changed() -> None:
    annotations = flat(SMALL)
    fix(annotations, {"a.jpg"}, 1.0)
    assert rows_of(annotations) == SMALL


def categories(*pairs: tuple[int, str]) -> Annotations:
    return from_rows((), (), (Category(number, name, number) for number, name in pairs))


def test_an_id_that_occurs_twice_in_a_file_does_not_set_train_against_val() -> None:
    twice = categories((1, "cat"), (1, "dog"), (2, "cow"))
    assert [category.name for category in merge_categories(twice, twice) if category.id == 1] == ["cat", "dog"]
    assert merge_categories(categories((1, "cat"), (2, "cow")), twice) == categories((1, "cat"), (2, "cow")).categories
    with pytest.raises(InputError, match="id 1 is 'cat' in train and 'dog' in val"):
        merge_categories(twice, categories((1, "dog"), (1, "cat")))


def test_classes_of_both_splits_are_merged() -> None:
    merged = merge_categories(categories((1, "cat"), (5, "dog")), categories((5, "dog"), (3, "cow")))
    assert [(category.id, category.name) for category in merged] == [(1, "cat"), (5, "dog"), (3, "cow")]


def test_an_id_with_two_meanings_is_refused() -> None:
    with pytest.raises(InputError, match="id 1 is 'cat' in train and 'dog' in val"):
        merge_categories(categories((1, "cat")), categories((1, "dog")))


def test_a_class_with_another_id_in_val_is_refused() -> None:
    with pytest.raises(InputError, match="'cat' has id 1 in train and 2 in val"):
        merge_categories(categories((1, "cat")), categories((2, "cat")))
