"""The COCO format: find its files, read them, write them. data/fixed is in this format, whatever the original format was.

Reading drops segmentations and key points. Values are not checked here: `ssd_lib.validation.annotations` does that.
"""

import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from ssd_lib.annotations.account import count_matched
from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.files import (
    HALF_CHARACTER,
    SHOWN,
    DatasetListing,
    add_counts,
    below,
    describe_files,
    folders_of,
    is_image,
    join_listings,
    parse_number,
    read_bytes,
)
from ssd_lib.annotations.names import fold, folded_base, folded_stem, match_names
from ssd_lib.annotations.splits import SPLIT_WORDS, matching, require_images, spelled, split_names, split_of
from ssd_lib.annotations.table import Annotations, Boxes, Category, Images, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write, read_regular
from ssd_lib.images import read_sizes
from ssd_lib.manifest import REPAIR_HINT, FileCount, Manifest, Part, PartKey, image_of, name_below
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


class _ListedImage(msgspec.Struct):
    file_name: str


class _ListedImages(msgspec.Struct):
    images: list[_ListedImage]


class _CocoLike(msgspec.Struct):
    images: list[_ListedImage]
    annotations: list[Any]


def matches_content(root: Path, names: Collection[str]) -> bool:
    """Whether a JSON file has the content of a COCO file, whatever its name."""
    return bool(_by_content(root, names))


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
    if not matches(names):
        documents = _by_content(root, names)
        sides = {split: [name for name in documents if _split_of_document(name) == split] for split in ("train", "val")}
        if not sides["train"] or not sides["val"]:
            free = [name for name in documents if _split_of_document(name) != "test"]
            return join_listings(_divide(root, names, name, data.val_fraction) for name in free)
        listings = [(split, _part(root, names, split, name)) for split, found in sides.items() for name in found]
        return DatasetListing({split: tuple(part for side, (part, _) in listings if side == split) for split in sides},
                              names & {image_of(part, file, names) for _, (part, files) in listings for file in files},
                              add_counts(count for _, (part, _) in listings for count in count_matched(part.names)))
    if alone := _only_document(documents):
        return _divide(root, names, alone, data.val_fraction)
    splits: dict[str, tuple[Part, ...]] = {}
    listed: set[str] = set()
    counts: list[FileCount] = []
    for split in ("train", "val"):
        part, files = _part(root, names, split, _find_annotations(root, names, documents, split))
        splits[split] = (part,)
        listed |= {image_of(part, file, names) for file in files}
        counts += count_matched(part.names)
    return DatasetListing(splits, names & listed, add_counts(counts))


def read_coco(manifest: Manifest) -> dict[PartKey, ParsedPart]:
    """Read all parts of format coco; image names are those of the manifest. Only the split "test" may lack boxes.

    Guarantees: an image whose width and height the file does not give has the size of its image file.
    """
    parts = manifest.parts("coco")
    files = {part.annotations: split for (split, _), part in parts.items()}  # one file may serve two splits
    read = {name: _read_file(manifest.path(name), boxes=split != "test") for name, split in files.items()}
    parsed: dict[PartKey, ParsedPart] = {}
    told: set[str] = set()
    for key, part in parts.items():
        annotations, notes = read[part.annotations]
        annotations, unsized = _with_sizes(_images_of_part(annotations, part, manifest.files), manifest)
        if unsized:
            notes = {**notes, "sizes_of_images": f"{unsized} images have no width and height"}
        faults = [Fault(kind, (key[0], part.annotations), f"{part.annotations}: {text}") for kind, text in notes.items()
                  if part.annotations not in told]
        told.add(part.annotations)
        parsed[key] = ParsedPart(annotations, tuple(faults))
    return parsed


def read_annotations(path: Path, *, boxes: bool = True) -> Annotations:
    """Read a COCO file; see `parse_annotations`."""
    return _read_file(path, boxes=boxes).annotations


def parse_annotations(data: bytes, where: str, *, boxes: bool = True) -> Annotations:
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
    return DatasetListing(splits, names & {image_of(part, file, names) for file in files}, count_matched(part.names))


def _part(root: Path, names: frozenset[str], split: str, annotations: str) -> tuple[Part, list[str]]:
    """Return the part of an annotation file, and the images that it lists."""
    files = _listed_images(root / annotations)
    try:
        images = _find_images(root, names, folders_of(names), split, annotations, files)
    except InputError:
        if len(loose := _match_images(names, split, files)) < len(set(files)):
            raise
        return Part(format="coco", annotations=annotations, names=loose), files
    absent = [file for file in files if name_below(images, file, names) not in names]
    loose = _match_images(below(images, names), split, absent) if absent else {}
    return Part(format="coco", images=images, annotations=annotations, names=loose), files


