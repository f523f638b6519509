"""The JSON of COCO files: parse what Python's parser accepts, and give values the types that they should have."""

import json
import math
import re
from typing import Any

from ssd_lib.annotations.files import parse_number
from ssd_lib.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write one
UNUSED_KEYS = {"segmentation", "keypoints", "segments_info"}  # most of the bytes of a file
INT64_DIGITS = 20  # with sign; Python's JSON parser reads longer whole numbers as floats, which may be infinite


def normalise(tree: Any) -> tuple[Any, dict[str, str]]:
    """Return a parsed file in which what has one meaning has the type that it should have, and what was changed, by kind.

    What has no meaning stays as it is, for msgspec to name it.
    """
    if not isinstance(tree, dict):
        return tree, {}
    copied = {key: [dict(row) if isinstance(row, dict) else row for row in tree[key]]
              for key in ("images", "annotations", "categories") if isinstance(tree.get(key), list)}
    images, boxes, categories = ([row for row in copied.get(key, ()) if isinstance(row, dict)]
                                 for key in ("images", "annotations", "categories"))
    changed: list[str] = []
    id_of = {row.get("name"): row.get("id") for row in reversed(categories) if isinstance(row.get("name"), str)}
    for at, row in enumerate(boxes):
        name = row.get("category_id")
        if isinstance(name, str) and name in id_of and _whole_number(name) is None:
            changed.append(f"annotations[{at}].category_id: {name!r:.60}")
            row["category_id"] = id_of[name]
    for row in categories:
        if type(row.get("name")) is int:
            row["name"] = str(row["name"])
    for key, rows, refer in (("images", images, "image_id"), ("categories", categories, "category_id")):
        _number_texts(key, rows, boxes, refer, changed)
    for key, rows, names in (("images", images, ("id", "width", "height")), ("categories", categories, ("id", "source_id")),
                             ("annotations", boxes, ("id", "image_id", "category_id", "iscrowd"))):
        for name in names:
            _to_whole_numbers(key, rows, name, changed)
    if boxes and any("caption" not in row for row in boxes):
        _normalise_boxes(boxes, changed)
    notes = {}
    if changed:
        notes["inexact_numbers"] = (f"{len(changed)} numbers are written as text or with a fraction of 0, the first is "
                                    f"{changed[0]}")
    if any(row.get("id") is None or isinstance(row["id"], str) for row in boxes) and all("image_id" in row for row in boxes):
        for number, row in enumerate(boxes, 1):
            row["id"] = number
        notes["renumbered_boxes"] = "annotations have no id, or a text; they are numbered from 1 in their order"
    return tree | copied, notes


def _number_texts(key: str, rows: list[dict[str, Any]], boxes: list[dict[str, Any]], refer: str, changed: list[str]) -> None:
    """Number records whose ids are texts, from 1 in their order; texts of whole numbers keep their number if that is unique."""
    ids = [row.get("id") for row in rows]
    texts = [one for one in ids if isinstance(one, str)]
    if not texts:
        return
    numbers = [_whole_number(one) for one in ids]
    if None not in numbers and len(set(numbers)) == len(set(ids)):
        return  # `_to_whole_numbers` reads them
    new = {one: number for number, one in enumerate(dict.fromkeys(one for one in ids if isinstance(one, str | int)), 1)}
    changed.extend(f"{key}[{at}].id: {one!r:.60}" for at, one in enumerate(ids) if isinstance(one, str))
    for row, name in [*((row, "id") for row in rows), *((row, refer) for row in boxes)]:
        if isinstance(row.get(name), str | int):
            row[name] = new.get(row[name], -1)


def _to_whole_numbers(key: str, rows: list[dict[str, Any]], name: str, changed: list[str]) -> None:
    for at, row in enumerate(rows):
        value = row.get(name)
        if type(value) is int or value is None:
            if value is None and name in ("image_id", "category_id") and "caption" not in row:
                row[name] = -1  # of no image, or of no class: validation names it
            continue
        if name == "iscrowd" and (isinstance(value, bool) or value == ""):
            row[name] = int(value or 0)
            continue
        words = {"true": 1, "false": 0} if name == "iscrowd" else {}
        number = words.get(value.strip().lower()) if isinstance(value, str) else None
        number = _whole_number(value) if number is None else number
        if number is not None:
            changed.append(f"{key}[{at}].{name}: {value!r:.60}")
            row[name] = number
        elif name in ("image_id", "category_id"):
            row[name] = -1


def _whole_number(value: object) -> int | None:
    """Return the 64-bit whole number that a value is or that a text stands for, else None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"[+-]?[0-9]{1,19}", text):
            value = int(text)
        else:
            parsed = parse_number(text)
            if parsed is None:
                return None
            value = parsed
    if isinstance(value, float) and not (value.is_integer() and abs(value) <= 2**53):
        return None
    return int(value) if -(2**63) <= value < 2**63 else None


def _normalise_boxes(rows: list[dict[str, Any]], changed: list[str]) -> None:
    """Read bbox and area; what is not a box of four numbers becomes one of NaN."""
    for at, row in enumerate(rows):
        values = row.get("bbox")
        numbers = list(map(_number, values)) if isinstance(values, list) else []
        if len(numbers) != 4 or None in numbers:
            row["bbox"] = [math.nan] * 4
        elif isinstance(values, list) and any(isinstance(value, str) for value in values):
            changed.append(f"annotations[{at}].bbox: {values!r:.60}")
            row["bbox"] = numbers
        area = row.get("area")
        if area is not None and type(area) not in (int, float):
            number = _number(area)
            if number is not None:
                changed.append(f"annotations[{at}].area: {area!r:.60}")
            row["area"] = number


def _number(value: object) -> float | None:
    """Return the number that a value is or that a text stands for, else None."""
    if isinstance(value, str):
        return parse_number(value.strip())
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def load_json(data: bytes, where: str) -> Any:
    """Parse JSON with Python's parser, which also accepts NaN, infinity and whole numbers of any length."""
    try:
        return json.loads(data.decode(json.detect_encoding(data)),
                          parse_int=lambda digits: (int if len(digits) <= INT64_DIGITS else float)(digits),
                          object_hook=lambda row: {key: value for key, value in row.items() if key not in UNUSED_KEYS})
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: byte {error.start} is not UTF-8; annotations are JSON text in UTF-8. Save it "
                         "as UTF-8.") from error
    except json.JSONDecodeError as error:
        cut = " (the file ends there: it is truncated)" if error.pos >= len(error.doc.rstrip()) else ""
        raise InputError(f"{where}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}{cut}. "
                         "`dvc repro --force --single-item download` fetches it again, if it was downloaded.") from error
    except RecursionError as error:
        raise InputError(f"{where}: {error}: its lists are nested too deeply. Is it another file?") from error
