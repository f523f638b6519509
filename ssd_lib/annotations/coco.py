"""The COCO format: read an annotation file, and write one. data/fixed is in this format, whatever the original format was.

Reading drops segmentations and key points. Values are not checked here: `ssd_lib.validation.annotations` does that.
"""

import re
import reprlib
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from ssd_lib.annotations.coco_json import BYTE_ORDER_MARK, load_json, normalise
from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.files import HALF_CHARACTER
from ssd_lib.annotations.table import Annotations, Boxes, Category, Images, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write, read_regular
from ssd_lib.images import read_sizes
from ssd_lib.manifest import REPAIR_HINT, Manifest, Part, PartKey, image_of

ROWS_AT_ONCE = 10_000  # while writing
CONTENT = ("An instances file is an object with images (id, file_name, width, height), annotations (id, image_id, category_id, "
           "bbox [x, y, width, height]) and categories (id, name); ids are whole numbers of at most 64 bits")
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Image(msgspec.Struct, gc=False):
    id: Int64
    file_name: str
    width: Int64 | None = None
    height: Int64 | None = None


class _Box(msgspec.Struct, gc=False):
    id: Int64
    image_id: Int64
    category_id: Int64
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: bool | int | None = 0


class _Category(msgspec.Struct):
    id: Int64
    name: str
    source_id: Int64 | None = None
    supercategory: Any = None


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Box]
    categories: list[_Category]
    info: Any = None


class _Parsed(NamedTuple):
    """Annotations, and for kinds of `faults` what is unusual about the file, such as ids that are texts."""

    annotations: Annotations
    notes: dict[str, str]


class _ImageList(_File):
    """What COCO publishes for its test split."""

    images: list[_Image] = []
    annotations: list[_Box] = []
    categories: list[_Category] = []


def read_parts(manifest: Manifest) -> dict[PartKey, ParsedPart]:
    """Read all parts of format coco; image names are those of the manifest. Only the split "test" may lack boxes.

    Guarantees: an image whose width and height the file does not give has the size of its image file.
    """
    parts = manifest.parts("coco")
    files = {part.annotations: split for (split, _), part in parts.items()}  # one file may serve two splits
    read = {name: _read_file(manifest.path(name), boxes=split != "test") for name, split in files.items()}
    parsed: dict[PartKey, ParsedPart] = {}
    reported: set[str] = set()
    for key, part in parts.items():
        annotations, notes = read[part.annotations]
        annotations, unsized = _with_sizes(_images_of_part(annotations, part, manifest.files), manifest)
        if unsized:
            notes = {**notes, "sizes_of_images": f"images without width and height: {unsized}"}
        faults = [Fault(kind, (key[0], part.annotations), f"{part.annotations}: {text}") for kind, text in notes.items()
                  if part.annotations not in reported]
        reported.add(part.annotations)
        parsed[key] = ParsedPart(annotations, tuple(faults))
    return parsed


def read_annotations(path: Path, *, boxes: bool = True) -> Annotations:
    """Read a COCO file; see `parse_file`."""
    return _read_file(path, boxes=boxes).annotations


