"""A dataset without faults, and one with several kinds."""

from pathlib import Path

import pytest
from support.report_data import MARKUP_NAME, ReportInput, boxes_on, check_files, png_bytes

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Category, Image, from_rows


@pytest.fixture
def sound(tmp_path: Path) -> ReportInput:
    """Return twenty images of train and one of val, each with a box, without faults."""
    names = [f"train/{at}.png" for at in range(20)]
    train = from_rows([Image(at + 1, name, 60, 40) for at, name in enumerate(names)], boxes_on(20, 1), [Category(1, "cat", 1)])
    val = from_rows([Image(1, "val/a.png", 60, 40)], boxes_on(1, 1), [Category(1, "cat", 1)])
    contents = {name: png_bytes(at) for at, name in enumerate([*names, "val/a.png"])}
    return check_files(tmp_path, contents, {"train": train, "val": val}, [])


@pytest.fixture
def faulty(tmp_path: Path) -> ReportInput:
    """Return images and boxes with faults; a box leaves the image MARKUP_NAME."""
    names = ["train/0.png", "train/1.png", "train/page.png", "train/gone.png", MARKUP_NAME]
    train = from_rows([Image(at + 1, name, 60, 40) for at, name in enumerate(names)], boxes_on(5, 1),
                      [Category(1, "cat <script>", 1), Category(2, "owl", 2)])
    val = from_rows([Image(1, "val/a.png", 60, 40)], boxes_on(1, 1), [Category(1, "owl", 1)])
    faults = [Fault("partly_outside", ("train", 4), f"train: annotation 5 of '{MARKUP_NAME}': too far right", MARKUP_NAME,
                    (50, 30, 20, 20)),
              Fault("non_finite", ("train", 3), "train: annotation 1 of 'train/0.png': bbox [nan]", "train/0.png",
                    (float("nan"), 0, 5, 5)),
              Fault("untrained_category", ("val", 1), "val: category 1 'owl' has boxes in val and none in train")]
    contents = {"train/0.png": png_bytes(0), "train/1.png": png_bytes(0), "train/page.png": b"<!doctype html><p>404",
                MARKUP_NAME: png_bytes(1), "val/a.png": png_bytes(1)}
    return check_files(tmp_path, contents, {"train": train, "val": val}, faults)
