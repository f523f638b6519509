"""YOLO's labels: a text file for each image, a line for each object: `class cx cy w h`, in shares of the image."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.image_size import read_sizes
from ssd_lib.annotations.label_files import ROW, join_rows, known_sizes, parse_number, read_labels, rows_in_pixels
from ssd_lib.annotations.table import Category, Images, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Part, Place

FORM = "a line is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for an outline"
LARGEST_CLASS = 10**9  # there are no more classes than that; a larger number is a slip


class YoloRow(NamedTuple):
    """One object; its box as shares of the image's width and height, [0, 1]."""

    line: int
    class_number: int
    cx: float
    cy: float
    width: float
    height: float


def read_yolo(manifest: Manifest) -> dict[Place, ParsedPart]:
    """The annotations of all parts of format yolo, images in the order of their names; classes keep their numbers.

    Guarantees: pixels as stored, rounded as `rows_in_pixels` says. An image whose size cannot be read has size (0, 0) and no
    boxes: `image_checks` says why. The same line twice is two objects.
    """
    return {place: _read_part(manifest, part, place[0]) for place, part in manifest.parts("yolo").items()}


def parse_yolo(data: bytes, where: str) -> list[YoloRow]:
    """The objects of a label file; none where it is empty.

    Guarantees: an outline becomes the smallest box around it. NaN, infinity and boxes beyond the image pass, for `checks` to name.

    Args:
        data: UTF-8 text, with or without byte order mark; lines may end as on Unix, Windows or an old Mac.
        where: names the file in errors.

    Raises:
        InputError: it is no such file; the line is named.
    """
    text = _decode(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), where)
    return [_parse_line(values, number, f"{where}: line {number}")
            for number, line in enumerate(text.split("\n"), 1) if (values := line.split())]


def _read_part(manifest: Manifest, part: Part, split: str) -> ParsedPart:
    folder, names = manifest.path(""), sorted(part.pairs)
    rows, faults = _read_rows(folder, part, split, names)
    sizes = known_sizes(read_sizes(folder / name for name in names))
    images = Images(np.arange(1, len(names) + 1), tuple(names), sizes)
    categories = tuple(Category(int(number), name, int(number)) for number, name in part.class_names.items())
    return ParsedPart(join_rows(images, rows_in_pixels(rows, sizes), categories, "line", part.pairs), faults)


def _read_rows(folder: Path, part: Part, split: str, names: list[str]) -> tuple[np.ndarray, tuple[Fault, ...]]:
    """The objects of the images as `ROW`, in shares of their image, and the files that are broken."""
    faults = []

    def rows() -> Iterator[tuple]:
        for owner, name in enumerate(names):
            file = part.pairs[name]
            try:
                found = parse_yolo(read_labels(folder, file), file) if file else []
            except InputError as error:
                faults.append(Fault("broken_labels", (split, name), str(error), image=name))
                continue
            for line, number, cx, cy, width, height in found:
                yield owner, number, (cx - width / 2, cy - height / 2, width, height), False, line

    return np.fromiter(rows(), ROW), tuple(faults)


def _decode(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise InputError(f"{where}: line {line} has the byte 0x{data[error.start]:02x}, which is not UTF-8; labels are plain "
                         "text. Is it another file?") from error
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise InputError(f"{where}: line {line} has a zero byte; labels are plain text. Is it another file?")
    return text


def _parse_line(values: list[str], line: int, where: str) -> YoloRow:
    if len(values) == 6:
        raise InputError(f"{where} has 6 values; {FORM}. With a confidence at the end these are predictions, not labels.")
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise InputError(f"{where} has {len(values)} value{'s'[:len(values) > 1]}, {' '.join(values)!r:.60}; {FORM}.")
    numbers = [parse_number(value) for value in values]
    shares = [number for number in numbers if number is not None]
    if len(shares) < len(numbers):
        raise InputError(f"{where} has {values[numbers.index(None)]!r:.60}; {FORM}, all numbers.")
    return YoloRow(line, _class_number(shares[0], values[0], where), *_box(shares[1:]))


def _class_number(number: float, text: str, where: str) -> int:
    if not number.is_integer() or abs(number) > LARGEST_CLASS:
        raise InputError(f"{where} has the class {text!r:.60}; it must be a whole number of the list of names.")
    return int(number)


def _box(shares: list[float]) -> tuple[float, float, float, float]:
    """(cx, cy, width, height) of such four, or around an outline."""
    if len(shares) == 4:
        cx, cy, width, height = shares
        return cx, cy, width, height
    if not all(map(math.isfinite, shares)):
        return math.nan, math.nan, math.nan, math.nan
    left, right, top, bottom = min(shares[::2]), max(shares[::2]), min(shares[1::2]), max(shares[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
