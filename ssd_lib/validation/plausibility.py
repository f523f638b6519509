"""Judge the boxes of a part as a whole: whether its numbers look like another reading, such as corners in place of sizes.

A single odd box is a fault of that box, see `ssd_lib.validation.annotations`. Where many boxes do not fit their images, and
nearly all of them do when they are read in another way, the whole part is meant so; training on it would learn wrong boxes.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations
from ssd_lib.params import Format

FEWEST_BOXES = 4  # of fewer boxes nothing is said
SAMPLE = 20_000  # boxes that are looked at
MISFIT_SHARE = 0.1  # of the boxes must not fit, and two at least
OTHER_MISFITS = 0.05  # of the boxes may not fit in the other reading
SIDE_SLACK, SLACK_PX = 0.1, 2.0  # annotators overshoot: by a share of the box's side, and by pixels
FEWEST_OF_PERCENT = 8  # boxes in percent look like small ones in pixels; of fewer nothing is said
SMALL_REACH = 0.5  # of the image that some box must reach, for other units to be plausible
ORDERS = {
    "xyxy": "corners (x1, y1, x2, y2)",
    "xywh": "a top left corner with width and height (x, y, width, height)",
    "cxcywh": "a centre with width and height (cx, cy, width, height)",
    "yxyx": "corners with y before x (y1, x1, y2, x2)",
    "yxhw": "swapped axes (y, x, height, width)",
    "cycxhw": "a centre with swapped axes (cy, cx, height, width)",
    "xxyy": "corners in the order (x1, x2, y1, y2)",
}
UNITS = {"pixels": "pixels", "fractions": "fractions of the image, 0 to 1", "percent": "percent of the image, 0 to 100",
         "thousandths": "thousandths of the image, 0 to 1000"}
DECLARED = {"coco": ("xywh", "pixels"), "voc": ("xyxy", "pixels"), "yolo": ("cxcywh", "fractions"),
            "open_images": ("xyxy", "fractions")}  # how each format is read


def judge_part(annotations: Annotations, form: Format, split: str, where: str) -> Iterator[Fault]:
    """Yield a fault if the numbers of a part look like another reading than that of its format.

    Args:
        annotations: of the part.
        form: its format.
        split: the name of its split.
        where: its annotation file, or "" if it has a file for each image.
    """
    owners = annotations.image_indices()
    sizes = annotations.images.sizes[owners] if len(annotations.images) else np.zeros((len(owners), 2))
    usable = np.flatnonzero((owners >= 0) & (sizes > 0).all(axis=1) & np.isfinite(annotations.boxes.xywh).all(axis=1))
    if len(usable) < FEWEST_BOXES:
        return
    rows = usable[np.unique(np.linspace(0, len(usable) - 1, min(len(usable), SAMPLE)).astype(np.int64))]
    size, declared = sizes[rows].astype(np.float64), DECLARED[form]
    numbers = _numbers_of_file(annotations, rows, size, form)
    misfits = ~_fits(_corners(numbers, declared, size), size)
    other = _other_reading(numbers, size, declared, misfits)
    if other is None:
        return
    row = rows[int(np.argmax(misfits))]
    fitting = int(_fits(_corners(numbers, other, size), size).sum())
    what = " and ".join(text for text in (
        ORDERS[other[0]] if other[0] != declared[0] else "", UNITS[other[1]] if other[1] != declared[1] else "") if text)
    meant = " and ".join(text for text in (
        ORDERS[declared[0]] if other[0] != declared[0] else "", UNITS[declared[1]] if other[1] != declared[1] else "") if text)
    shown = ", ".join(f"{number:.6g}" for number in numbers[int(np.argmax(misfits))])
    yield Fault("implausible_boxes", (split, where or form),
                f"{split}: the boxes{f' of {where}' if where else ''} look like {what}; {form} has {meant}. So read "
                f"{fitting:,} of {len(rows):,} boxes fit into their "
                f"images{f', as {form} {int((~misfits).sum()):,}' if misfits.any() else ''}. An example is "
                f"{annotations.name_box(int(row), int(owners[row]))}: {shown}",
                annotations.images.file_names[owners[row]], tuple(annotations.boxes.xywh[row].tolist()))


def _numbers_of_file(annotations: Annotations, rows: np.ndarray, size: np.ndarray, form: Format) -> np.ndarray:
    """Return (N, 4) the numbers of boxes as their files have them."""
    low, sides = annotations.boxes.xywh[rows, :2], annotations.boxes.xywh[rows, 2:]
    if form == "coco":
        return np.concatenate([low, sides], axis=1)
    if form == "voc":
        return np.concatenate([low + int(annotations.info.get("voc_pixels_from", "0")), low + sides], axis=1)
    if form == "yolo":
        return np.concatenate([(low + sides / 2) / size, sides / size], axis=1)
    return np.concatenate([low / size, (low + sides) / size], axis=1)


def _corners(numbers: np.ndarray, reading: tuple[str, str], size: np.ndarray) -> np.ndarray:
    """Return (N, 4) xyxy in pixels of numbers in a reading, an order and a unit."""
    order, unit = reading
    a, b, c, d = numbers.T
    if order.lstrip("c")[0] == "y":
        a, b, c, d = b, a, d, c
    if order == "xxyy":
        b, c = c, b
    if order in ("xywh", "yxhw"):
        c, d = a + c, b + d
    elif order in ("cxcywh", "cycxhw"):
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return np.stack([a, b, c, d], axis=1) * np.tile(_scale(unit, size), 2)


def _scale(unit: str, size: np.ndarray) -> np.ndarray:
    """Return (N, 2) the pixels of one unit in each image."""
    return {"pixels": np.ones_like(size), "fractions": size, "percent": size / 100, "thousandths": size / 1000}[unit]


def _fits(corners: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (N,) bool: which boxes have positive sides and lie in their images, but for what annotators overshoot."""
    low, high = corners[:, :2], corners[:, 2:]
    slack = SLACK_PX + SIDE_SLACK * np.abs(high - low)
    return ((high > low) & (low >= -slack) & (high <= size + slack)).all(axis=1)


