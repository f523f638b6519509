"""Choose classes, rows and images from the text files of Open Images: pure functions over rows."""

import csv
import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ssd_lib.download.part_file import LineFilter
from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write

# The columns that all versions share, in this order; later versions add click columns at the end.
HEADER = b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
LABEL, GROUP_OF, DEPICTION = (HEADER.split(b",").index(name) for name in (b"LabelName", b"IsGroupOf", b"IsDepiction"))
FEWEST_COMMAS = HEADER.count(b",")
READ_BYTES = 1 << 20
IMAGE_ID = re.compile(rb"[\w-]+")  # it becomes a file name
LIST_CLASSES_HINT = "`python -m stages.download --stats-only` with data.classes: [] lists them"


class Row(NamedTuple):
    """One object."""

    image: str
    label: str  # such as /m/01g317
    is_crowd: bool
    is_depiction: bool


def keep_labels(labels: Collection[str], where: str) -> LineFilter:
    """Return a filter that keeps the header and the rows of some labels, byte for byte.

    The filter raises InputError (beginning with `where`) if the file is damaged or not an annotation file of Open Images.
    """
    wanted = {b"LabelName", *(label.encode() for label in labels)}

    def line_filter(lines: bytes, start: int) -> bytes:
        kept = (line for line in _checked_lines(lines, start, where) if _field(line, LABEL) in wanted)
        return b"".join(line.rstrip(b"\n") + b"\n" for line in kept)

    return line_filter


def parse_rows(lines: bytes, start: int, where: str) -> Iterator[Row]:
    """Yield the objects in some lines of an annotation file, which begin at byte `start`.

    Raises:
        InputError: see `keep_labels`; also an image id that is not a file name.
    """
    for line in _checked_lines(lines, start, where):
        fields = line.split(b",", FEWEST_COMMAS)
        if fields[LABEL] == b"LabelName":
            continue
        if not IMAGE_ID.fullmatch(fields[0]):
            raise InputError(f"{where}: {fields[0][:50]!r} is not the id of an image; letters, digits, - and _ are allowed. "
                             "Check data.base_url.")
        yield Row(fields[0].decode(), fields[LABEL].decode(errors="replace"), fields[GROUP_OF] == b"1",
                  fields[DEPICTION] == b"1")


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the objects in an annotation file."""
    with path.open("rb") as file:
        start = 0
        while lines := b"".join(file.readlines(READ_BYTES)):
            yield from parse_rows(lines, start, str(path))
            start += len(lines)


def read_class_names(path: Path) -> dict[str, str]:
    """Return label -> name of all classes, in the order of the file.

    Raises:
        InputError: not a class file of Open Images.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a text file: {error}. Check data.base_url.") from error
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(row):
            raise InputError(f"{path}: line {number} is {','.join(row)[:50]!r}; a label and a name such as '/m/01g317,Person' "
                             "are expected. Check data.base_url, and whether this network requires a login.")
    return dict(rows)


def choose_classes(names: dict[str, str], wanted: Iterable[str]) -> dict[str, str]:
    """Return label -> name of the wanted classes, each once, in the order of `wanted`.

    Raises:
        InputError: an unknown class name; the message lists the nearest ones.
    """
    chosen: dict[str, str] = {}
    for name in wanted:
        found = {label: known for label, known in names.items() if known == name}
        if not found:
            raise InputError(f"params.yaml: data.classes names {name!r}, which is not among the {len(names)} classes of "
                             f"Open Images{_nearest(name, names.values())} Names are exact; {LIST_CLASSES_HINT}.")
        chosen |= found
    return chosen


def choose_images(rows: Iterable[Row], max_images: int, max_boxes_per_class: int) -> list[str]:
    """Return the images to train on.

    Guarantees: images are visited in the order of the SHA-1 of their names. An image is taken while at least one of its classes
    has fewer boxes than the limit, so a higher limit takes the same images and more.

    Args:
        rows: the objects of the wanted classes.
        max_images: 0 means no limit.
        max_boxes_per_class: 0 means no limit.
    """
    labels: dict[str, list[str]] = {}
    for row in rows:
        labels.setdefault(row.image, []).append(row.label)
    chosen: list[str] = []
    boxes: Counter[str] = Counter()
    for image in sorted(labels, key=lambda image: hashlib.sha1(image.encode(), usedforsecurity=False).digest()):
        if len(chosen) == (max_images or -1):
            break
        if not max_boxes_per_class or any(boxes[label] < max_boxes_per_class for label in labels[image]):
            chosen.append(image)
            boxes.update(labels[image])
    return chosen


def copy_rows(source: Path, target: Path, images: Collection[str]) -> None:
    """Write the header and the rows of some images, byte for byte."""
    wanted = {b"ImageID", *(image.encode() for image in images)}
    with source.open("rb") as lines, atomic_write(target) as file:
        file.writelines(line for line in lines if _field(line, 0) in wanted)


def _checked_lines(lines: bytes, start: int, where: str) -> Iterator[bytes]:
    if start == 0 and not lines.startswith(HEADER):
        raise InputError(f"{where}: the file begins with {lines[:50]!r}; {HEADER[:30].decode()}... is "
                         "expected. Check data.base_url, and whether this network requires a login.")
    for line in lines.splitlines(keepends=True):
        if line.count(b",") >= FEWEST_COMMAS:
            yield line
        elif line.strip():
            raise InputError(f"{where}: a row after byte {start} is {line[:80]!r}; "
                             f"{FEWEST_COMMAS + 1} columns are needed. The file is damaged: check data.base_url.")


def _field(line: bytes, place: int) -> bytes:
    return line.split(b",", place + 1)[place]


def _nearest(name: str, known: Iterable[str]) -> str:
    by_lower = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), by_lower, n=3)
    return f"; did you mean {' or '.join(repr(by_lower[each]) for each in near)}?" if near else "."
