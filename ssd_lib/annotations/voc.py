"""PASCAL VOC's labels: an XML file for each image, with the names and corners of its objects."""

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
from ssd_lib.annotations.image_size import read_sizes
from ssd_lib.annotations.label_files import ROW, join_rows, known_sizes, parse_number, read_labels
from ssd_lib.annotations.table import Category, Images, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Part, Place

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LARGEST_SIDE = 10**9  # pixels; there is no such image


class VocRow(NamedTuple):
    """One object; its corners in pixels as they are written, which may count from 0 or from 1."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    is_difficult: bool


class VocLabels(NamedTuple):
    """The content of one file: the (width, height) that it gives for its image, None where it does not; the objects."""

    size: tuple[int, int] | None
    rows: tuple[VocRow, ...]


NO_LABELS = VocLabels(None, ())


def read_voc(manifest: Manifest) -> dict[Place, ParsedPart]:
    """The annotations of all parts of format voc, images in the order of their names; difficult objects are crowds.

    Guarantees: all parts count pixels alike. VOC counts from 1 and includes both ends, so a box covers x = xmin - 1 .. xmax. Other
    tools count from 0: if any xmin or ymin is below 1, all boxes cover x = xmin .. xmax. Parts that do not name their classes
    all have the same: the names that are found, sorted.
    """
    parts = manifest.parts("voc")
    parsed, broken = _parse_all(manifest, parts.values())
    first, found = _counts_from(parsed.values()), _found_names(parts.values(), parsed)
    return {(split, number): _read_part(manifest, part, split, parsed, broken, first, found)
            for (split, number), part in parts.items()}


def parse_voc(data: bytes, where: str) -> VocLabels:
    """The content of a label file.

    Guarantees: of an object with parts, such as a person's head, its own box counts. Names keep their case, not the spaces around
    them. NaN, infinity and swapped corners pass, for `checks` to name.

    Args:
        data: XML in UTF-8, UTF-16, or an encoding of one byte a character that it declares.
        where: names the file in errors.

    Raises:
        InputError: it is no such file, or has a document type (which can hide an attack); line and column, or the object,
            is named.
    """
    root = _parse_xml(data, where)
    if root.tag != "annotation":
        raise InputError(f"{where}: its root is <{root.tag:.60}>; VOC's is <annotation>. Is it another file?")
    rows = (_parse_object(element, f"{where}: object {number}") for number, element in enumerate(root.findall("object"), 1))
    return VocLabels(_parse_size(root, where), tuple(rows))


def _read_part(manifest: Manifest, part: Part, split: str, parsed: dict[str, VocLabels], broken: dict[str, str],
               first: int, found: list[str]) -> ParsedPart:
    """The annotations of one part.

    Args:
        manifest, part, split: which one.
        parsed, broken: what its label files hold, and why they do not.
        first: the number of the first pixel.
        found: the classes of a part that does not name them.
    """
    names = sorted(part.pairs)
    labels = [parsed.get(part.pairs[name], NO_LABELS) for name in names]
    faults = (Fault("broken_labels", (split, name), broken[file], image=name)
              for name in names if (file := part.pairs[name]) in broken)
    categories, number_of = _classes(part.class_names or {name: name for name in found})
    rows = np.fromiter(_rows(labels, number_of, first), ROW)
    images = Images(np.arange(1, len(names) + 1), tuple(names), _sizes(manifest.path(""), names, labels))
    objects = (row for file in labels for row in file.rows)
    strays = {at: row.name for at, row in enumerate(objects) if row.name not in number_of}
    info = {"voc_pixels_from": str(first)}
    return ParsedPart(replace(join_rows(images, rows, categories, "object", part.pairs, info), strays=strays), tuple(faults))


def _parse_all(manifest: Manifest, parts: Iterable[Part]) -> tuple[dict[str, VocLabels], dict[str, str]]:
    """Every label file of format voc that there is, by name, and of those that are broken, why."""
    folder = manifest.path("")
    parsed: dict[str, VocLabels] = {}
    broken: dict[str, str] = {}
    for name in sorted({name for part in parts for name in part.pairs.values() if name}):
        try:
            parsed[name] = parse_voc(read_labels(folder, name), name)
        except InputError as error:
            broken[name] = str(error)
    return parsed, broken


def _found_names(parts: Iterable[Part], parsed: dict[str, VocLabels]) -> list[str]:
    """The names of classes in all parts that do not give them."""
    files = (file for part in parts if not part.class_names for file in part.pairs.values())
    return sorted({row.name for file in files for row in parsed.get(file, NO_LABELS).rows})


def _classes(name_of: dict[str, str]) -> tuple[tuple[Category, ...], dict[str, int]]:
    """The classes, and the number of each by what the files call it."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name_of.values()), 1)}
    categories = tuple(Category(number, name, number) for name, number in numbers.items())
    return categories, {key: numbers[name] for key, name in name_of.items()}


