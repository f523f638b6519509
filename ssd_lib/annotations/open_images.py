"""The Open Images format: a CSV file for each split, with a line for each object, relative to its image."""

import csv
import io
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np

from ssd_lib.annotations.files import below, is_image, parse_number
from ssd_lib.annotations.table import LABEL_ROW, Category, Images, ParsedPart, annotations_from_rows, rows_in_pixels
from ssd_lib.errors import InputError
from ssd_lib.files import open_regular
from ssd_lib.images import read_sizes
from ssd_lib.manifest import REPAIR_HINT, Manifest, Part, PartKey

SIDES = ("XMin", "XMax", "YMin", "YMax")
FLAGS = ("IsGroupOf", "IsDepiction")


class OpenImagesRow(NamedTuple):
    """One object; its corners as fractions of the image's width and height, [0, 1]."""

    line: int
    image_id: str
    label: str
    xmin: float
    xmax: float
    ymin: float
    ymax: float
    is_group: bool
    is_depiction: bool


def read_parts(manifest: Manifest) -> dict[PartKey, ParsedPart]:
    """Read all parts of format open_images; images are sorted by name, boxes are in file order, groups become crowds.

    Guarantees: the ImageID of an image is its name without suffix; two such images get one id, which validation reports. Rows
    of images that do not exist are counted and ignored. The classes are those with an object in any part, and those of
    `manifest.classes`; sorted by name, so train and val agree. Pixels are rounded as `rows_in_pixels` does. An image whose size
    cannot be read has size (0, 0) and no boxes; validation reports it.

    Raises:
        InputError: a file of any part is not valid; all images depend on it.
    """
    parts = manifest.parts("open_images")
    known = sorted({name for part in parts.values() for name in part.class_names.values()})
    images = {key: _list_images(manifest, part) for key, part in parts.items()}
    found = {key: _read_rows(manifest, part, _index_by_id(images[key]), known) for key, part in parts.items()}
    wanted = np.array([index for index, name in enumerate(known) if name in manifest.classes], dtype=np.int64)
    used = np.unique(np.concatenate([wanted, *(rows["category_id"] for rows, _ in found.values())]))
    used = used[used >= 0]
    return {key: _join(manifest, part, images[key], *found[key], known, used) for key, part in parts.items()}


def parse_file(file: IO[bytes], where: str, wanted: Container[str] | None = None) -> Iterator[OpenImagesRow | None]:
    """Parse a CSV file of boxes, one object at a time: that of Open Images' train split has 14 million.

    Guarantees: columns may be in any order, with others among them. Without a column LabelName, ClassName replaces it. A flag
    that is absent or -1 (unknown) is false. NaN, infinity and boxes beyond the image are accepted, and left for validation to
    report.

    Args:
        file: UTF-8 text, with or without byte order mark; lines end with LF, CR LF or CR.
        where: the name of the file, for errors.
        wanted: ids of images; a row of another image is not parsed, and yielded as None. Without it all rows are parsed.

    Raises:
        InputError: it is not such a file; names the line.
    """
    records = _split_lines(file, where)
    columns = _find_columns(next(records, (1, []))[1], where)
    id_column = columns["ImageID"]
    for line, fields in records:
        try:
            if wanted is None or fields[id_column] in wanted:
                yield _parse_fields(fields, columns, line, f"{where}: line {line}")
            else:
                yield None
        except IndexError as error:
            raise InputError(f"{where}: line {line} has {len(fields)} fields; the columns of line 1 need "
                             f"{max(columns.values()) + 1}. Is the file truncated?") from error


def _list_images(manifest: Manifest, part: Part) -> list[str]:
    return sorted(part.names.values() or (name for name in below(part.images, manifest.files) if is_image(name)))


def _index_by_id(images: list[str]) -> dict[str, int]:
    """Return ImageID, with or without suffix -> index of the image; of two images with the same ImageID, the first."""
    ordered = list(reversed(list(enumerate(images))))
    return {PurePosixPath(name).name: index for index, name in ordered} | {_image_id(name): index for index, name in ordered}


def _image_id(name: str) -> str:
    return PurePosixPath(name).stem


