"""A healthy data set and one with a fault of many a kind."""

from pathlib import Path

import pytest
from support.report_data import NASTY, Patient, a_png, boxes_on, examine

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Category, Image, from_rows


@pytest.fixture
def healthy(tmp_path: Path) -> Patient:
    """Twenty images of train, one of val, a box on each, no fault."""
    names = [f"train/{at}.png" for at in range(20)]
    train = from_rows([Image(at + 1, name, 60, 40) for at, name in enumerate(names)], boxes_on(20, 1), [Category(1, "cat", 1)])
    val = from_rows([Image(1, "val/a.png", 60, 40)], boxes_on(1, 1), [Category(1, "cat", 1)])
    contents = {name: a_png(at) for at, name in enumerate([*names, "val/a.png"])}
    return examine(tmp_path, contents, {"train": train, "val": val}, [])


@pytest.fixture
def ill(tmp_path: Path) -> Patient:
    """Images and boxes with faults; NASTY has a box that leaves it."""
    names = ["train/0.png", "train/1.png", "train/page.png", "train/gone.png", NASTY]
    train = from_rows([Image(at + 1, name, 60, 40) for at, name in enumerate(names)], boxes_on(5, 1),
                      [Category(1, "cat <script>", 1), Category(2, "owl", 2)])
    val = from_rows([Image(1, "val/a.png", 60, 40)], boxes_on(1, 1), [Category(1, "owl", 1)])
    faults = [Fault("partly_outside", ("train", 4), f"train: annotation 5 of '{NASTY}': too far right", NASTY,
                    (50, 30, 20, 20)),
              Fault("non_finite", ("train", 3), "train: annotation 1 of 'train/0.png': bbox [nan]", "train/0.png",
                    (float("nan"), 0, 5, 5)),
              Fault("untrained_category", ("val", 1), "val: category 1 'owl' has boxes in val and none in train")]
    contents = {"train/0.png": a_png(0), "train/1.png": a_png(0), "train/page.png": b"<!doctype html><p>404", NASTY: a_png(1),
                "val/a.png": a_png(1)}
    return examine(tmp_path, contents, {"train": train, "val": val}, faults)
