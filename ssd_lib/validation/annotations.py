"""Find faults of annotations, and images that occur more than once, without reading an image. `repair` fixes them."""

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple, TypeVar

import numpy as np

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations, Category, Images, clean_name, repeated_rows
from ssd_lib.manifest import Manifest

T = TypeVar("T")
CLIP_SLACK_PX = 1.0  # annotation tools round; a box may pass the edge of the image by this much


class Duplicate(NamedTuple):
    """An image, and an earlier one with the same bytes."""

    split: str
    name: str
    first_split: str
    first_name: str


def check_annotations(annotations: Annotations, split: str, first: int = 0) -> Iterator[Fault]:
    """Yield every fault of the annotations of a split, or of a part of it; a box has at most one fault, the worst.

    Args:
        annotations: its `file_names` are those of the manifest.
        split: the name of the split, for the texts.
        first: number of boxes in the parts before.
    """
    yield from _check_images(annotations.images, split)
    yield from _check_categories(annotations.categories, split)
    owners = annotations.image_indices()
    for kind, rows in _box_faults(annotations, owners):
        for row in rows.tolist():
            image = annotations.images.file_names[owners[row]] if owners[row] >= 0 else ""
            text = f"{split}: {annotations.name_box(row, owners[row])}: {_describe(kind, annotations, row, owners[row])}"
            yield Fault(kind, (split, first + row), text, image, tuple(annotations.boxes.xywh[row].tolist()))


def check_between(train: Annotations, val: Annotations) -> Iterator[Fault]:
    """Yield a fault for each class that has boxes in val and none in train."""
    missing = _names_with_boxes(val) - _names_with_boxes(train)
    for category in val.categories:
        if category.name in missing:
            yield Fault("untrained_category", ("val", category.id),
                        f"val: category {category.id} '{category.name}' has boxes in val and none in train")


def check_names(categories: Iterable[Category]) -> Iterator[Fault]:
    """Yield a fault for each class whose name is nearly that of another, in any split or part of the dataset."""
    names = list(dict.fromkeys(clean_name(category.name) for category in categories if category.name.strip()))
    for name, first in _repeated(names, map(_letters_of, names)):
        yield Fault("similar_category_names", ("", name), f"classes '{first}' and '{name}' differ only in capitals, spaces or "
                    "punctuation")


def find_duplicates(manifest: Manifest, splits: Mapping[str, Annotations]) -> list[Duplicate]:
    """Find every image whose bytes occurred before in its split and, if it is in val, in train.

    The hashes are those of the manifest: no file is read, and similar images are not found. Empty files, and files that the
    manifest does not list, have faults of their own and are skipped.
    """
    firsts = {split: _first_names(manifest, annotations) for split, annotations in splits.items()}
    found = []
    for split, annotations in splits.items():
        for name, digest in _hashes(manifest, annotations):
            if split == "val" and digest in firsts.get("train", {}):
                found.append(Duplicate(split, name, "train", firsts["train"][digest]))
            if firsts[split][digest] != name:
                found.append(Duplicate(split, name, split, firsts[split][digest]))
    return found


def check_duplicates(manifest: Manifest, splits: Mapping[str, Annotations]) -> Iterator[Fault]:
    """Yield a fault for each of `find_duplicates`: `train_val_leak` between train and val, else `duplicate_content`."""
    for split, name, first_split, first_name in find_duplicates(manifest, splits):
        kind, where = ("duplicate_content", "") if split == first_split else ("train_val_leak", f" of {first_split}")
        text = f"also an image{where}" if name == first_name else f"the same bytes as '{first_name}'{where}"
        yield Fault(kind, (split, name), f"{split}: '{name}' is {text}", name)


def _names_with_boxes(annotations: Annotations) -> set[str]:
    used = set(annotations.boxes.category_ids[~annotations.boxes.is_crowd].tolist())
    return {category.name for category in annotations.categories if category.id in used}


def _check_images(images: Images, split: str) -> Iterator[Fault]:
    ids, names = images.ids.tolist(), images.file_names
    for row, first in _repeated(range(len(ids)), ids):
        yield Fault("duplicate_image_id", (split, names[row]), f"{names[row]}: its id {ids[row]} is also that of "
                    f"'{names[first]}'", names[row])
    for row, first in _repeated(range(len(ids)), names):
        yield Fault("duplicate_file_name", (split, names[row]),
                    f"{names[row]}: listed twice, with ids {ids[first]} and {ids[row]}", names[row])