def _counts_from(files: Iterable[VocLabels]) -> int:
    """The number of the first pixel, 0 or 1."""
    corners = (corner for file in files for row in file.rows for corner in (row.xmin, row.ymin))
    return 0 if any(corner < 1 and isfinite(corner) for corner in corners) else 1


def _rows(labels: list[VocLabels], number_of: dict[str, int], first: int) -> Iterator[tuple]:
    """The objects of all images as `ROW`."""
    for owner, file in enumerate(labels):
        for place, (name, xmin, ymin, xmax, ymax, is_difficult) in enumerate(file.rows, 1):
            box = (xmin - first, ymin - first, xmax - xmin + first, ymax - ymin + first)
            yield owner, number_of.get(name, -1), box, is_difficult, place


def _sizes(folder: Path, names: list[str], labels: list[VocLabels]) -> np.ndarray:
    """(N, 2) sizes as the labels give them, or else the images."""
    unsized = [name for name, file in zip(names, labels, strict=True) if file.size is None]
    measured = dict(zip(unsized, read_sizes(folder / name for name in unsized), strict=True))
    return known_sizes([file.size or measured[name] for name, file in zip(names, labels, strict=True)])


def _parse_xml(data: bytes, where: str) -> Element:
    parser = XMLParser(target=TreeBuilder(), forbid_dtd=True)  # C; its own one takes twice the time
    try:
        parser.feed(data)
        return parser.close()
    except DefusedXmlException as error:
        raise InputError(f"{_place(where, parser)}: has a document type; labels need none, and it can hide an attack. "
                         "Remove its <!DOCTYPE ...>.") from error
    except ParseError as error:
        line, column = error.position
        raise InputError(f"{where}: line {line}, column {column + 1}: not XML: {str(error).partition(':')[0]}. "
                         "Export it again.") from error
    except (ValueError, LookupError) as error:  # what Python says of encodings that it cannot use
        raise InputError(f"{_place(where, parser)}: its encoding cannot be read ({error!s:.100}); UTF-8 can. "
                         "Export it again.") from error


def _place(where: str, parser: Any) -> str:
    return f"{where}: line {parser.parser.CurrentLineNumber}, column {parser.parser.CurrentColumnNumber + 1}"


def _parse_size(root: Element, where: str) -> tuple[int, int] | None:
    width, height = (_parse_side(root.findtext(f"size/{side}"), f"{where}: size/{side}") for side in ("width", "height"))
    return (width, height) if width and height else None


def _parse_side(text: str | None, where: str) -> int:
    number = parse_number(text or "0")
    if number is None or not number.is_integer() or not 0 <= number <= LARGEST_SIDE:
        raise InputError(f"{where} is {text!r:.60}; it must be a whole number of pixels, or 0 where it is not known.")
    return int(number)


def _parse_object(element: Element, where: str) -> VocRow:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{where} has no name; every object needs one.")
    box = element.find("bndbox")
    if box is None:
        there = ", ".join(child.tag for child in element)
        raise InputError(f"{where} {name!r:.60} has no bndbox (it has {there:.100}); objects need a box. "
                         "Export rectangles instead of outlines.")
    xmin, ymin, xmax, ymax = (_parse_corner(box.findtext(corner), f"{where} {name!r:.60}", corner) for corner in CORNERS)
    is_difficult = (element.findtext("difficult") or "").strip().lower() in ("1", "true")
    return VocRow(name, xmin, ymin, xmax, ymax, is_difficult)


def _parse_corner(text: str | None, where: str, corner: str) -> float:
    if text is None:
        raise InputError(f"{where} has no bndbox/{corner}; a box needs {', '.join(CORNERS)}.")
    number = parse_number(text)
    if number is None:
        raise InputError(f"{where}: bndbox/{corner} is {text!r:.60}; it must be a number of pixels.")
    return number
