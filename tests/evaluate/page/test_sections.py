"""The numbers and charts of the page: a few detections, which a reader can count."""

from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
from support.made_up import Found, Object, detections, truth
from torch import nn

from ssd_lib.evaluate.analysis import Analysis, analyse
from ssd_lib.evaluate.error_kinds import KINDS
from ssd_lib.evaluate.page.inputs import PageInput
from ssd_lib.evaluate.page.sections import (
    MATRIX_CLASSES,
    METRICS,
    classes_section,
    confusion_section,
    curves_section,
    lost_section,
    run_section,
    scores_section,
    sizes_section,
    summary_section,
)
from ssd_lib.evaluate.page.words import TITLES
from ssd_lib.report.elements import Bars, Lines, Matrix, Section, Table, Text

A, B, C, CROWD, NOWHERE = (0, 0, 10, 10), (40, 0, 50, 10), (0, 40, 12, 67), (60, 60, 100, 100), (80, 80, 90, 90)
OBJECTS = [Object(0, A), Object(0, B), Object(0, C, 2), Object(0, CROWD, is_crowd=True), Object(1, A, 2)]
# Thresholds: 0.725 for class 1 and 0.45 for class 2, half-way to the next score. Right are A and C; B is taken for class 2, and
# A of image 1 is missed.
FOUND = [Found(0.97, 0, (70, 70, 80, 80)), Found(0.95, 0, A), Found(0.9, 0, B, 2), Found(0.85, 0, C, 2),
         Found(0.5, 0, A), Found(0.05, 1, NOWHERE, 2)]
E = TypeVar("E")


def given(analysis: Analysis | None = None, **values: Any) -> PageInput:
    """Return the input of the page: precision is the same at all recalls, for IoU 0.5 another one in each class."""
    of_image = analysis or analyse(truth(*OBJECTS, classes=3), detections(*FOUND))
    precision = np.full((10, 101, 3, 4, 3), 0.9)
    precision[0, :, :, 0, -1] = 0.5, 0.25, -1
    precision[:, :, 2] = -1  # it has no objects
    metrics: dict[str, Any] = {name: at / 10 for at, name in enumerate((*METRICS, "APs", "APm", "APl"))}
    metrics["class"] = {"class 1": 0.4, "class 2": 0.125, "class 3": None}
    model: Any = SimpleNamespace(spec=SimpleNamespace(net="mb2-ssd-lite", image_size=320, class_names=("a", "b", "c")),
                                 net=nn.Linear(999, 2), about={})
    filled: dict[str, Any] = {"metrics": metrics, "precision": precision, "areas": np.zeros(5), "model": model, "dataset": None}
    return PageInput(of_image, device="cpu", **filled | values)


def every(section: Section, kind: type[E]) -> list[E]:
    return [element for element in section.elements if isinstance(element, kind)]


def words(section: Section) -> str:
    return " ".join(text.text for text in every(section, Text))


def test_the_summary_counts_objects_and_the_detections_that_people_are_shown_without_crowds() -> None:
    section = summary_section(given())
    assert "Finds 50.0 % of the objects; 66.7 % of its detections are right. On 2 validation images with 4 objects" in (
        words(section))
    assert [row[:2] for row in every(section, Table)[0].rows] == [
        ("AP", "0.000"), ("AP50", "0.100"), ("AP75", "0.200"), ("AR100", "0.300"), ("VOC07", "0.400")]


def test_classes_have_their_own_figures_and_the_worst_ap50_is_first() -> None:
    table, = every(classes_section(given(train_objects=np.array([70, 80, 90]))), Table)
    assert table.rows == [("class 2", "0.125", "0.250", "50.0 %", "50.0 %", "0.450", "2", "80"),
                          ("class 1", "0.400", "0.500", "100.0 %", "50.0 %", "0.725", "2", "70"),
                          ("class 3", "–", "–", "–", "–", "–", "0", "90")]
    assert [row[-1] for row in every(classes_section(given()), Table)[0].rows] == ["–"] * 3


def test_the_confusion_has_objects_in_rows_and_pairs_of_classes_below() -> None:
    section = confusion_section(given())
    matrix, = every(section, Matrix)
    assert (matrix.row_title, matrix.column_title) == ("object", "detected as")
    assert matrix.names == ["class 1", "class 2", "class 3", "background"]
    assert matrix.counts == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert every(section, Table)[0].rows == [("class 1", "class 2", "1")]  # what is missed is no pair
    assert "with the most errors" not in words(section)  # all classes are shown


