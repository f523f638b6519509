"""The PASCAL VOC format: an XML file for each image, with the names and corners of its objects."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

import numpy as np
from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import XMLParser  # type: ignore[import-untyped]

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.files import parse_number, read_label_file
from ssd_lib.annotations.table import LABEL_ROW, Category, Images, ParsedPart, annotations_from_rows, clean_name
from ssd_lib.errors import InputError
from ssd_lib.images import read_sizes
from ssd_lib.manifest import Manifest, Part, PartKey

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LARGEST_SIDE_PX = 10**9


class VocRow(NamedTuple):
    """One object; its corners in pixels as written, counted from 0 or from 1."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    is_difficult: bool


class VocLabels(NamedTuple):
    """The content of one file: the (width, height) of its image, or None, and the objects."""

    size: tuple[int, int] | None
    rows: tuple[VocRow, ...]


NO_LABELS = VocLabels(None, ())


def read_parts(manifest: Manifest) -> dict[PartKey, ParsedPart]:
    """Read all parts of format voc; images are sorted by name, difficult objects become crowds.

    Guarantees: all parts count pixels from the same number. VOC counts from 1 and includes both ends, so a box covers
    x = xmin - 1 .. xmax. Other tools count from 0: if any xmin or ymin is below 1, every box covers x = xmin .. xmax. Parts
    that do not name their classes all have the same: the names that occur, sorted.
    """
    parts = manifest.parts("voc")
    parsed, broken = _parse_all(manifest, parts.values())
    first_pixel, names = _first_pixel(parsed.values()), _names_that_occur(parts.values(), parsed)
    return {(split, number): _read_part(manifest, part, split, parsed, broken, first_pixel, names)
            for (split, number), part in parts.items()}


def parse_file(data: bytes, where: str) -> VocLabels:
    """Parse one label file.

    Guarantees: of an object with parts, such as a person's head, only its own box is read. Names keep their case and lose the
    spaces around them. NaN, infinity and swapped corners are accepted, and left for validation to report.

    Args:
        data: XML in UTF-8, UTF-16, or a single-byte encoding that it declares.
        where: the name of the file, for errors.

    Raises:
        InputError: not such a file, or one with a document type (a possible attack); names line and column, or the object.
    """
    root = _parse_xml(data, where)
    if root.tag != "annotation":
        raise InputError(f"{where}: its root is <{root.tag:.60}>; VOC's is <annotation>. Is it another file?")
    rows = (_parse_object(element, f"{where}: object {number}") for number, element in enumerate(root.findall("object"), 1))
    return VocLabels(_parse_size(root, where), tuple(rows))


def _parse_all(manifest: Manifest, parts: Iterable[Part]) -> tuple[dict[str, VocLabels], dict[str, str]]:
    """Return the content of every label file by name, and for those that cannot be read, the reason."""
    folder = manifest.path("")
    parsed: dict[str, VocLabels] = {}
    broken: dict[str, str] = {}
    for name in sorted({name for part in parts for name in part.pairs.values() if name}):
        try:
            parsed[name] = parse_file(read_label_file(folder, name), name)
        except InputError as error:
            broken[name] = str(error)
    return parsed, broken


def _first_pixel(files: Iterable[VocLabels]) -> int:
    """Return the number of the first pixel, 0 or 1."""
    corners = (corner for file in files for row in file.rows for corner in (row.xmin, row.ymin))
    return 0 if any(corner < 1 and isfinite(corner) for corner in corners) else 1


def _names_that_occur(parts: Iterable[Part], parsed: dict[str, VocLabels]) -> list[str]:
    """Return the class names in the label files of all parts that do not name their classes."""
    files = (file for part in parts if not part.class_names for file in part.pairs.values())
    return sorted({row.name for file in files for row in parsed.get(file, NO_LABELS).rows})


