"""Annotations in their one form: COCO's, in memory and on disk. Reading drops segmentations and refuses other forms;
whether the values make sense is for `checks` to say, and for `repair` to mend."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write
from ssd_lib.manifest import Manifest

UNUSED_KEYS = {"segmentation", "keypoints", "segments_info"}  # most of a file's bytes, and not needed for boxes
HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # JSON can hold one, UTF-8 cannot
LISTS = ("images", "annotations", "categories")
INT64 = range(-(2**63), 2**63)  # ids end in tensors


class Image(NamedTuple):
    """One picture; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class Box(NamedTuple):
    """One object: x and y of the top left corner, pixels. A crowd is a group, ignored in training and evaluation."""

    id: int
    image_id: int
    category_id: int
    x: float
    y: float
    width: float
    height: float
    area: float
    is_crowd: bool


class Category(NamedTuple):
    """One class; `source_id` is its id in the data set as it came."""

    id: int
    name: str
    source_id: int


class Annotations(NamedTuple):
    """The content of one annotation file, in its order."""

    images: tuple[Image, ...]
    boxes: tuple[Box, ...]
    categories: tuple[Category, ...]
    info: dict[str, str]


def read_split(manifest: Manifest, split: str) -> Annotations:
    """Read the annotations of one split, with each image under its name in the manifest; only "test" may lack boxes."""
    part = manifest.splits[split]
    annotations = read_annotations(manifest.path(part.annotations), boxes=split != "test")
    prefix = f"{part.images}/" if part.images else ""
    images = tuple(image._replace(file_name=prefix + image.file_name) for image in annotations.images)
    return annotations._replace(images=images)


def read_annotations(path: Path, *, boxes: bool = True) -> Annotations:
    """Read a COCO file; see `parse_annotations`."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors leave a byte order mark
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; annotations are JSON text. "
                         "Is it an archive?") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. `dvc repro --force --single-item download` "
                         "fetches what is missing, if it was downloaded.") from error
    return parse_annotations(text, str(path), boxes=boxes)


def parse_annotations(text: str, where: str, *, boxes: bool = True) -> Annotations:
    """Turn the text of a COCO instances file into annotations.

    Law: parsing what `format_annotations` wrote gives the same annotations. Objects lose their unused keys as they are
    parsed, so that the segmentations of a whole COCO are never in memory together. NaN and infinity pass, for `checks`
    to name.

    Args:
        text: JSON.
        where: names the file in errors.
        boxes: must there be any? False also takes a list of images alone, as COCO publishes for its test split.

    Raises:
        InputError: cut short, another kind of file, a key missing or twice, a wrong type; with the place.
    """
    tree = _parse_json(text, where)
    if not isinstance(tree, dict):
        raise InputError(f"{where}: holds a {type(tree).__name__}; annotations are an object with images, annotations "
                         "and categories. Is it a file of detection results?")
    rows = {key: _rows(tree, key, where) for key in LISTS if boxes or key in tree}
    if any("caption" in row and "bbox" not in row for row in rows.get("annotations", ())[:1]):
        raise InputError(f"{where}: holds captions; a detector learns from boxes. "
                         "Take the instances_*.json file beside it.")
    info = tree.get("info")
    strings = {key: value for key, value in info.items() if isinstance(value, str)} if isinstance(info, dict) else {}
    return Annotations(
        tuple(_image(row, f"{where}: images[{at}]") for at, row in enumerate(rows.get("images", ()))),
        tuple(_box(row, f"{where}: annotations[{at}]") for at, row in enumerate(rows.get("annotations", ()))),
        tuple(_category(row, f"{where}: categories[{at}]") for at, row in enumerate(rows.get("categories", ()))),
        strings)


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write a COCO file, atomically, one record a line; the same annotations give the same bytes."""
    with atomic_write(path) as file:
        for line in format_annotations(annotations):
            file.write(line.encode())


def format_annotations(annotations: Annotations) -> Iterator[str]:
    """The text of a COCO file, line by line."""
    yield f'{{"info": {_dump(annotations.info)},\n'
    yield from _list("images", (image._asdict() for image in annotations.images))
    yield ",\n"
    yield from _list("annotations", (_box_row(box) for box in annotations.boxes))
    yield ",\n"
    yield from _list("categories", (category._asdict() for category in annotations.categories))
    yield "}\n"


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        cut = " (the file ends there: it was cut short)" if error.pos >= len(text.rstrip()) else ""
        raise InputError(f"{where}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}{cut}. "
                         "`dvc repro --force --single-item download` fetches it anew, if it was downloaded.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        rest = f" (of id {content['id']})" if "id" in content else ""
        raise ValueError(f"key '{twice}' stands twice in one object{rest}; which one holds? Remove the other.")
    return {key: value for key, value in pairs if key not in UNUSED_KEYS}


def _rows(tree: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    rows = tree.get(key)
    if not isinstance(rows, list):
        found = f"'{key}' is {rows!r:.40}" if key in tree else f"no '{key}' among {', '.join(tree) or 'no keys'}"
        raise InputError(f"{where}: {found}; a COCO instances file has lists of images, annotations and categories.")
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
        raise InputError(f"{where}{_of(row)} has no '{key}'; its keys are {', '.join(row) or 'none'}.")
    return row[key]


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
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and value in INT64):
        return float(value)
    raise InputError(f"{where}{_of(row)} has {value!r:.60} in its {key}; it must be a number.")


def _of(row: dict[str, Any]) -> str:
    return f" (id {row['id']!r:.30})" if "id" in row else ""


def _box_row(box: Box) -> dict[str, Any]:
    return {"id": box.id, "image_id": box.image_id, "category_id": box.category_id,
            "bbox": [box.x, box.y, box.width, box.height], "area": box.area, "iscrowd": int(box.is_crowd)}


def _list(key: str, rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield f'"{key}": ['
    for at, row in enumerate(rows):
        yield f"{',' if at else ''}\n{_dump(row)}"
    yield "\n]"


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=True, ensure_ascii=False)
