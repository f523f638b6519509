"""Detections as labels: boxes and classes that a reader can check by hand."""

import numpy as np

from ssd_lib.annotations.table import box_rows
from ssd_lib.detect.detector import Objects
from ssd_lib.detect.labels import to_annotations


def found(*rows: tuple[int, tuple[float, ...]]) -> Objects:
    labels, boxes = [row[0] for row in rows], [row[1] for row in rows]
    return Objects(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.full(len(rows), 0.9, np.float32),
                   tuple("ab"[label - 1] for label in labels))


def test_boxes_lie_in_their_image_and_have_the_category_of_their_class() -> None:
    objects = [found((2, (-3, 5.126, 20, 45)), (1, (30, 10, 35.5, 20))), found(), found((1, (10, 20, 99, 30)))]
    labels = to_annotations(objects, ["x.jpg", "y.jpg", "z.jpg"], np.array([(60, 40), (9, 9), (80, 90)]), ("a", "b"), (18, 38))
    assert [(row.image_id, row.category_id, *row[3:7], row.area) for row in box_rows(labels.boxes)] == [
        (1, 38, 0, 5.13, 20, 34.87, 20 * 34.87), (1, 18, 30, 10, 5.5, 10, 55), (3, 18, 10, 20, 70, 10, 700)]
    assert (labels.images.file_names, labels.images.sizes.tolist()) == (
        ("x.jpg", "y.jpg", "z.jpg"), [[60, 40], [9, 9], [80, 90]])
    assert [(row.id, row.name) for row in labels.categories] == [(18, "a"), (38, "b")]


def test_a_box_without_an_area_in_the_image_is_left_out() -> None:
    outside, thin, kept = (1, (70, 5, 80, 10)), (1, (5, 5, 5.004, 30)), (2, (1, 1, 2, 2))
    labels = to_annotations([found(outside, thin, kept)], ["x.jpg"], np.array([(60, 40)]), ("a", "b"), (18, 38))
    assert [(row.id, row.category_id) for row in box_rows(labels.boxes)] == [(1, 38)]