def _match_images(names: Collection[str], split: str, files: list[str]) -> dict[str, str]:
    """Return file_name -> image, where they agree after folding, or in their base name or stem, one to one."""
    images = [name for name in names if is_image(name) and split_of(name.rpartition("/")[0]) in ("", split)]
    repeated = {file for file, count in Counter(files).items() if count > 1}
    return match_names(set(files) - repeated, images, fold, folded_base, folded_stem)


def _refuse_ambiguous(root: Path, names: Collection[str], split: str, annotations: str, files: list[str]) -> None:
    """Refuse names that several files have, such as file_name 000.jpg for a/000.jpg and b/000.jpg."""
    by_base: dict[str, list[str]] = {}
    for name in sorted(names):
        if is_image(name) and split_of(name.rpartition("/")[0]) in ("", split):
            by_base.setdefault(folded_base(name), []).append(name)
    for file in files:
        candidates = by_base.get(folded_base(file), ())
        if len(candidates) > 1:
            raise InputError(f"{root / annotations}: file_name {file!r} may be any of {len(candidates)} images: "
                             f"{', '.join(candidates[:SHOWN])}; it must be one of them. Export again with folders in "
                             f"file_name, such as {candidates[0]!r}, or rename the images.")


def _by_content(root: Path, names: Iterable[str]) -> list[str]:
    """Return the JSON files that are COCO by their content."""
    return sorted(name for name in _documents(names) if name.count("/") <= 2 and _is_coco(root / name))


def _is_coco(path: Path) -> bool:
    try:
        msgspec.json.decode(read_bytes(path).removeprefix(BYTE_ORDER_MARK), type=_CocoLike)
    except (msgspec.MsgspecError, RecursionError, ValueError, InputError):
        return False
    return True


def _split_of_document(name: str) -> str:
    """Return the split that a word in the name or in a folder of a file says; "" for none."""
    for split, words in SPLIT_WORDS.items():
        if re.search(rf"(?<![a-z])({'|'.join(words)})\d*(?![a-z])", name.lower().replace("_", "-")):
            return split
    return ""


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
    if not best:
        _refuse_ambiguous(root, names, split, annotations, files)
    found = f"found {', '.join(f'{folder}/' for folder in best)}" if best else describe_files(names)
    raise InputError(f"{root}: {len(best) or 'no'} folders with the images of {annotations} (such as {files[0]!r}); one is "
                     f"needed. Looked in {spelled(split, IMAGE_PATTERNS)}, {beside or '.'}, .; {found}. Write file_name "
                     "relative to one of these folders.")


def _listed_images(path: Path) -> list[str]:
    """Return the names of the images in an annotation file, without those that lead out of their folder, unless all do."""
    names = _file_names(path)
    inside = [name for name in names if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts]
    if not names:
        raise InputError(f"{path}: the list 'images' is empty; train and val need images. Export it again.")
    return inside or names  # paths of another machine: `_match_images` looks for their last part below the root


def _file_names(path: Path) -> list[str]:
    data = read_bytes(path)
    try:
        return [image.file_name for image in msgspec.json.decode(data, type=_ListedImages).images]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        pass  # Python's parser also accepts NaN, and its errors say where
    tree = _load_json(data, f"{path}: not an annotation file in COCO format")
    images = tree.get("images") if isinstance(tree, dict) else None
    if not isinstance(images, list):
        found = ", ".join(map(reprlib.repr, list(tree)[:10])) if isinstance(tree, dict) else f"a {type(tree).__name__}"
        raise InputError(f"{path}: not an annotation file in COCO format: no list 'images' at its top, but {found:.200}. "
                         "Export it again.")
    for at, image in enumerate(images):
        if not isinstance(image, dict) or "file_name" not in image:
            raise InputError(f"{path}: not an annotation file in COCO format: images[{at}] is {reprlib.repr(image):.200}, "
                             "without a file_name. Correct it, or export it again.")
    return [str(image["file_name"]) for image in images]


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
        tree = _load_json(data, where)  # ten times slower
        notes = _normalise(tree)
        file = _convert(tree, content, where)
    del data  # free hundreds of MB before the arrays are made
    annotations = _to_arrays(file)
    if len(annotations.boxes) and np.isnan(annotations.boxes.xywh).all():
        raise InputError(f"{where}: {len(annotations.boxes)} annotations, none of them with a bbox of four numbers; objects "
                         f"need a box. Export it with boxes, not outlines alone.")
    return _renumbered(_Parsed(annotations, notes))


def _normalise(tree: Any) -> dict[str, str]:
    """Change a parsed file in place: what has one meaning gets the type that it should have; return what was changed, by kind.

    What has no meaning stays as it is, for msgspec to name it.
    """
    lists = {key: [row for row in tree[key] if isinstance(row, dict)] if isinstance(tree.get(key), list) else []
             for key in ("images", "annotations", "categories")} if isinstance(tree, dict) else {}
    if not lists:
        return {}
    images, boxes, categories = lists.values()
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
    return notes


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


def _load_json(data: bytes, where: str) -> Any:
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
