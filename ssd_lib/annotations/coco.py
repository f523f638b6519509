"""COCO's files: the form on disk that everything becomes. Reading drops segmentations and refuses other forms; whether the
values make sense is for `checks` to say, and for `repair` to mend."""

import math
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from ssd_lib.annotations.coco_rows import parse_categories, parse_json, parse_rows, texts
from ssd_lib.annotations.table import Annotations, Boxes, Images, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write
from ssd_lib.manifest import REPAIR_HINT, Manifest, Part, Place, name_below
from ssd_lib.processes import begin

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors leave one
ROWS_AT_ONCE = 10_000  # while writing
LARGE_BYTES = 1 << 25  # from here on another process is worth its start
IMAGE_KEYS = (b'"file_name"', b'"width"', b'"height"')
ALL_KEYS = (b'id"', b'"bbox"', b'"area"', b'"iscrowd"')  # the first is that of id, image_id and category_id

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Image(msgspec.Struct, gc=False):
    id: Int64
    file_name: str
    width: Int64
    height: Int64


class _Box(msgspec.Struct, gc=False):
    id: Int64
    image_id: Int64
    category_id: Int64
    bbox: tuple[float, float, float, float]
    area: float = math.nan
    iscrowd: int | bool | None = 0


class _File(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Box]
    categories: msgspec.Raw
    info: msgspec.Raw = msgspec.Raw(b"null")
    licenses: msgspec.Raw = msgspec.Raw(b"null")


def read_coco(manifest: Manifest) -> dict[Place, ParsedPart]:
    """The annotations of all parts of format coco, each image under its name in the manifest; only "test" may lack boxes."""
    parts = manifest.parts("coco")
    files = {part.annotations: split for (split, _), part in parts.items()}  # one may have the images of two splits
    read = {name: read_annotations(manifest.path(name), boxes=split != "test") for name, split in files.items()}
    return {place: ParsedPart(_own_images(read[part.annotations], part, manifest.files)) for place, part in parts.items()}


def read_annotations(path: Path, *, boxes: bool = True) -> Annotations:
    """Read a COCO file; see `parse_annotations`."""
    try:
        return parse_annotations(path.read_bytes(), str(path), boxes=boxes)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {REPAIR_HINT}.") from error


