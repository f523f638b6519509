"""Precision-recall curves and the confusion of classes as tables."""

import csv
from pathlib import Path

import numpy as np
import pytest

from ssd_lib.evaluate.curves import draw_curves, write_class_curves, write_confusion, write_curves


@pytest.fixture
def precision() -> np.ndarray:
    """Return three classes: found perfectly; found to a recall of 0.5, at an IoU of 0.5 alone; without ground truth."""
    values = np.zeros((10, 101, 3, 4, 3))
    values[:, :, 0] = 1
    values[0, :51, 1] = 1
    values[:, :, 2] = -1
    return values


def test_the_table_is_the_mean_of_the_classes_that_have_ground_truth(tmp_path: Path, precision: np.ndarray) -> None:
    write_curves(tmp_path / "pr.csv", precision)
    lines = (tmp_path / "pr.csv").read_text().splitlines()
    assert lines[0] == "recall,IoU 0.50,IoU 0.75,IoU 0.50 to 0.95"
    assert len(lines) == 102
    assert lines[1] == "0.0000,1.0000,0.5000,0.5500"
    assert lines[-1] == "1.0000,0.5000,0.5000,0.5000"


def test_without_any_ground_truth_the_curve_is_zero(tmp_path: Path) -> None:
    write_curves(tmp_path / "pr.csv", np.full((10, 101, 2, 4, 3), -1.0))
    assert (tmp_path / "pr.csv").read_text().splitlines()[1] == "0.0000,0.0000,0.0000,0.0000"


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_the_image_is_the_same_bytes_twice(tmp_path: Path, precision: np.ndarray, classes: int) -> None:
    values = precision[:, :, np.arange(classes) % 3]
    names = tuple(f"class {k}" for k in range(classes))
    for file in ("a.png", "b.png"):
        draw_curves(tmp_path / file, values, names)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["$x^{", "a $\\frac$ b", "\x1b[31mred", "\ud800", "n" * 100_000, "\u202eab", "<b>&amp;"])
def test_any_class_name_can_be_drawn(tmp_path: Path, precision: np.ndarray, name: str) -> None:
    draw_curves(tmp_path / "a.png", precision, (name, "b", "c"))
    assert (tmp_path / "a.png").stat().st_size < 300_000


def test_the_confusion_has_a_row_for_each_object_and_wrong_detection(tmp_path: Path) -> None:
    write_confusion(tmp_path / "confusion.csv", np.array([[2, 1], [0, 0]]), ("a,\x1b",))
    assert (tmp_path / "confusion.csv").read_text().splitlines() == [
        "actual,predicted", *['"a,\\x1b","a,\\x1b"'] * 2, '"a,\\x1b",BACKGROUND']


def test_the_curve_of_each_class_with_objects_is_a_table(tmp_path: Path) -> None:
    precision = np.full((10, 101, 3, 1, 1), -1.0)
    precision[0, :, 0], precision[1:, :, 0] = np.linspace(1, 0, 101)[:, None, None], 0.25
    precision[:, :, 2] = 0.5
    write_class_curves(tmp_path / "pr_classes.csv", precision, ("a,\x1b", "without objects", "c"))
    rows = list(csv.reader((tmp_path / "pr_classes.csv").open()))
    assert rows[:3] == [["class", "recall", "precision"], ["a,\\x1b", "0.00", "1.0000"], ["a,\\x1b", "0.02", "0.9800"]]
    assert rows[-1] == ["c", "1.00", "0.5000"]
    assert len(rows) == 1 + 2 * 51