def _check_categories(categories: tuple[Category, ...], split: str) -> Iterator[Fault]:
    for category, first in _repeated(categories, [category.id for category in categories]):
        yield Fault("duplicate_category_id", (split, category.id),
                    f"{split}: category id {category.id} is both '{first.name}' and '{category.name}'")
    named = [category for category in categories if category.name.strip()]
    for category, first in _repeated(named, [clean_name(category.name) for category in named]):
        yield Fault("duplicate_category_name", (split, category.id),
                    f"{split}: categories {first.id} and {category.id} are both '{category.name}'")
    for category in categories:
        if not category.name.strip():
            yield Fault("empty_category_name", (split, category.id), f"{split}: category {category.id} has no name")


def _letters_of(name: str) -> str:
    """Return a name in lower case without spaces and punctuation; unchanged if nothing would be left."""
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def _box_faults(annotations: Annotations, owners: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each kind of fault with the rows of its boxes; a box with several faults has the first kind only."""
    boxes = annotations.boxes
    named = [category.id for category in annotations.categories if category.name.strip()]
    size = annotations.images.sizes[owners] if len(annotations.images) else np.zeros((len(boxes), 2))
    has_size = (size != 0).any(axis=1)  # the other images cannot be read and have faults of their own
    low, sides = boxes.xywh[:, :2], boxes.xywh[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        high = low + sides
        first_fault = sides[np.arange(len(boxes)), (sides[:, 0] > 0).astype(int)]  # the width; the height if the width is valid
        table = {
            "unknown_image": owners < 0,
            "unknown_category": ~np.isin(boxes.category_ids, named),
            "duplicate_box_id": ~_is_first(boxes.ids),
            "no_box": np.isnan(boxes.xywh).all(axis=1) if annotations.source_lines is None
            else np.zeros(len(boxes), dtype=bool),
            "non_finite": ~np.isfinite(boxes.xywh).all(axis=1),
            "zero_size": first_fault == 0,
            "inverted": first_fault < 0,
            "outside": ((low >= size) | (high <= 0)).any(axis=1) & has_size,
            "duplicate_box": repeated_rows([owners, boxes.category_ids, *boxes.xywh.T, boxes.areas, boxes.is_crowd]),
            "partly_outside": (np.maximum(-low, high - size) > CLIP_SLACK_PX).any(axis=1) & has_size,
        }
    left = np.ones(len(boxes), dtype=bool)
    for kind, found in table.items():
        rows = np.flatnonzero(found & left)
        if len(rows):
            left[rows] = False
            yield kind, rows


def _describe(kind: str, annotations: Annotations, row: int, owner: int) -> str:
    """Return what is wrong with a box."""
    boxes = annotations.boxes
    width, height = boxes.xywh[row, 2:].tolist()
    if kind in ("outside", "partly_outside"):
        image_width, image_height = annotations.images.sizes[owner].tolist()
        return f"bbox {boxes.xywh[row].tolist()} in an image of {image_width}x{image_height}"
    return {
        "unknown_image": f"no image has the id {boxes.image_ids[row]}",
        "unknown_category": _unknown_class(annotations, row),
        "duplicate_box": f"bbox {boxes.xywh[row].tolist()} of this class is there already",
        "no_box": "its bbox is not a list of four numbers [x, y, width, height]",
        "duplicate_box_id": "another annotation before it has the same id",
        "non_finite": f"bbox {boxes.xywh[row].tolist()}",
    }.get(kind, f"width {width}" if not width > 0 else f"height {height}")


def _unknown_class(annotations: Annotations, row: int) -> str:
    number, name = int(annotations.boxes.category_ids[row]), annotations.unknown_classes.get(row)
    known = [category.name for category in annotations.categories]
    if number >= 0:
        return f"no named category has the id {number}"
    near = get_close_matches(name, known, n=1) if name else []
    return (f"its class{f' {name!r}' if name else ''} is not among {', '.join(known) or 'none'}"
            + (f"; did you mean {near[0]!r}?" if near else ""))


def _is_first(values: np.ndarray) -> np.ndarray:
    """Return (T,) bool: whether no value before is equal."""
    result = np.zeros(len(values), dtype=bool)
    result[np.unique(values, return_index=True)[1]] = True
    return result


def _repeated(rows: Iterable[T], keys: Iterable[Hashable]) -> Iterator[tuple[T, T]]:
    """Yield every row whose key occurred before, with the first row of that key."""
    first: dict[Hashable, T] = {}
    for row, key in zip(rows, keys, strict=True):
        if key in first:
            yield row, first[key]
        else:
            first[key] = row


def _hashes(manifest: Manifest, annotations: Annotations) -> Iterator[tuple[str, str]]:
    """Yield name and hash of each image, once."""
    for name in dict.fromkeys(annotations.images.file_names):
        size, digest = manifest.files.get(name, (0, ""))
        if size:
            yield name, digest


def _first_names(manifest: Manifest, annotations: Annotations) -> dict[str, str]:
    """Return the first image of each hash."""
    names: dict[str, str] = {}
    for name, digest in _hashes(manifest, annotations):
        names.setdefault(digest, name)
    return names