def _read_rows(manifest: Manifest, part: Part, index_by_id: dict[str, int], known: list[str]) -> tuple[np.ndarray, int]:
    """Return the objects of a part as LABEL_ROW with relative boxes, and the number of rows of images that do not exist.

    The category ids are indices in `known`, -1 for an unknown class.
    """
    known_index = {name: index for index, name in enumerate(known)}
    names = {name: name for name in part.class_names.values()} | part.class_names  # by name, too, for ClassName
    class_of = {label: known_index[name] for label, name in names.items()}
    absent = 0

    def kept() -> Iterator[tuple]:
        """Yield the rows of images that exist, each object once."""
        nonlocal absent
        files = [manifest.path(name) for name in (part.annotations, *part.more_annotations)]
        first_file: dict[tuple, Path] = {}  # of each object, if there are several tables: they may have some rows in common
        for file, row in ((path, row) for path in files for row in _rows_of_file(path, index_by_id)):
            if row is None:
                absent += 1
                continue
            identity = (row.image_id, row.label, row.xmin, row.xmax, row.ymin, row.ymax)
            if first_file.get(identity, file) != file:
                continue
            if file != files[-1]:
                first_file[identity] = file
            if part.depictions or not row.is_depiction:
                box = (row.xmin, row.ymin, row.xmax - row.xmin, row.ymax - row.ymin)
                yield index_by_id[row.image_id], class_of.get(row.label, -1), box, row.is_group, row.line

    rows = np.fromiter(kept(), LABEL_ROW)
    if absent and index_by_id and not len(rows):
        raise InputError(f"{manifest.path(part.annotations)}: none of its {absent} rows is of an image in "
                         f"{part.images or '.'}/; the ImageID of an image is its name, such as {min(index_by_id)!r}. Correct "
                         "the column ImageID.")
    return rows, absent


def _rows_of_file(path: Path, wanted: Container[str]) -> Iterator[OpenImagesRow | None]:
    try:
        with open_regular(path) as file:
            yield from parse_file(file, str(path), wanted)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {REPAIR_HINT}.") from error


def _join(manifest: Manifest, part: Part, names: list[str], rows: np.ndarray, absent: int, known: list[str],
          used: np.ndarray) -> ParsedPart:
    """Build the annotations of one part; `used` holds the indices in `known` of the classes of all parts."""
    index_by_id = _index_by_id(names)
    rows["category_id"] = np.where(rows["category_id"] < 0, -1, np.searchsorted(used, rows["category_id"]) + 1)
    categories = tuple(Category(number, known[index], number) for number, index in enumerate(used.tolist(), 1))
    sizes = read_sizes(manifest.path("") / name for name in names)
    images = Images(np.array([index_by_id[_image_id(name)] + 1 for name in names], dtype=np.int64), tuple(names), sizes)
    label_files, info = dict.fromkeys(names, part.annotations), {"rows_of_absent_images": str(absent)}
    return ParsedPart(annotations_from_rows(images, rows_in_pixels(rows, sizes), categories, "line", label_files, info))


def _split_lines(file: IO[bytes], where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every line that is not empty."""
    # Invalid bytes become surrogates: in columns that are not read they do no harm.
    reader = csv.reader(io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape"))
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:
        raise InputError(f"{where}: line {reader.line_num}: not CSV: {error}. Is it another file?") from error


def _find_columns(header: list[str], where: str) -> dict[str, int]:
    """Return the index of each column that is read; the flags only if the file has them."""
    index = {name: number for number, name in reversed(list(enumerate(header)))}
    if "LabelName" not in index and "ClassName" in index:
        index["LabelName"] = index["ClassName"]
    needed = ("ImageID", "LabelName", *SIDES)
    if missing := [name for name in needed if name not in index]:
        raise InputError(f"{where}: line 1 names no column {', '.join(missing)}, but {', '.join(header) or 'none'!r:.100}; "
                         f"needed are {', '.join(needed)}. Is it another file?")
    return {name: index[name] for name in (*needed, *FLAGS) if name in index}


def _parse_fields(fields: list[str], columns: dict[str, int], line: int, where: str) -> OpenImagesRow:
    xmin, xmax, ymin, ymax = (_number(fields, columns, name, where) for name in SIDES)
    is_group, is_depiction = (name in columns and _flag(fields, columns, name, where) for name in FLAGS)
    return OpenImagesRow(line, fields[columns["ImageID"]], fields[columns["LabelName"]], xmin, xmax, ymin, ymax,
                         is_group, is_depiction)


def _flag(fields: list[str], columns: dict[str, int], name: str, where: str) -> bool:
    """Return whether a flag is 1 or true; one that is empty is not known, and false."""
    word = fields[columns[name]].strip().lower()
    return word == "true" if word in ("", "true", "false") else _number(fields, columns, name, where) == 1


def _number(fields: list[str], columns: dict[str, int], name: str, where: str) -> float:
    text = fields[columns[name]]
    number = parse_number(text)
    if number is None:
        raise InputError(f"{where} has {name} {text!r:.60}; it must be a number. Correct it.")
    return number
