"""A COCO file row by row, with exact words for what is wrong: what `coco` turns to where its fast way ends.

Slower by ten times, it also takes what JSON has no words for (NaN, infinity), so that `checks` can name the boxes."""

import json
import math
import re
from collections.abc import Iterable
from itertools import islice
from typing import Any

from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.errors import InputError

UNUSED_KEYS = {"segmentation", "keypoints", "segments_info"}  # most of a file's bytes, and not needed for boxes
HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON can hold one, UTF-8 cannot
SHOWN = 15  # keys in a message
LISTS = ("images", "annotations", "categories")
NEEDED = "a COCO instances file has lists of images, annotations and categories."
INT64 = range(-(2**63), 2**63)  # ids end in tensors
INT_DIGITS = 300  # a longer whole number is read as a float, which may be infinite


def parse_rows(text: str, where: str, boxes: bool) -> Annotations:
    """Turn the text of a COCO instances file into annotations; see `coco.parse_annotations`.

    Objects lose their unused keys as they are parsed, so that the segmentations of a whole COCO are never in memory together.

    Raises:
        InputError: cut short, another kind of file, a key missing or twice, a wrong type; with the place.
    """
    tree = parse_json(text, where)
    if not isinstance(tree, dict):
        raise InputError(f"{where}: holds a {type(tree).__name__}; annotations are an object with images, annotations "
                         "and categories. Is it a file of detection results?")
    rows = {key: _rows(tree, key, where) for key in LISTS if boxes or key in tree}
    if any("caption" in row and "bbox" not in row for row in rows.get("annotations", ())[:1]):
        raise InputError(f"{where}: holds captions; a detector learns from boxes. "
                         "Take the instances_*.json file beside it.")
    objects = [_box(row, f"{where}: annotations[{at}]") for at, row in enumerate(rows.get("annotations", ()))]
    return from_rows(
        (_image(row, f"{where}: images[{at}]") for at, row in enumerate(rows.get("images", ()))), objects,
        parse_categories(rows.get("categories", []), any(box.category_id == 0 for box in objects), where),
        texts(tree.get("info")))


def parse_categories(rows: Any, zero_is_used: bool, where: str) -> tuple[Category, ...]:
    """The categories of parsed rows, without the category 0 of Roboflow's exports: the name of the whole set.

    Args:
        rows: what stands under "categories".
        zero_is_used: some object is of category 0, so that it is a class.
        where: names the file in errors.

    Raises:
        InputError: as of `parse_rows`.
    """
    rows = _objects(rows, "categories", where)
    supers = [row.get("supercategory") for row in rows]
    return tuple(_category(row, f"{where}: categories[{at}]") for at, row in enumerate(rows)
                 if zero_is_used or row.get("id") != 0 or row.get("name") not in supers)


def texts(info: Any) -> dict[str, str]:
    """What a file says of itself in words."""
    return {key: value for key, value in info.items() if isinstance(value, str)} if isinstance(info, dict) else {}


def parse_json(text: str, where: str) -> Any:
    """JSON whose objects have no key twice.

    Raises:
        InputError: it is none; with line and column.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_parse_int)
    except json.JSONDecodeError as error:
        cut = " (the file ends there: it was cut short)" if error.pos >= len(text.rstrip()) else ""
        raise InputError(f"{where}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}{cut}. "
                         "`dvc repro --force --single-item download` fetches it anew, if it was downloaded.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from error


def _parse_int(digits: str) -> float:
    return int(digits) if len(digits) < INT_DIGITS else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        rest = f" (of id {content['id']})" if "id" in content else ""
        raise ValueError(f"key {twice!r:.40} stands twice in one object{rest}; which one holds? Remove the other.")
    return {key: value for key, value in pairs if key not in UNUSED_KEYS}


def _rows(tree: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    if key not in tree:
        raise InputError(f"{where}: no '{key}' among {_listed(tree) or 'no keys'}; {NEEDED}")
    return _objects(tree[key], key, where)


def _objects(rows: Any, key: str, where: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise InputError(f"{where}: '{key}' is {rows!r:.40}; {NEEDED}")
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{where}: {key}[{at}] is {row!r:.40}; it must be an object.")
    return rows


def _image(row: dict[str, Any], where: str) -> Image:
    return Image(_whole(row, "id", where), _text(row, "file_name", where),
                 _whole(row, "width", where), _whole(row, "height", where))


def _box(row: dict[str, Any], where: str) -> Box:
    bbox = _get(row, "bbox", where)
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise InputError(f"{where}{_of(row)} has bbox {bbox!r:.60}; it must be [x, y, width, height].")
    x, y, width, height = (_number(value, "bbox", row, where) for value in bbox)
    area = _number(row["area"], "area", row, where) if "area" in row else math.nan
    return Box(_whole(row, "id", where), _whole(row, "image_id", where), _whole(row, "category_id", where),
               x, y, width, height, area, bool(row.get("iscrowd", 0)))


def _category(row: dict[str, Any], where: str) -> Category:
    source_id = _whole(row, "source_id" if "source_id" in row else "id", where)
    return Category(_whole(row, "id", where), _text(row, "name", where), source_id)


def _get(row: dict[str, Any], key: str, where: str) -> Any:
    if key not in row:
        raise InputError(f"{where}{_of(row)} has no '{key}'; its keys are {_listed(row) or 'none'}.")
    return row[key]


def _listed(keys: Iterable[str]) -> str:
    """The first few keys, for people."""
    return ", ".join(key if key.isidentifier() and len(key) < 30 else f"{key!r:.30}" for key in islice(keys, SHOWN))


def _whole(row: dict[str, Any], key: str, where: str) -> int:
    value = _get(row, key, where)
    if isinstance(value, int) and not isinstance(value, bool) and value in INT64:
        return value
    raise InputError(f"{where}{_of(row)} has {key} {value!r:.60}; it must be a whole number of at most 64 bits.")


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = _get(row, key, where)
    if isinstance(value, str) and not HALF_CHARACTER.search(value):
        return value
    raise InputError(f"{where}{_of(row)} has {key} {value!r:.60}; it must be a string of whole characters.")


def _number(value: Any, key: str, row: dict[str, Any], where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise InputError(f"{where}{_of(row)} has {value!r:.60} in its {key}; it must be a number.")


def _of(row: dict[str, Any]) -> str:
    return f" (id {row['id']!r:.30})" if "id" in row else ""
