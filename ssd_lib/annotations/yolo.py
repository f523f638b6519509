"""The YOLO format: a text file for each image with a line `class cx cy w h` for each object, relative to the image's size."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.files import encoding_of, parse_number, read_label_file
from ssd_lib.annotations.table import LABEL_ROW, Category, Images, ParsedPart, annotations_from_rows, rows_in_pixels
from ssd_lib.errors import InputError
from ssd_lib.images import read_sizes
from ssd_lib.manifest import Manifest, Part, PartKey

POSE_SAMPLE = 2000  # lines that are looked at, to tell pose labels from outlines
POSE_SLACK = 0.02  # points may leave their box by this much, [0, 1]
LINE_FORMAT = "a line is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for an outline"
LARGEST_CLASS = 10**9  # a larger class number is an error in the file


class YoloRow(NamedTuple):
    """One object; its box as fractions of the image's width and height, [0, 1]."""

    line: int
    class_number: int
    cx: float
    cy: float
    width: float
    height: float


def read_parts(manifest: Manifest) -> dict[PartKey, ParsedPart]:
    """Read all parts of format yolo; images are sorted by name, classes keep their numbers.

    Guarantees: boxes are in pixels of the upright image, rounded as `rows_in_pixels` does. An image of unknown size has size
    (0, 0) and no boxes; validation reports it. Of pose labels (`kpt_shape`) the box of each line is read.

    Raises:
        InputError: the lines of a part look like pose labels, and the YAML file has no `kpt_shape`.
    """
    return {key: _read_part(manifest, part, key[0]) for key, part in manifest.parts("yolo").items()}


def parse_file(data: bytes, where: str, keypoints: tuple[int, int] | None = None,
               outlines: list[tuple[str, list[float]]] | None = None) -> list[YoloRow]:
    """Parse one label file; an empty one has no objects.

    Guarantees: an outline, or the four corners of a rotated box, becomes its bounding box; a track id after the box, a whole
    number, is dropped. NaN, infinity and boxes beyond the image are accepted, and left for
    validation to report.

    Args:
        data: UTF-8 text, with or without byte order mark, or UTF-16 with one; lines end with LF, CR LF or CR.
        where: the name of the file, for errors.
        keypoints: number of points and of values for each that follow every box; None for labels without.
        outlines: the lines with more values than a box are appended to it, up to POSE_SAMPLE; None drops them.

    Raises:
        InputError: it is not such a file; names the line.
    """
    text = _decode(data, where).replace("\r\n", "\n").replace("\r", "\n")
    return [_parse_line(values, number, f"{where}: line {number}", keypoints, outlines)
            for number, line in enumerate(text.split("\n"), 1) if (values := line.split())]


def _read_part(manifest: Manifest, part: Part, split: str) -> ParsedPart:
    folder, names = manifest.path(""), sorted(part.pairs)
    rows, faults = _read_rows(folder, part, split, names)
    sizes = read_sizes(folder / name for name in names)
    images = Images(np.arange(1, len(names) + 1), tuple(names), sizes)
    categories = tuple(Category(int(number), name, int(number)) for number, name in part.class_names.items())
    return ParsedPart(annotations_from_rows(images, rows_in_pixels(rows, sizes), categories, "line", part.pairs), faults)


def _read_rows(folder: Path, part: Part, split: str, names: list[str]) -> tuple[np.ndarray, tuple[Fault, ...]]:
    """Return the objects of the images as LABEL_ROW with relative boxes, and the label files that cannot be read."""
    faults = []
    outlines: list[tuple[str, list[float]]] = []

    def rows() -> Iterator[tuple]:
        for image, name in enumerate(names):
            file = part.pairs[name]
            try:
                found = parse_file(read_label_file(folder, file), file, part.keypoints, outlines) if file else []
            except InputError as error:
                faults.append(Fault("broken_labels", (split, name), str(error), image=name))
                continue
            for line, number, cx, cy, width, height in found:
                yield image, number, (cx - width / 2, cy - height / 2, width, height), False, line

    table = np.fromiter(rows(), LABEL_ROW)
    _refuse_pose(folder, outlines)
    return table, tuple(faults)


def _refuse_pose(folder: Path, outlines: list[tuple[str, list[float]]]) -> None:
    """Refuse lines that would be read as outlines, but are boxes with points in them."""
    if shape := _pose_shape([values for _, values in outlines]):
        where, values = outlines[0]
        raise InputError(f"{folder / where} has {len(values) + 1} values; all {len(outlines)} such lines look like pose "
                         f"labels, a box and {shape[0]} points in it, not like outlines, and there is no kpt_shape. Write "
                         f"`kpt_shape: [{shape[0]}, {shape[1]}]` into the YAML file, and the box of each line is read.")