def _read_part(manifest: Manifest, part: Part, split: str, parsed: dict[str, VocLabels], broken: dict[str, str],
               first_pixel: int, names_that_occur: list[str]) -> ParsedPart:
    images = sorted(part.pairs)
    labels = [parsed.get(part.pairs[name], NO_LABELS) for name in images]
    faults = (Fault("broken_labels", (split, name), broken[file], image=name)
              for name in images if (file := part.pairs[name]) in broken)
    class_names = part.class_names or {name: name for name in names_that_occur}  # name in the files -> name of the class
    category_ids = {name: number for number, name in enumerate(dict.fromkeys(class_names.values()), 1)}
    id_of = {clean_name(key): category_ids[name] for key, name in class_names.items()}
    objects = (row for file in labels for row in file.rows)
    annotations = annotations_from_rows(
        Images(np.arange(1, len(images) + 1), tuple(images), _sizes(manifest.path(""), images, labels)),
        np.fromiter(_label_rows(labels, id_of, first_pixel), LABEL_ROW),
        tuple(Category(number, name, number) for name, number in category_ids.items()),
        "object", part.pairs, {"voc_pixels_from": str(first_pixel)})
    unknown = {index: row.name for index, row in enumerate(objects) if clean_name(row.name) not in id_of}
    return ParsedPart(replace(annotations, unknown_classes=unknown), tuple(faults))


def _label_rows(labels: list[VocLabels], id_of: dict[str, int], first_pixel: int) -> Iterator[tuple]:
    """Yield the objects of all images as LABEL_ROW."""
    for image, file in enumerate(labels):
        for number, (name, xmin, ymin, xmax, ymax, is_difficult) in enumerate(file.rows, 1):
            box = (xmin - first_pixel, ymin - first_pixel, xmax - xmin + first_pixel, ymax - ymin + first_pixel)
            yield image, id_of.get(clean_name(name), -1), box, is_difficult, number


def _sizes(folder: Path, names: list[str], labels: list[VocLabels]) -> np.ndarray:
    """Return (N, 2) sizes, those of the labels, or else of the images."""
    sizes = np.array([file.size or (0, 0) for file in labels], dtype=np.int64).reshape(-1, 2)
    unsized = [index for index, file in enumerate(labels) if file.size is None]
    sizes[unsized] = read_sizes(folder / names[index] for index in unsized)
    return sizes


def _parse_xml(data: bytes, where: str) -> Element:
    parser = XMLParser(target=TreeBuilder(), forbid_dtd=True)  # TreeBuilder is C; the default target takes twice the time
    try:
        parser.feed(data)
        return parser.close()
    except DefusedXmlException as error:
        raise InputError(f"{_position(where, parser)}: has a document type; labels need none, and it can hide an attack. "
                         "Remove its <!DOCTYPE ...>.") from error
    except ParseError as error:
        line, column = error.position
        raise InputError(f"{where}: line {line}, column {column + 1}: not XML: {str(error).partition(':')[0]}. "
                         "Export it again.") from error
    except (ValueError, LookupError) as error:  # Python's, for encodings that it cannot use
        declared = re.search(rb"encoding=.([\w.-]{1,40})", data[:200])
        named = f" {declared[1].decode()!r}" if declared else ""
        raise InputError(f"{_position(where, parser)}: its encoding{named} cannot be read ({error!s:.100}); UTF-8 can. "
                         "Export it again as UTF-8.") from error


def _position(where: str, parser: Any) -> str:
    return f"{where}: line {parser.parser.CurrentLineNumber}, column {parser.parser.CurrentColumnNumber + 1}"


def _parse_size(root: Element, where: str) -> tuple[int, int] | None:
    width, height = (_parse_side(root.findtext(f"size/{side}"), f"{where}: size/{side}") for side in ("width", "height"))
    return (width, height) if width and height else None


def _parse_side(text: str | None, where: str) -> int:
    number = parse_number(text or "0")
    if number is None or not number.is_integer() or not 0 <= number <= LARGEST_SIDE_PX:
        raise InputError(f"{where} is {text!r:.60}; it must be a whole number of pixels, or 0 if unknown. Correct it.")
    return int(number)


def _parse_object(element: Element, where: str) -> VocRow:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{where} has no name; every object needs one. Add it.")
    box = element.find("bndbox")
    if box is None:
        children = ", ".join(child.tag for child in element)
        raise InputError(f"{where} {name!r:.60} has no bndbox (it has {children:.100}); objects need a box. "
                         "Export rectangles instead of outlines.")
    xmin, ymin, xmax, ymax = (_parse_corner(box.findtext(corner), f"{where} {name!r:.60}", corner) for corner in CORNERS)
    is_difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
    return VocRow(name, xmin, ymin, xmax, ymax, is_difficult)


def _parse_corner(text: str | None, where: str, corner: str) -> float:
    if text is None:
        raise InputError(f"{where} has no bndbox/{corner}; a box needs {', '.join(CORNERS)}. Add it.")
    number = parse_number(text)
    if number is None:
        raise InputError(f"{where}: bndbox/{corner} is {text!r:.60}; it must be a number of pixels. Correct it.")
    return number