def parse_annotations(data: bytes, where: str, *, boxes: bool = True) -> Annotations:
    """Turn the bytes of a COCO instances file into annotations.

    Guarantees: parsing what `format_annotations` wrote gives the same annotations. A file that is as it must be is decoded straight
    into typed records (a tenth of the time and of the memory); any other goes through `parse_rows`, which finds the words for
    what is wrong, or reads what only looks odd. NaN and infinity pass, for `checks` to name.

    Args:
        data: JSON.
        where: names the file in errors.
        boxes: must there be any? False also takes a list of images alone, as COCO publishes for its test split.

    Raises:
        InputError: cut short, another kind of file, a key missing or twice, a wrong type; with the place.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    file = _decode(data)
    if file is not None:
        categories, info = (parse_json(bytes(raw).decode(), f"{where}: {key}") for raw, key in (
            (file.categories, "categories"), (file.info, "info")))
        images, records = file.images, file.annotations
        del data, file  # half of the memory, before the rest grows
        return _columns(images, records, categories, info, where)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: byte {error.start} is not UTF-8; annotations are JSON text. Is it an archive?") from error
    return parse_rows(text, where, boxes)


def write_annotations(path: Path, annotations: Annotations) -> None:
    """Write a COCO file, atomically, one record a line; the same annotations give the same bytes."""
    with atomic_write(path) as file:
        for chunk in format_annotations(annotations):
            file.write(chunk)


def format_annotations(annotations: Annotations) -> Iterator[bytes]:
    """The bytes of a COCO file, piece by piece.

    Raises:
        ValueError: a number is not finite, which is our own fault: `repair` leaves none.
    """
    boxes = annotations.boxes
    if not (np.isfinite(boxes.xywh).all() and np.isfinite(boxes.areas).all()):
        raise ValueError("annotations to be written hold numbers that are not finite")
    yield b'{"info": ' + msgspec.json.encode(annotations.info) + b",\n"
    yield from _list("images", len(annotations.images), lambda rows: _image_records(annotations.images.take(rows)))
    yield b",\n"
    yield from _list("annotations", len(boxes), lambda rows: _box_records(boxes.take(rows)))
    yield b",\n"
    categories = annotations.categories
    yield from _list("categories", len(categories), lambda rows: [category._asdict() for category in categories[rows]])
    yield b"}\n"


def _decode(data: bytes) -> _File | None:
    """The records of a file that is as it must be."""
    counted = partial(_count_keys, data)
    counts = begin(counted) if len(data) > LARGE_BYTES else counted
    try:
        file = msgspec.json.decode(data, type=_File)
        _ = [bytes(raw).decode() for raw in (file.categories, file.info)]  # msgspec has not looked into them
    except (msgspec.MsgspecError, RecursionError, ValueError):
        counts()
        return None
    return file if _no_key_twice(counts(), file) else None


def _own_images(annotations: Annotations, part: Part, files: Container[str]) -> Annotations:
    own = _only_images(annotations, frozenset(part.only)) if part.only else annotations
    names = tuple(name_below(part.images, name, files) for name in own.images.file_names)
    return replace(own, images=replace(own.images, file_names=names))


def _only_images(annotations: Annotations, names: frozenset[str]) -> Annotations:
    """The annotations of some images alone, and of those that no image is known of."""
    images, boxes = annotations.images, annotations.boxes
    kept = np.array([name in names for name in images.file_names], dtype=bool)
    others = np.isin(boxes.image_ids, images.ids[~kept]) & ~np.isin(boxes.image_ids, images.ids[kept])
    return replace(annotations, images=images.take(np.flatnonzero(kept)), boxes=boxes.take(~others))


def _count_keys(data: bytes) -> dict[bytes, int]:
    """How often each key that is read stands in a file; those of images before the boxes, if all images are there."""
    end = max(0, data.find(b'"annotations"'))
    if data.count(b'"file_name"', 0, end) != data.count(b'"file_name"'):
        end = len(data)
    return {key: data.count(key, 0, end) for key in IMAGE_KEYS} | {key: data.count(key) for key in ALL_KEYS}


def _no_key_twice(counts: dict[bytes, int], file: _File) -> bool:
    """Whether the keys that are read stand as often as there are records: msgspec takes the last of two without a word.

    A file that has such words elsewhere is no fault: it is read row by row. Two lists of one name are found by their records.
    """
    images, boxes = len(file.images), len(file.annotations)
    rest = b"".join(bytes(raw) for raw in (file.categories, file.info, file.licenses))
    expected = dict.fromkeys(ALL_KEYS, boxes) | {b'id"': images + 3 * boxes}
    return (all(counts[key] <= images for key in IMAGE_KEYS)
            and all(counts[key] - rest.count(key) <= count for key, count in expected.items()))


def _columns(images: list[_Image], boxes: list[_Box], categories: Any, info: Any, where: str) -> Annotations:
    columns = Boxes(
        _column(map(attrgetter("id"), boxes), np.int64, len(boxes)),
        _column(map(attrgetter("image_id"), boxes), np.int64, len(boxes)),
        _column(map(attrgetter("category_id"), boxes), np.int64, len(boxes)),
        _column(chain.from_iterable(map(attrgetter("bbox"), boxes)), np.float64, 4 * len(boxes)).reshape(-1, 4),
        _column(map(attrgetter("area"), boxes), np.float64, len(boxes)),
        _column(map(bool, map(attrgetter("iscrowd"), boxes)), np.bool_, len(boxes)))
    sizes = _column((side for image in images for side in (image.width, image.height)), np.int64, 2 * len(images))
    return Annotations(
        Images(_column((image.id for image in images), np.int64, len(images)), tuple(image.file_name for image in images),
               sizes.reshape(-1, 2)),
        columns, parse_categories(categories, bool((columns.category_ids == 0).any()), where), texts(info))


def _image_records(images: Images) -> list[_Image]:
    columns = (images.ids.tolist(), images.file_names, *images.sizes.T.tolist())
    return [_Image(*row) for row in zip(*columns, strict=True)]


def _box_records(boxes: Boxes) -> list[_Box]:
    columns = (boxes.ids, boxes.image_ids, boxes.category_ids, boxes.xywh, boxes.areas, boxes.is_crowd.astype(int))
    return [_Box(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _column(values: Any, dtype: Any, count: int) -> np.ndarray:
    return np.fromiter(values, dtype=dtype, count=count)


def _list(key: str, count: int, encodable: Callable[[slice], list[Any]]) -> Iterator[bytes]:
    """A list of so many records, one a line: what `encode_lines` ends its lines with stands nowhere within them."""
    yield f'"{key}": ['.encode()
    encoder, between = msgspec.json.Encoder(), b"\n"
    for start in range(0, count, ROWS_AT_ONCE):
        lines = encoder.encode_lines(encodable(slice(start, start + ROWS_AT_ONCE)))
        yield between + lines.removesuffix(b"\n").replace(b"\n", b",\n")
        between = b",\n"
    yield b"\n]"