def _pose_shape(lines: list[list[float]]) -> tuple[int, int] | None:
    """Return the shape of the points if lines look like pose labels rather than outlines, else None.

    All of them have the same length, and their points lie in the box that the first four values describe. That is so for many
    small outlines too, but there width and height, read as the second point, lie among the other points.
    """
    if not lines or len({len(values) for values in lines}) > 1:
        return None
    table = np.array(lines)
    for size in (3, 2):
        count, rest = divmod(table.shape[1] - 4, size)
        if rest or count < 1 or (count == 1 and len(table) < 5):
            continue
        points = table[:, 4:].reshape(len(table), count, size)
        if size == 3 and not np.isin(points[..., 2], (0, 1, 2)).all():
            continue
        is_seen = (points[..., :2] != 0).any(axis=2)
        centre, sides = table[:, None, :2], table[:, None, 2:4]
        is_inside = (np.abs(points[..., :2] - centre) <= sides / 2 + POSE_SLACK).all(axis=2) | ~is_seen
        others = np.concatenate([centre, np.where(is_seen[..., None], points[..., :2], centre)], axis=1)
        low, high = others.min(axis=1), others.max(axis=1)
        is_far = ((sides[:, 0] < 2 * low - high) | (sides[:, 0] > 2 * high - low)).any(axis=1)
        if is_inside.all(axis=1).mean() >= 0.9 and (size == 3 or is_far.mean() >= (0.2 if count > 3 else 0.5)):
            return count, size
    return None


def _decode(data: bytes, where: str) -> str:
    try:
        text = data.decode(encoding_of(data))
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n?|\n", data[:error.start]))
        raise InputError(f"{where}: line {line} has the byte 0x{data[error.start]:02x}, which is not UTF-8; labels are plain "
                         "text. Is it another file?") from error
    if "\0" in text:
        line = 1 + len(re.findall(r"\r\n?|\n", text[:text.index("\0")]))
        raise InputError(f"{where}: line {line} has a zero byte; labels are plain text. Is it another file?")
    return text


def _parse_line(values: list[str], line: int, where: str, keypoints: tuple[int, int] | None,
                outlines: list[tuple[str, list[float]]] | None) -> YoloRow:
    if keypoints is None:
        values = _without_track_id(values, where)
        if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
            hint = " Pose labels need `kpt_shape` in the YAML file." if len(values) > 7 and (len(values) - 5) % 3 == 0 else ""
            raise InputError(f"{where} has {len(values)} value{'s'[:len(values) > 1]}, {' '.join(values)!r:.60}; "
                             f"{LINE_FORMAT}. Correct it.{hint}")
    elif len(values) != 5 + math.prod(keypoints):
        raise InputError(f"{where} has {len(values)} value{'s'[:len(values) > 1]}, {' '.join(values)!r:.60}; with kpt_shape "
                         f"{list(keypoints)} a line is `class cx cy w h` and {keypoints[0]} x {keypoints[1]} values, "
                         f"{5 + math.prod(keypoints)} in all. Correct the line or kpt_shape.")
    numbers = [parse_number(value) for value in values]
    fractions = [number for number in numbers if number is not None]
    if len(fractions) < len(numbers):
        raise InputError(f"{where} has {values[numbers.index(None)]!r:.60}; {LINE_FORMAT}, all numbers. Correct it.")
    if keypoints is not None:
        fractions = fractions[:5]
    elif len(fractions) > 5 and outlines is not None and len(outlines) < POSE_SAMPLE:
        outlines.append((where, fractions[1:]))
    return YoloRow(line, _class_number(fractions[0], values[0], where), *_box(fractions[1:]))


def _without_track_id(values: list[str], where: str) -> list[str]:
    """Return the values of a line without a track id, a whole number after the box.

    Raises:
        InputError: the values are a prediction, with a confidence, and perhaps a track id after it.
    """
    if len(values) == 6 and values[5].isascii() and values[5].isdigit():
        return values[:5]
    if len(values) == 6 and None not in map(parse_number, values):
        raise InputError(f"{where} has 6 values; {LINE_FORMAT}. With a confidence at the end these are "
                         "predictions, not labels.")
    if len(values) == 7 and values[6].isascii() and values[6].isdigit() and int(values[6][:9]) > 1:
        raise InputError(f"{where} has 7 values, the last is {values[6]!r:.20}; {LINE_FORMAT}. With a confidence and a track "
                         f"id at the end these are predictions, not labels.")
    return values


def _class_number(number: float, text: str, where: str) -> int:
    if not number.is_integer() or abs(number) > LARGEST_CLASS:
        raise InputError(f"{where} has the class {text!r:.60}; it must be a whole number, an index of the class names. "
                         "Correct it.")
    return int(number)


def _box(fractions: list[float]) -> tuple[float, float, float, float]:
    """Return (cx, cy, width, height), of four such numbers or of the points of an outline."""
    if len(fractions) == 4:
        cx, cy, width, height = fractions
        return cx, cy, width, height
    if not all(map(math.isfinite, fractions)):
        return math.nan, math.nan, math.nan, math.nan
    left, right, top, bottom = min(fractions[::2]), max(fractions[::2]), min(fractions[1::2]), max(fractions[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
