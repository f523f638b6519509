"""Open Images' labels: one CSV file for all images of a split, a line for each object, in shares of the image."""

import csv
import io
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np

from ssd_lib.annotations.image_size import read_sizes
from ssd_lib.annotations.label_files import ROW, join_rows, known_sizes, parse_number, rows_in_pixels
from ssd_lib.annotations.table import Category, Images, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.images import IMAGE_SUFFIXES
from ssd_lib.manifest import Manifest, Part, Place

SIDES = ("XMin", "XMax", "YMin", "YMax")
FLAGS = ("IsGroupOf", "IsDepiction")


class OpenImagesRow(NamedTuple):
    """One object; its corners as shares of the image's width and height, [0, 1]."""

    line: int
    image_id: str
    label: str
    xmin: float
    xmax: float
    ymin: float
    ymax: float
    is_group: bool
    is_depiction: bool


def read_open_images(manifest: Manifest) -> dict[Place, ParsedPart]:
    """The annotations of all parts of format open_images, images in the order of their names, objects in that of the file;
    groups are crowds.

    Guarantees: an image belongs to the rows whose ImageID is its name without suffix; two such images get one id, so that `checks`
    names them. Rows of images that are not there are counted and passed over. The classes are those that any part of the
    manifest has an object of, and those of `manifest.classes`; sorted, so train and val agree. Pixels are rounded as
    `rows_in_pixels` says. An image whose size cannot be read has size (0, 0) and no boxes: `image_checks` says why.

    Raises:
        InputError: a file of any part is not as it must be; all images depend on it.
    """
    parts = manifest.parts("open_images")
    known = sorted({name for part in parts.values() for name in part.class_names.values()})
    names = {place: _list_images(manifest, part) for place, part in parts.items()}
    found = {place: _read_rows(manifest, part, _first_places(names[place]), known) for place, part in parts.items()}
    wanted = np.array([place for place, name in enumerate(known) if name in manifest.classes], dtype=np.int64)
    used = np.unique(np.concatenate([wanted, *(rows["category_id"] for rows, _ in found.values())]))
    used = used[used >= 0]
    return {place: _join(manifest, part, names[place], *found[place], known, used) for place, part in parts.items()}


def parse_open_images(file: IO[bytes], where: str, wanted: Container[str] | None = None) -> Iterator[OpenImagesRow | None]:
    """The objects of a file, one at a time: that of Open Images' train split has 14 million.

    Guarantees: columns may come in any order, and others beside them. Where LabelName is absent, ClassName takes its place. A flag
    that is absent or -1 (unknown) is false. NaN, infinity and boxes beyond the image pass, for `checks` to name.

    Args:
        file: UTF-8 text, with or without byte order mark; lines may end as on Unix, Windows or an old Mac.
        where: names the file in errors.
        wanted: ids of images; a row of another one is not looked at, and given as None. Without it all rows are parsed.

    Raises:
        InputError: it is no such file; the line is named.
    """
    records = _split_lines(file, where)
    columns = _find_columns(next(records, (1, []))[1], where)
    id_at = columns["ImageID"]
    for line, fields in records:
        try:
            if wanted is None or fields[id_at] in wanted:
                yield _parse_fields(fields, columns, line, f"{where}: line {line}")
            else:
                yield None
        except IndexError as error:
            raise InputError(f"{where}: line {line} has {len(fields)} fields; the columns of line 1 need "
                             f"{max(columns.values()) + 1}. Is the file cut short?") from error


def _join(manifest: Manifest, part: Part, names: list[str], rows: np.ndarray, absent: int, known: list[str],
          used: np.ndarray) -> ParsedPart:
    """The annotations of one part.

    Args:
        manifest, part: which one.
        names: of its images.
        rows, absent: of `_read_rows`.
        known: the names of all classes.
        used: the places in it of those that are classes here.
    """
    place_of = _first_places(names)
    rows["category_id"] = np.where(rows["category_id"] < 0, -1, np.searchsorted(used, rows["category_id"]) + 1)
    categories = tuple(Category(number, known[place], number) for number, place in enumerate(used.tolist(), 1))
    folder = manifest.path("")
    sizes = known_sizes(read_sizes(folder / name for name in names))
    images = Images(np.array([place_of[_image_id(name)] + 1 for name in names], dtype=np.int64), tuple(names), sizes)
    label_files, info = dict.fromkeys(names, part.annotations), {"rows_of_absent_images": str(absent)}
    return ParsedPart(join_rows(images, rows_in_pixels(rows, sizes), categories, "line", label_files, info))


