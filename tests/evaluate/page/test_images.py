"""Which images are shown, with which boxes, and what is written under them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.made_up import Found, Object, detections, truth

from ssd_lib.evaluate.analysis import Analysis, analyse
from ssd_lib.evaluate.page.images import _ranks, best_images_section, cause, worst_images_section
from ssd_lib.evaluate.page.inputs import PageInput
from ssd_lib.report.elements import Section, Thumbnails, Tile

A, B, C, NOWHERE = (0, 0, 10, 10), (40, 0, 50, 10), (0, 40, 10, 50), (80, 80, 90, 90)


def analysed(*found: Found) -> Analysis:
    gt = truth(Object(0, A), Object(0, B), Object(0, C), Object(1, A), Object(1, B, 2), Object(2, A, 2), classes=2, images=4)
    return analyse(gt, detections(*found))


def test_the_cause_names_each_kind_with_class_and_score() -> None:
    found = analyse(truth(Object(0, A), Object(0, B), Object(0, C), Object(0, (70, 0, 80, 10), 2), classes=2, images=1),
                    detections(Found(0.95, 0, A, 1), Found(0.9, 0, B, 2), Found(0.8, 0, (70, 0, 80, 10), 2)))
    assert cause(found, 0) == "wrong class: class 2 for class 1 0.90; missed: 1 class 1"


def test_many_errors_of_a_kind_are_counted() -> None:
    rows = [Found(0.5 + at / 100, 0, (x, 80, x + 5, 85)) for at, x in enumerate(range(0, 50, 10))]
    assert cause(analysed(Found(0.4, 0, A), *rows), 0) == (
        "nothing there: class 1 0.54, class 1 0.53, class 1 0.52 and 2 more; missed: 2 class 1")
    assert cause(analysed(Found(0.4, 0, A), *rows[:3]), 0).endswith("0.52, class 1 0.51, class 1 0.50; missed: 2 class 1")


def test_an_image_with_more_errors_is_worse_and_one_without_objects_and_errors_is_not_bad() -> None:
    badness, right = _ranks(analysed(Found(0.9, 1, A), Found(0.8, 2, A, 2)))
    assert badness.tolist() == [3, 1 / 3, 0, 0]
    assert right.tolist() == [0, 1, 1, 0]


def test_a_crowd_is_not_missed_and_a_detection_below_the_threshold_is_not_right() -> None:
    badness, _ = _ranks(analyse(truth(Object(0, A), Object(0, C, is_crowd=True)), detections(Found(0.9, 0, A))))
    assert badness.tolist() == [0, 0]
    wrong = [Found(0.5, 0, NOWHERE)] * 3
    _, right = _ranks(analyse(truth(Object(0, A), Object(1, A)), detections(Found(0.9, 0, A), *wrong, Found(0.1, 1, A))))
    assert right.tolist() == [1, 0]


def page(analysis: Analysis) -> PageInput:
    nothing: Any = None
    dataset: Any = SimpleNamespace(path_of=Path)  # there are no files, so that the tiles have boxes alone
    return PageInput(analysis, {}, nothing, nothing, nothing, dataset, "cpu")


def tiles_of(section: Section) -> list[Tile]:
    return [tile for element in section.elements if isinstance(element, Thumbnails) for tile in element.tiles]


def test_the_worst_images_have_errors_and_the_best_have_none_the_most_telling_first() -> None:
    given = page(analysed(Found(0.9, 0, A), Found(0.95, 0, NOWHERE), Found(0.9, 1, A), Found(0.85, 1, B, 2),
                          Found(0.8, 2, A, 2), Found(0.95, 3, A)))
    worst, best = worst_images_section(given), best_images_section(given)
    assert [(tile.name, tile.text) for tile in tiles_of(worst)] == [
        ("0.jpg", "nothing there: class 1 0.95; missed: 2 class 1"), ("3.jpg", "nothing there: class 1 0.95")]
    assert [(tile.name, tile.text) for tile in tiles_of(best)] == [("1.jpg", "no errors"), ("2.jpg", "no errors")]
    assert (worst.title, best.title) == ("2 worst images", "2 best images")
    assert (best_images_section(page(analysed())).title, tiles_of(best_images_section(page(analysed())))) == ("Best images", [])


def test_boxes_have_the_colours_of_the_legend_and_weak_detections_none() -> None:
    crowd = (60, 60, 100, 100)
    found = analyse(truth(Object(0, A), Object(0, B, 2), Object(0, crowd, is_crowd=True), Object(1, C, 2), classes=2),
                    detections(Found(0.9, 0, A), Found(0.95, 0, (70, 70, 80, 80)), Found(0.92, 0, (80, 80, 85, 99)),
                               Found(0.97, 0, (0, 80, 10, 90)), Found(0.3, 0, A), Found(0.9, 1, C, 2)))
    (left, right), = (tile.thumbnails for tile in tiles_of(worst_images_section(page(found))))
    assert [(mark.xywh, mark.name, mark.tone) for mark in left.marks] == [
        ((0, 0, 10, 10), "class 1", "right"), ((40, 0, 10, 10), "class 2", "missed"), ((60, 60, 40, 40), "class 1", "crowd")]
    assert [(mark.xywh, mark.name, mark.tone) for mark in right.marks] == [
        ((0, 0, 10, 10), "class 1 0.90", "right"), ((70, 70, 10, 10), "class 1 0.95", "crowd"),
        ((80, 80, 5, 19), "class 1 0.92", "crowd"), ((0, 80, 10, 10), "class 1 0.97", "wrong")]