def test_of_many_classes_those_with_the_most_errors_are_shown_in_their_order() -> None:
    classes = MATRIX_CLASSES + 3
    confused = np.diag(np.arange(1, classes + 2))
    confused[MATRIX_CLASSES + 1, 2] = 5  # an object of the last class but one is taken for the third class
    confused[classes, MATRIX_CLASSES + 2] = 4  # detections of the last class on the background
    many = analyse(truth(classes=classes), detections())._replace(confused=confused)
    section = confusion_section(given(many))
    shown = [*range(1, MATRIX_CLASSES - 1), MATRIX_CLASSES + 2, MATRIX_CLASSES + 3]
    matrix, = every(section, Matrix)
    assert matrix.names == [*(f"class {k}" for k in shown), "background"]
    assert [row[at] for at, row in enumerate(matrix.counts)] == [*shown, classes + 1]
    assert f"The {MATRIX_CLASSES} classes with the most errors are shown" in words(section)


def test_kinds_of_errors_are_counted_and_the_costliest_is_first() -> None:
    page = given()
    lost = dict(zip(KINDS, (0.1, 0.0, float("nan"), 0.02, 0.3, 0.2), strict=True))
    rows = every(lost_section(page._replace(analysis=page.analysis._replace(lost=lost))), Table)[0].rows
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (TITLES[4], "0", "0.300"), (TITLES[5], "1", "0.200"), (TITLES[0], "1", "0.100"), (TITLES[3], "0", "0.020"),
        (TITLES[1], "0", "0.000"), (TITLES[2], "0", "–")]


def test_objects_are_counted_by_their_area_in_the_image_and_by_their_side_in_the_input() -> None:
    priors = {"by_side_px": [{"from": 16, "recall": 0.75}, {"from": 32, "recall": 0.5}]}
    areas = np.array([32 ** 2 - 1, 32 ** 2, 96 ** 2 - 1, 96 ** 2, 96 ** 2])
    small = Object(0, (20, 20, 30, 29.5))  # 9.7 px of 100, so 31.2 of 320
    analysis = analyse(truth(*OBJECTS[:2], small, *OBJECTS[2:], classes=3), detections(*FOUND))
    by_area, by_side = every(sizes_section(given(analysis, areas=areas, priors=priors)), Table)
    assert [row[1:] for row in by_area.rows] == [("1", "0.500"), ("2", "0.600"), ("2", "0.700")]
    assert by_side.head[0] == "side in the net's input of 320 px"
    assert by_side.rows == [("16 to 32 px", "1", "0.0 %", "75.0 %"), ("32 to 64 px", "4", "50.0 %", "50.0 %")]


def test_right_and_wrong_detections_are_counted_by_score_without_those_of_crowds() -> None:
    section = scores_section(given())
    assert "0 right detections and 1 wrong ones" in words(section)
    bars, = every(section, Bars)
    found = {name: {label: count for label, count in zip(bars.labels, counts, strict=True) if count}
             for name, counts in bars.series.items()}
    assert found == {"right": {"0.8 to 0.9": 1, "0.9 to 1": 1}, "wrong": {"0.5 to 0.6": 1, "0.9 to 1": 1}}
    assert every(section, Table)[0].rows[-2:] == [("0.8 to 0.9", "1", "0", "100.0 %"), ("0.9 to 1", "1", "1", "50.0 %")]


def test_curves_are_those_of_each_iou_and_of_the_epochs() -> None:
    history = [{"train_loss": 9}, {"epoch": 1, "train_loss": 4, "val_loss": 5},
               {"epoch": 2, "train_loss": 2, "val_loss": 3, "AP": 0.1, "AP50": 0.3},
               {"epoch": 3, "train_loss": 1, "val_loss": 2, "AP": 0.2, "AP50": 0.4}]
    precision, loss, ap = every(curves_section(given(history=history)), Lines)
    assert {name: points[50] for name, points in precision.series.items()} == {
        "IoU 0.50": (0.5, pytest.approx(0.375)), "IoU 0.75": (0.5, pytest.approx(0.9)),
        "IoU 0.50 to 0.95": (0.5, pytest.approx((0.375 + 9 * 0.9) / 10))}
    assert loss.series == {"training": [(1, 4), (2, 2), (3, 1)], "validation": [(1, 5), (2, 3), (3, 2)]}
    assert ap.series == {"AP50": [(2, 0.3), (3, 0.4)], "AP": [(2, 0.1), (3, 0.2)]}
    assert len(every(curves_section(given(history=history[:2])), Lines)) == 1  # one epoch is no line


def test_the_run_has_its_epochs_time_and_parameters() -> None:
    history = [{"epoch": 1, "seconds": 60, "images_per_s": 10}, {"epoch": 2, "seconds": 90, "images_per_s": 12.5}]
    page = given(history=history)
    page.model.about.update(fingerprint="f00d", params={"train": {"lr": 0.1}, "export": {"nms": True}})
    about, params = every(run_section(page), Table)
    rows = dict(about.rows)  # type: ignore[arg-type]
    assert (rows["parameters"], rows["epochs"], rows["training time"], rows["images/s in training"], rows["run"]) == (
        "2,000", "2", "2.5 minutes", "12.500", "f00d")
    assert params.rows == [("train.lr", "0.1")]
    assert dict(every(run_section(given()), Table)[0].rows)["epochs"] == "not known"  # type: ignore[arg-type]