def _list_images(manifest: Manifest, part: Part) -> list[str]:
    """The names of a part's images, sorted."""
    prefix = f"{part.images}/" if part.images else ""
    return sorted(name for name in manifest.files
                  if name.startswith(prefix) and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)


def _first_places(names: list[str]) -> dict[str, int]:
    """The place of each ImageID among the images; of two with the same one, the first."""
    return {_image_id(name): place for place, name in reversed(list(enumerate(names)))}


def _image_id(name: str) -> str:
    return PurePosixPath(name).stem


def _read_rows(manifest: Manifest, part: Part, place_of: dict[str, int], known: list[str]) -> tuple[np.ndarray, int]:
    """The objects of a part as `ROW`, in shares of their image; how many others are of images that are not there.

    The classes are places in `known`, -1 where nobody knows what is meant.
    """
    known_place = {name: place for place, name in enumerate(known)}
    names = {name: name for name in part.class_names.values()} | part.class_names  # by name, too: see ClassName
    class_of = {label: known_place[name] for label, name in names.items()}
    absent = 0

    def kept() -> Iterator[tuple]:
        nonlocal absent
        for row in _rows_of_file(manifest.path(part.annotations), place_of):
            if row is None:
                absent += 1
            elif part.depictions or not row.is_depiction:
                box = (row.xmin, row.ymin, row.xmax - row.xmin, row.ymax - row.ymin)
                yield place_of[row.image_id], class_of.get(row.label, -1), box, row.is_group, row.line

    return np.fromiter(kept(), ROW), absent


def _rows_of_file(path: Path, wanted: Container[str]) -> Iterator[OpenImagesRow | None]:
    try:
        with path.open("rb") as file:
            yield from parse_open_images(file, str(path), wanted)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. `dvc repro --force --single-item download` fetches what "
                         "is missing, if it was downloaded.") from error


def _split_lines(file: IO[bytes], where: str) -> Iterator[tuple[int, list[str]]]:
    """The number and the fields of every line that has some."""
    # Strange bytes become strange characters: in columns that nobody needs they do no harm.
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape"))
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(f"{where}: line {reader.line_num}: not CSV: {error}. Is it another file?") from error


def _find_columns(header: list[str], where: str) -> dict[str, int]:
    """Where each column that we need stands, by its name in this project; the flags only where they are there."""
    at = {name: place for place, name in reversed(list(enumerate(header)))}
    if "LabelName" not in at and "ClassName" in at:
        at["LabelName"] = at["ClassName"]
    needed = ("ImageID", "LabelName", *SIDES)
    if missing := [name for name in needed if name not in at]:
        raise InputError(f"{where}: line 1 names no column {', '.join(missing)}, but {', '.join(header) or 'none'!r:.100}; "
                         f"needed are {', '.join(needed)}. Is it another file?")
    return {name: at[name] for name in (*needed, *FLAGS) if name in at}


def _parse_fields(fields: list[str], columns: dict[str, int], line: int, where: str) -> OpenImagesRow:
    xmin, xmax, ymin, ymax = (_number(fields, columns, name, where) for name in SIDES)
    is_group, is_depiction = (name in columns and _number(fields, columns, name, where) == 1 for name in FLAGS)
    return OpenImagesRow(line, fields[columns["ImageID"]], fields[columns["LabelName"]], xmin, xmax, ymin, ymax,
                         is_group, is_depiction)


def _number(fields: list[str], columns: dict[str, int], name: str, where: str) -> float:
    text = fields[columns[name]]
    number = parse_number(text)
    if number is None:
        raise InputError(f"{where} has {name} {text!r:.60}; it must be a number.")
    return number
