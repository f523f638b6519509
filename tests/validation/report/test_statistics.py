"""Numbers that a reader can check by hand."""

import numpy as np
import pytest

from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.validation.report import statistics
from ssd_lib.validation.report.statistics import (
    boxes_per_image,
    count_classes,
    good_prior_shares,
    histogram,
    image_sizes,
    relative_ratios,
    relative_sides,
    trainable,
)

IMAGES = [Image(1, "a.jpg", 100, 50), Image(2, "b.jpg", 50, 100), Image(3, "c.jpg", 80, 80)]
CLASSES = [Category(1, "cat", 1), Category(2, "dog ", 2), Category(3, " ", 3)]


def a_box(number: int, image: int, category: int, *xywh: float, crowd: bool = False) -> Box:
    return Box(number, image, category, *xywh, area=1.0, is_crowd=crowd)


def the_set(*boxes: Box) -> Annotations:
    return trainable(from_rows(IMAGES, boxes, CLASSES), ())


def test_crowds_and_boxes_that_are_removed_are_not_counted() -> None:
    annotations = from_rows(IMAGES, [
        a_box(1, 1, 1, 0, 0, 10, 10), a_box(2, 1, 1, 0, 0, 10, 10, crowd=True), a_box(3, 9, 1, 0, 0, 10, 10),
        a_box(4, 1, 9, 0, 0, 10, 10), a_box(5, 1, 3, 0, 0, 10, 10), a_box(6, 1, 1, float("nan"), 0, 10, 10),
        a_box(7, 1, 1, 0, 0, -10, 10), a_box(8, 1, 1, 0, 0, 0, 10), a_box(9, 1, 1, 100, 0, 10, 10),
        a_box(10, 2, 2, 0, 0, 10, 10), a_box(11, 3, 2, 0, 0, 10, 10)], CLASSES)
    part = trainable(annotations, {"b.jpg"})
    assert part.boxes.ids.tolist() == [1, 11]
    assert part.images.file_names == ("a.jpg", "c.jpg")
    assert (part.images.ids.tolist(), part.boxes.image_ids.tolist()) == ([0, 1], [0, 1])


def test_boxes_are_clipped_to_their_image() -> None:
    part = the_set(a_box(1, 1, 1, -10, 20, 30, 100), a_box(2, 1, 1, 90, 0, 1e308, 10))
    assert part.boxes.xywh.tolist() == [[0, 20, 20, 30], [90, 0, 10, 10]]


def test_classes_are_counted_by_name_in_every_split() -> None:
    train = the_set(a_box(1, 1, 1, 0, 0, 9, 9), a_box(2, 1, 1, 1, 0, 9, 9), a_box(3, 2, 1, 0, 0, 9, 9),
                    a_box(4, 3, 2, 0, 0, 9, 9))
    val = trainable(from_rows(IMAGES, [a_box(1, 1, 7, 0, 0, 9, 9), a_box(2, 1, 8, 0, 0, 9, 9)],
                              [Category(7, "dog", 7), Category(8, "owl", 8)]), ())
    counts = count_classes({"train": train, "val": val})
    assert counts.names == ("cat", "dog", "owl")
    assert (counts.boxes["train"].tolist(), counts.boxes["val"].tolist()) == ([3, 1, 0], [0, 1, 1])
    assert (counts.images["train"].tolist(), counts.images["val"].tolist()) == ([2, 1, 0], [0, 1, 1])


def test_categories_of_one_id_or_one_name_are_one_class() -> None:
    annotations = from_rows(IMAGES, [a_box(1, 1, 1, 0, 0, 9, 9), a_box(2, 1, 2, 1, 0, 9, 9)],
                            [Category(1, "cat", 1), Category(1, "dog", 1), Category(2, "cat", 2)])
    counts = count_classes({"train": trainable(annotations, ())})
    assert dict(zip(counts.names, counts.boxes["train"].tolist(), strict=True)) == {"cat": 2}


def test_a_set_without_boxes_or_images_has_zeros() -> None:
    nothing = from_rows([], [], [])
    assert count_classes({"train": trainable(nothing, ())}).boxes["train"].tolist() == []
    for annotations in (the_set(), from_rows([], [], CLASSES), from_rows([], [a_box(1, 1, 1, 0, 0, 9, 9)], CLASSES)):
        part = trainable(annotations, ())
        assert count_classes({"train": part}).boxes["train"].tolist() == [0, 0]
        assert boxes_per_image(part).sum() == len(relative_sides(part)) == len(relative_ratios(part)) == 0
        assert image_sizes(part, 5).distinct == len({image[2:] for image in IMAGES if len(part.images)})


def test_an_image_without_boxes_counts_as_one_with_none() -> None:
    assert boxes_per_image(the_set(a_box(1, 3, 1, 0, 0, 9, 9), a_box(2, 3, 1, 1, 0, 9, 9))).tolist() == [0, 0, 2]


def test_sides_and_ratios_are_those_in_the_square_that_a_net_sees() -> None:
    annotations = the_set(a_box(1, 1, 1, 0, 0, 20, 10), a_box(2, 2, 1, 0, 0, 50, 25), a_box(3, 3, 1, 0, 0, 8, 32))
    np.testing.assert_allclose(relative_sides(annotations), [0.2, 0.5, 0.2])
    np.testing.assert_allclose(relative_ratios(annotations), [1, 4, 0.25])


def test_of_many_boxes_some_of_all_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MEASURED", 4)
    large = [a_box(number, 3, 1, number, 0, 40, 40) for number in range(4)]
    annotations = the_set(*large, *(a_box(number, 3, 1, number, 0, 2, 2) for number in range(4, 8)))
    assert set(good_prior_shares(annotations).values()) == {0.5}


def test_an_edge_belongs_to_the_bin_above_it() -> None:
    assert histogram(np.array([0.0, 0.1, 0.15, 0.2, 9.0]), (0.1, 0.2)).tolist() == [1, 2, 2]
    assert histogram(np.array([]), (0.1, 0.2)).tolist() == [0, 0, 0]


def test_image_sizes_come_with_the_most_frequent_first_and_their_orientation() -> None:
    annotations = from_rows([*IMAGES, Image(4, "d.jpg", 80, 80)], [], [])
    sizes = image_sizes(annotations, 2)
    assert sizes.most_frequent == ((80, 80, 2), (50, 100, 1))
    assert (sizes.distinct, sizes.landscape, sizes.portrait, sizes.square) == (3, 1, 1, 2)