def parse_file(data: bytes, where: str, *, boxes: bool = True) -> Annotations:
    """Parse the content of a COCO instances file.

    Guarantees: parsing the output of `format_annotations` gives the same annotations. NaN, infinity and whole numbers of any
    length are accepted in boxes, and left for validation to report; so is an annotation without a bbox of four numbers, as a
    box of NaN. Of a key that occurs twice in an object, the last counts. What has one meaning is read: numbers written as text,
    whole numbers such as 3.0, ids that are texts (they are numbered), annotation ids that are unique only within an image (they
    are numbered anew), area null. An image without width and height has size (0, 0).

    Args:
        data: JSON.
        where: the name of the file, for errors.
        boxes: whether annotations and categories are required; False also accepts a list of images, as COCO publishes for test.

    Raises:
        InputError: truncated, another kind of file, a missing key or a wrong type.
    """
    return _parse(data, where, boxes).annotations


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write a COCO file atomically, one record per line; the same annotations give the same bytes."""
    with atomic_write(path) as file:
        for chunk in format_annotations(annotations):
            file.write(chunk)


def format_annotations(annotations: Annotations) -> Iterator[bytes]:
    """Yield the bytes of a COCO file.

    Raises:
        ValueError: a number is not finite; `repair.fix` leaves none.
    """
    boxes = annotations.boxes
    if not (np.isfinite(boxes.xywh).all() and np.isfinite(boxes.areas).all()):
        raise ValueError("annotations to be written hold numbers that are not finite")
    yield b'{"info": ' + msgspec.json.encode(annotations.info) + b",\n"
    yield from _format_list("images", len(annotations.images), lambda rows: _image_records(annotations.images.take(rows)))
    yield b",\n"
    yield from _format_list("annotations", len(boxes), lambda rows: _box_records(boxes.take(rows)))
    yield b",\n"
    categories = annotations.categories
    yield from _format_list("categories", len(categories), lambda rows: [row._asdict() for row in categories[rows]])
    yield b"}\n"


def _read_file(path: Path, *, boxes: bool) -> _Parsed:
    try:
        return _parse(read_regular(path), str(path), boxes)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {REPAIR_HINT}.") from error


def _parse(data: bytes, where: str, boxes: bool) -> _Parsed:
    data = data.removeprefix(BYTE_ORDER_MARK)
    content, notes = _File if boxes else _ImageList, dict[str, str]()
    try:
        file = msgspec.json.decode(data, type=content)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        tree, notes = normalise(load_json(data, where))  # ten times slower
        file = _convert(tree, content, where)
    del data  # free hundreds of MB before the arrays are made
    if odd := [box for box in file.annotations if box.iscrowd not in (0, 1, None)]:
        notes["odd_crowd"] = (f"{len(odd)} annotations have an iscrowd that is neither 0 nor 1; the first is annotation "
                              f"{odd[0].id} with {odd[0].iscrowd}")
    annotations = _to_arrays(file)
    if len(annotations.boxes) and np.isnan(annotations.boxes.xywh).all():
        raise InputError(f"{where}: {len(annotations.boxes)} annotations, none of them with a bbox of four numbers; objects "
                         f"need a box. Export it with boxes, not outlines alone.")
    return _renumbered(_Parsed(annotations, notes))


def _renumbered(parsed: _Parsed) -> _Parsed:
    """Number the boxes anew where annotations of different images have one id; within an image it stays a fault."""
    boxes = parsed.annotations.boxes
    order = np.argsort(boxes.ids, kind="stable")
    ids, images = boxes.ids[order], boxes.image_ids[order]
    shared = (ids[1:] == ids[:-1]) & (images[1:] != images[:-1])
    if not shared.any():
        return parsed
    count = int((ids[1:] == ids[:-1]).sum())
    pairs = np.stack([boxes.image_ids, boxes.ids], axis=1)
    if (ids == ids[0]).all():
        pairs[:, 1] = np.arange(len(pairs))
    _, first, same = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    annotations = replace(parsed.annotations, boxes=replace(boxes, ids=first[same.reshape(-1)] + 1))
    text = f"{count} of {len(boxes)} annotations have the id of one of another image; all are numbered from 1 in their order"
    return _Parsed(annotations, {**parsed.notes, "renumbered_boxes": text})


def _with_sizes(annotations: Annotations, manifest: Manifest) -> tuple[Annotations, int]:
    """Return the annotations with the sizes of image files where they give none, and the number of such images."""
    images = annotations.images
    unsized = np.flatnonzero((images.sizes == 0).all(axis=1))
    if not len(unsized):
        return annotations, 0
    sizes = images.sizes.copy()
    sizes[unsized] = read_sizes(manifest.path(images.file_names[index]) for index in unsized.tolist())
    return replace(annotations, images=replace(images, sizes=sizes)), len(unsized)


def _convert(tree: Any, content: type[_File], where: str) -> _File:
    """Turn parsed JSON into typed records.

    Raises:
        InputError: msgspec's message, such as "Expected `int`, got `str` - at `$.annotations[12].id`", and the value there.
    """
    try:
        file = msgspec.convert(tree, content)
    except (msgspec.ValidationError, RecursionError) as error:
        value = _value_at(tree, str(error).partition(" - at `$")[2])
        raise InputError(f"{where}: {error}, where the file has {reprlib.repr(value):.100}. {CONTENT}. "
                         f"{_hint(tree)}") from error
    for name in (*(image.file_name for image in file.images), *(category.name for category in file.categories)):
        if HALF_CHARACTER.search(name):
            raise InputError(f"{where}: the name {name!a:.60} contains a lone surrogate; names must be Unicode text. "
                             "Correct it.")
    return file


def _value_at(tree: Any, path: str) -> Any:
    """Return the part of a tree at a path such as ".annotations[12].id"."""
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        tree = tree[key] if key else tree[int(index)]
    return tree


def _hint(tree: Any) -> str:
    if isinstance(tree, list):
        return "Is it a file of detection results?"
    rows = tree.get("annotations") if isinstance(tree, dict) else None
    if isinstance(rows, list) and rows and isinstance(rows[0], dict) and "caption" in rows[0]:
        return "It holds captions: take the instances_*.json file beside it."
    return "Correct the file, or export it again."


def _images_of_part(annotations: Annotations, part: Part, files: Container[str]) -> Annotations:
    own = _only_images(annotations, frozenset(part.only)) if part.only else annotations
    names = tuple(image_of(part, name, files) for name in own.images.file_names)
    return replace(own, images=replace(own.images, file_names=names))


def _only_images(annotations: Annotations, names: frozenset[str]) -> Annotations:
    """Keep some images and their boxes, and the boxes of unknown images."""
    images, boxes = annotations.images, annotations.boxes
    kept = np.array([name in names for name in images.file_names], dtype=bool)
    others = np.isin(boxes.image_ids, images.ids[~kept]) & ~np.isin(boxes.image_ids, images.ids[kept])
    return replace(annotations, images=images.take(np.flatnonzero(kept)), boxes=boxes.take(~others))


def _to_arrays(file: _File) -> Annotations:
    images, boxes = file.images, file.annotations
    sizes = _column((side for image in images
                     for side in ((image.width, image.height) if image.width and image.height else (0, 0))),
                    np.int64, 2 * len(images))
    return Annotations(
        Images(_column((image.id for image in images), np.int64, len(images)), tuple(image.file_name for image in images),
               sizes.reshape(-1, 2)),
        Boxes(_column(map(attrgetter("id"), boxes), np.int64, len(boxes)),
              _column(map(attrgetter("image_id"), boxes), np.int64, len(boxes)),
              _column(map(attrgetter("category_id"), boxes), np.int64, len(boxes)),
              _column(chain.from_iterable(map(attrgetter("bbox"), boxes)), np.float64, 4 * len(boxes)).reshape(-1, 4),
              np.array(list(map(attrgetter("area"), boxes)), dtype=np.float64),  # NaN for None
              _column(map(bool, map(attrgetter("iscrowd"), boxes)), np.bool_, len(boxes))),
        _categories(file),
        {key: value for key, value in file.info.items() if isinstance(value, str)} if isinstance(file.info, dict) else {})


def _categories(file: _File) -> tuple[Category, ...]:
    """Return the classes. Category 0 of Roboflow's exports, the name of the dataset, is a class only if a box has it."""
    supercategories = [row.supercategory for row in file.categories]
    uses_zero = any(box.category_id == 0 for box in file.annotations)
    return tuple(Category(row.id, row.name, row.id if row.source_id is None else row.source_id) for row in file.categories
                 if uses_zero or row.id != 0 or row.name not in supercategories)


def _image_records(images: Images) -> list[_Image]:
    columns = (images.ids.tolist(), images.file_names, *images.sizes.T.tolist())
    return [_Image(*row) for row in zip(*columns, strict=True)]


def _box_records(boxes: Boxes) -> list[_Box]:
    columns = (boxes.ids, boxes.image_ids, boxes.category_ids, boxes.xywh, boxes.areas, boxes.is_crowd.astype(int))
    return [_Box(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _column(values: Any, dtype: Any, count: int) -> np.ndarray:
    return np.fromiter(values, dtype=dtype, count=count)


def _format_list(key: str, count: int, encodable: Callable[[slice], list[Any]]) -> Iterator[bytes]:
    """Yield a JSON list of `count` records, one per line; newlines within strings are escaped, so each one ends a record."""
    yield f'"{key}": ['.encode()
    encoder, between = msgspec.json.Encoder(), b"\n"
    for start in range(0, count, ROWS_AT_ONCE):
        lines = encoder.encode_lines(encodable(slice(start, start + ROWS_AT_ONCE)))
        yield between + lines.removesuffix(b"\n").replace(b"\n", b",\n")
        between = b",\n"
    yield b"\n]"
