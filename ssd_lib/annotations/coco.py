"""The COCO format: find its files, read them, write them. data/fixed is in this format, whatever the original format was.

Reading drops segmentations and key points. Values are not checked here: `ssd_lib.validation.annotations` does that.
"""

import json
import math
import re
import reprlib
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec
import numpy as np

from ssd_lib.annotations.files import HALF_CHARACTER, DatasetListing, describe_files, folders_of, read_bytes
from ssd_lib.annotations.splits import SPLIT_WORDS, matching, require_images, spelled, split_names
from ssd_lib.annotations.table import Annotations, Boxes, Category, Images, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write
from ssd_lib.manifest import REPAIR_HINT, Manifest, Part, PartKey, name_below
from ssd_lib.params import DataParams

EXPECTED_FILES = "annotations/instances_train*.json, train.json, train/_annotations.coco.json and the same for val"
ANNOTATION_PATTERNS = ("annotations/instances_{split}*.json", "annotations/{split}*.json",
                       "{split}/_annotations.coco.json", "{split}.json", "instances_{split}*.json")
PATTERNS_WITHOUT_SPLIT = ("annotations/*.json", "annotations.json", "instances*.json", "*.coco.json")
IMAGE_PATTERNS = ("{split}*", "images/{split}*", "images")  # besides the folder of the annotation file, and the root
SAMPLE = 20  # images of an annotation file that are looked up, to find their folder

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors write one
UNUSED_KEYS = {"segmentation", "keypoints", "segments_info"}  # most of the bytes of a file
INT64_DIGITS = 20  # with sign; Python's JSON parser reads longer whole numbers as floats, which may be infinite
ROWS_AT_ONCE = 10_000  # while writing
CONTENT = ("An instances file is an object with images (id, file_name, width, height), annotations (id, image_id, category_id, "
           "bbox [x, y, width, height]) and categories (id, name); ids are whole numbers of at most 64 bits")

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
    iscrowd: Any = 0


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


class _ImageList(_File):
    """What COCO publishes for its test split."""

    images: list[_Image] = []
    annotations: list[_Box] = []
    categories: list[_Category] = []


class _ListedImage(msgspec.Struct):
    file_name: str


class _ListedImages(msgspec.Struct):
    images: list[_ListedImage]


def matches(names: Collection[str]) -> bool:
    """Whether the names of the files look like a dataset in this format."""
    documents = _documents(names)
    return any(matching(documents, split, (*ANNOTATION_PATTERNS, *PATTERNS_WITHOUT_SPLIT)) for split in SPLIT_WORDS)


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """Find the annotation file and the image folder of train and of val; a test split is not used.

    Guarantees: nothing is guessed: if two files match, the error names both. If there is only one annotation file, it serves
    both splits, and `data.val_fraction` of its images become val.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        data: `val_fraction`.

    Raises:
        InputError: no annotation file or no image folder for train or val, or more than one, or not in COCO format.
    """
    documents = _documents(names)
    if alone := _only_document(documents):
        return _divide(root, names, alone, data.val_fraction)
    splits: dict[str, tuple[Part, ...]] = {}
    listed: set[str] = set()
    for split in ("train", "val"):
        part, files = _part(root, names, split, _find_annotations(root, names, documents, split))
        splits[split] = (part,)
        listed |= {name_below(part.images, file, names) for file in files}
    return DatasetListing(splits, names & listed)


def read_coco(manifest: Manifest) -> dict[PartKey, ParsedPart]:
    """Read all parts of format coco; image names are those of the manifest. Only the split "test" may lack boxes."""
    parts = manifest.parts("coco")
    files = {part.annotations: split for (split, _), part in parts.items()}  # one file may serve two splits
    read = {name: read_annotations(manifest.path(name), boxes=split != "test") for name, split in files.items()}
    return {key: ParsedPart(_images_of_part(read[part.annotations], part, manifest.files)) for key, part in parts.items()}


def read_annotations(path: Path, *, boxes: bool = True) -> Annotations:
    """Read a COCO file; see `parse_annotations`."""
    try:
        return parse_annotations(path.read_bytes(), str(path), boxes=boxes)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {REPAIR_HINT}.") from error


def parse_annotations(data: bytes, where: str, *, boxes: bool = True) -> Annotations:
    """Parse the content of a COCO instances file.

    Guarantees: parsing the output of `format_annotations` gives the same annotations. NaN, infinity and whole numbers of any
    length are accepted in boxes, and left for validation to report. Of a key that occurs twice in an object, the last counts.

    Args:
        data: JSON.
        where: the name of the file, for errors.
        boxes: whether annotations and categories are required; False also accepts a list of images, as COCO publishes for test.

    Raises:
        InputError: truncated, another kind of file, a missing key or a wrong type.
    """
    data = data.removeprefix(BYTE_ORDER_MARK)
    content = _File if boxes else _ImageList
    try:
        file = msgspec.json.decode(data, type=content)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        file = _convert(_load_json(data, where), content, where)  # ten times slower
    del data  # free hundreds of MB before the arrays are made
    return _to_arrays(file)


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


def _documents(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(".json")]


def _only_document(documents: list[str]) -> str:
    """Return the annotation file if there is exactly one besides those of test, else ""."""
    test = set(matching(documents, "test", ANNOTATION_PATTERNS))
    found = [name for name in matching(documents, "train", (*ANNOTATION_PATTERNS, *PATTERNS_WITHOUT_SPLIT)) if name not in test]
    return found[0] if len(found) == 1 and not matching(documents, "val", ANNOTATION_PATTERNS) else ""