def _ends_at_100(corners: np.ndarray, size: np.ndarray) -> bool:
    """Whether boxes of images that are much larger come near 100 on both axes, and never go beyond."""
    high = corners[:, 2:].max(axis=0)
    return bool(((size >= 200).mean(axis=0) >= 0.9).all() and ((high >= 95) & (high <= 101)).all())


def _other_reading(numbers: np.ndarray, size: np.ndarray, declared: tuple[str, str],
                   misfits: np.ndarray) -> tuple[str, str] | None:
    """Return the likeliest reading if the declared one is implausible, else None."""
    order, unit = declared
    if unit == "pixels" and (np.abs(numbers).max(axis=1) <= 1.001).mean() >= 1 - OTHER_MISFITS:
        candidates = [(other, "fractions") for other in (order, *ORDERS)]
    elif unit == "pixels" and len(numbers) >= FEWEST_OF_PERCENT and _ends_at_100(_corners(numbers, declared, size), size):
        candidates = [(order, "percent")]
    elif misfits.sum() >= 2 and misfits.mean() >= MISFIT_SHARE:
        same_unit = ((other, unit) for other in ORDERS if other != order)
        units = sorted(UNITS, key=lambda other: -_scale(other, size).mean())  # the largest that fits is the likeliest
        same_order = ((order, other) for other in units if other != unit)
        both = ((one, other) for other in units for one in ORDERS if one != order and other != unit)
        candidates = list(chain(same_unit, same_order, both))
    else:
        return None
    for reading in candidates:
        corners = _corners(numbers, reading, size)
        reaches = reading[1] == unit or (corners[:, 2:] / size).max() >= SMALL_REACH
        if reaches and _fits(corners, size).mean() >= 1 - OTHER_MISFITS:
            return reading
    return None
