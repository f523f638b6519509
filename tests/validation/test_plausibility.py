"""A part whose numbers look like another reading is named; sound, sloppy and small parts are not."""

from collections.abc import Callable

import numpy as np
import pytest

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.params import Format
from ssd_lib.validation.plausibility import DECLARED, judge_part

SIZES = [(640, 480), (500, 333), (333, 500), (1280, 720)]
Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


def objects(count: int, seed: int = 1, largest: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 4) xyxy in [0, 1], and the (N, 2) sizes of their images."""
    generator = np.random.default_rng(seed)
    sides = generator.uniform(0.1, largest, (count, 2))
    low = generator.uniform(0, 1, (count, 2)) * (1 - sides)
    return np.concatenate([low, low + sides], axis=1), np.array([SIZES[at % len(SIZES)] for at in range(count)])


def judge(form: Format, numbers: np.ndarray, sizes: np.ndarray) -> list[Fault]:
    """Read numbers as the format has them, and judge the part."""
    order, unit = DECLARED[form]
    a, b, c, d = (numbers * (np.tile(sizes, 2) if unit == "fractions" else 1)).T
    xywh = np.stack({"xywh": (a, b, c, d), "xyxy": (a, b, c - a, d - b), "cxcywh": (a - c / 2, b - d / 2, c, d)}[order], axis=1)
    images = [Image(at, f"{at}.jpg", *map(int, size)) for at, size in enumerate(sizes)]
    boxes = [Box(at, at, 1, *row, float("nan"), False) for at, row in enumerate(xywh.tolist())]
    annotations: Annotations = from_rows(images, boxes, [Category(1, "cat", 1)])
    return list(judge_part(annotations, form, "train", ""))


def as_order(order: str) -> Change:
    """Return a function from corners to numbers in another order, without a change of the unit."""
    def change(corners: np.ndarray, _: np.ndarray) -> np.ndarray:
        x1, y1, x2, y2 = corners.T
        w, h, cx, cy = x2 - x1, y2 - y1, (x1 + x2) / 2, (y1 + y2) / 2
        return np.stack({"xywh": (x1, y1, w, h), "xyxy": (x1, y1, x2, y2), "cxcywh": (cx, cy, w, h), "yxyx": (y1, x1, y2, x2),
                         "yxhw": (y1, x1, h, w), "xxyy": (x1, x2, y1, y2)}[order], axis=1)
    return change


def scaled(order: str, unit: str) -> Change:
    """Return a function from corners in [0, 1] to numbers in an order and a unit."""
    def change(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        scale = {"pixels": np.tile(sizes, 2), "fractions": 1, "percent": 100, "thousandths": 1000}[unit]
        return as_order(order)(corners * scale, sizes)
    return change


@pytest.mark.parametrize(("count", "faults"), [(8, 1), (7, 0)])
def test_percent_is_told_from_eight_boxes_on(count: int, faults: int) -> None:
    corners, sizes = objects(count)
    corners[0, 2:] = 0.99
    assert len(judge("coco", scaled("xywh", "percent")(corners, sizes), sizes)) == faults


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_percent_in_place_of_pixels_is_named_though_every_box_fits(form: Format) -> None:
    corners, sizes = objects(100)
    (fault,) = judge(form, scaled(DECLARED[form][0], "percent")(corners, sizes), sizes)
    assert "look like percent of the image, 0 to 100" in fault.text


@pytest.mark.parametrize("form", list(DECLARED))
@pytest.mark.parametrize("count", [4, 20, 200])
@pytest.mark.parametrize("largest", [0.2, 0.7, 1.0])
def test_sound_numbers_are_not_judged(form: Format, count: int, largest: float) -> None:
    for seed in range(20):
        corners, sizes = objects(count, seed, largest)
        assert judge(form, scaled(*DECLARED[form])(corners, sizes), sizes) == []


@pytest.mark.parametrize(("form", "order", "unit", "words"), [
    ("coco", "xyxy", "pixels", r"look like corners (x1, y1, x2, y2); coco has a top left corner with width and height"),
    ("coco", "cxcywh", "pixels", "look like a centre with width and height"),
    ("coco", "yxhw", "pixels", "look like swapped axes (y, x, height, width)"),
    ("coco", "xywh", "fractions", "look like fractions of the image, 0 to 1; coco has pixels"),
    ("coco", "xyxy", "fractions", "look like corners (x1, y1, x2, y2) and fractions of the image"),
    ("coco", "cxcywh", "fractions", "look like a centre with width and height (cx, cy, width, height) and fractions of the "
                                    "image"),
    ("voc", "xyxy", "fractions", "look like fractions of the image, 0 to 1; voc has pixels"),
    ("voc", "xywh", "pixels", "look like a top left corner with width and height (x, y, width, height); voc has corners"),
    ("voc", "yxyx", "pixels", "look like corners with y before x"),
    ("yolo", "cxcywh", "pixels", "look like pixels; yolo has fractions of the image, 0 to 1"),
    ("yolo", "cxcywh", "percent", "look like percent of the image, 0 to 100; yolo has fractions"),
    ("yolo", "xyxy", "fractions", "look like corners (x1, y1, x2, y2); yolo has a centre"),
    ("yolo", "xywh", "fractions", "look like a top left corner with width and height"),
    ("open_images", "xyxy", "pixels", "look like pixels; open_images has fractions"),
    ("open_images", "xyxy", "percent", "look like percent"),
])
@pytest.mark.parametrize("count", [12, 300])
def test_numbers_in_another_reading_are_named(form: Format, order: str, unit: str, words: str, count: int) -> None:
    for seed in range(5):
        corners, sizes = objects(count, seed)
        (fault,) = judge(form, scaled(order, unit)(corners, sizes), sizes)
        assert fault.kind == "implausible_boxes"
        assert words in fault.text


@pytest.mark.parametrize("form", list(DECLARED))
def test_single_odd_boxes_and_overshooting_annotators_are_not_judged(form: Format) -> None:
    corners, sizes = objects(40)
    corners[:4] *= (1, 1, 9, 9)
    corners[4:] += np.random.default_rng(1).normal(0, 0.01, (36, 4))
    assert judge(form, scaled(*DECLARED[form])(corners, sizes), sizes) == []


def test_of_fewer_than_four_boxes_nothing_is_said() -> None:
    corners, sizes = objects(3)
    assert judge("coco", scaled("xyxy", "pixels")(corners, sizes), sizes) == []