def _divide(root: Path, names: frozenset[str], annotations: str, val_fraction: float) -> DatasetListing:
    """Divide the images of one annotation file between train and val."""
    part, files = _part(root, names, "train", annotations)
    sides = dict(zip(("train", "val"), split_names(set(files), val_fraction), strict=True))
    for split, side in sides.items():
        require_images(str(root / annotations), split, side)
    splits: dict[str, tuple[Part, ...]] = {
        split: (part.model_copy(update={"only": tuple(side)}),) for split, side in sides.items()}
    return DatasetListing(splits, names & {name_below(part.images, file, names) for file in files})


def _part(root: Path, names: frozenset[str], split: str, annotations: str) -> tuple[Part, list[str]]:
    """Return the part of an annotation file, and the images that it lists."""
    files = _listed_images(root / annotations)
    images = _find_images(root, names, folders_of(names), split, annotations, files)
    return Part(format="coco", images=images, annotations=annotations), files


def _find_annotations(root: Path, names: frozenset[str], documents: list[str], split: str) -> str:
    found = matching(documents, split, ANNOTATION_PATTERNS)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{root}: {len(found)} annotation files for {split}; one is needed; found {', '.join(found)}. "
                         "Move or rename files until one is left.")
    raise InputError(f"{root}: no annotation files for {split}; one is needed. Looked for "
                     f"{spelled(split, ANNOTATION_PATTERNS)}; {describe_files(names)}. Move or rename yours.")


def _find_images(root: Path, names: frozenset[str], folders: set[str], split: str, annotations: str, files: list[str]) -> str:
    """Return the folder that has the most of the first few images of the annotation file."""
    beside = annotations.rpartition("/")[0]
    counts = {folder: sum(name_below(folder, file, names) in names for file in files[:SAMPLE])
              for folder in (*matching(folders, split, IMAGE_PATTERNS), beside, "")}
    most = max(counts.values())
    best = [folder for folder, count in counts.items() if count == most > 0]
    if len(best) == 1:
        return best[0]
    found = f"found {', '.join(f'{folder}/' for folder in best)}" if best else describe_files(names)
    raise InputError(f"{root}: {len(best) or 'no'} folders with the images of {annotations} (such as {files[0]!r}); one is "
                     f"needed. Looked in {spelled(split, IMAGE_PATTERNS)}, {beside or '.'}, .; {found}. Write file_name "
                     "relative to one of these folders.")


def _listed_images(path: Path) -> list[str]:
    """Return the names of the images in an annotation file, without those that lead out of their folder."""
    names = _file_names(path)
    inside = [name for name in names if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts]
    if not inside:
        raise InputError(f"{path}: {len(names)} images, none of them with a relative file_name; that is needed. Write "
                         "file_name relative to the image folder.")
    return inside


def _file_names(path: Path) -> list[str]:
    data = read_bytes(path)
    try:
        return [image.file_name for image in msgspec.json.decode(data, type=_ListedImages).images]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        pass  # Python's parser also accepts NaN, a byte order mark and UTF-16, and its errors say where
    try:
        return [str(image["file_name"]) for image in json.loads(data)["images"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not an annotation file in COCO format ({type(error).__name__}: {error}); it needs a "
                         "list 'images' with a 'file_name' each. Export it again.") from error


def _load_json(data: bytes, where: str) -> Any:
    """Parse JSON with Python's parser, which also accepts NaN, infinity and whole numbers of any length."""
    try:
        return json.loads(data.decode(), parse_int=lambda digits: (int if len(digits) <= INT64_DIGITS else float)(digits),
                          object_hook=lambda row: {key: value for key, value in row.items() if key not in UNUSED_KEYS})
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: byte {error.start} is not UTF-8; annotations are JSON text. Is it an archive?") from error
    except json.JSONDecodeError as error:
        cut = " (the file ends there: it is truncated)" if error.pos >= len(error.doc.rstrip()) else ""
        raise InputError(f"{where}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}{cut}. "
                         "`dvc repro --force --single-item download` fetches it again, if it was downloaded.") from error
    except RecursionError as error:
        raise InputError(f"{where}: {error}: its lists are nested too deeply. Is it another file?") from error


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
    names = tuple(name_below(part.images, name, files) for name in own.images.file_names)
    return replace(own, images=replace(own.images, file_names=names))


def _only_images(annotations: Annotations, names: frozenset[str]) -> Annotations:
    """Keep some images and their boxes, and the boxes of unknown images."""
    images, boxes = annotations.images, annotations.boxes
    kept = np.array([name in names for name in images.file_names], dtype=bool)
    others = np.isin(boxes.image_ids, images.ids[~kept]) & ~np.isin(boxes.image_ids, images.ids[kept])
    return replace(annotations, images=images.take(np.flatnonzero(kept)), boxes=boxes.take(~others))


def _to_arrays(file: _File) -> Annotations:
    images, boxes = file.images, file.annotations
    sizes = _column((side for image in images for side in (image.width, image.height)), np.int64, 2 * len(images))
    return Annotations(
        Images(_column((image.id for image in images), np.int64, len(images)), tuple(image.file_name for image in images),
               sizes.reshape(-1, 2)),
        Boxes(_column(map(attrgetter("id"), boxes), np.int64, len(boxes)),
              _column(map(attrgetter("image_id"), boxes), np.int64, len(boxes)),
              _column(map(attrgetter("category_id"), boxes), np.int64, len(boxes)),
              _column(chain.from_iterable(map(attrgetter("bbox"), boxes)), np.float64, 4 * len(boxes)).reshape(-1, 4),
              _column(map(attrgetter("area"), boxes), np.float64, len(boxes)),
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
