"""Faults of annotations, found without looking at an image. Nothing is changed here: `repair` does that."""

import re
from collections.abc import Hashable, Iterable, Iterator
from difflib import get_close_matches
from typing import TypeVar

import numpy as np

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations, Category, Images, clean_name

T = TypeVar("T")
CLIP_SLACK_PX = 1.0  # annotators' tools round; a box may pass the edge by this without a word


def check_annotations(annotations: Annotations, split: str, first: int = 0) -> Iterator[Fault]:
    """Every fault of the annotations of a split, or of a part of it; a box has one fault at most, the worst.

    Args:
        annotations: with names of the manifest as `file_name`.
        split: names the file in texts.
        first: how many boxes the parts before have.
    """
    yield from _check_images(annotations.images, split)
    yield from _check_categories(annotations.categories, split)
    owners = annotations.owners()
    for kind, rows in _box_faults(annotations, owners):
        for row in rows.tolist():
            image = annotations.images.file_names[owners[row]] if owners[row] >= 0 else ""
            text = f"{split}: {annotations.name_box(row, owners[row])}: {_what(kind, annotations, row, owners[row])}"
            yield Fault(kind, (split, first + row), text, image, tuple(annotations.boxes.xywh[row].tolist()))


def check_between(train: Annotations, val: Annotations) -> Iterator[Fault]:
    """Classes that validation asks for and training never shows."""
    shown, asked = _names_with_boxes(train), _names_with_boxes(val)
    for category in val.categories:
        if category.name in asked - shown:
            yield Fault("untrained_category", ("val", category.id),
                        f"val: category {category.id} '{category.name}' has boxes in val and none in train")


def check_names(categories: Iterable[Category]) -> Iterator[Fault]:
    """Classes whose names are nearly the same, wherever in the data set: of one split or two, of one part or two."""
    names = list(dict.fromkeys(clean_name(category.name) for category in categories if category.name.strip()))
    for name, first in _repeated(names, map(_letters, names)):
        yield Fault("similar_category_names", ("", name), f"classes '{first}' and '{name}' differ only in capitals, spaces or "
                    "signs")


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


def _letters(name: str) -> str:
    """What is left of a name without capitals and signs; all of it where it has nothing else."""
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def _box_faults(annotations: Annotations, owners: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The kinds of faults that boxes have, and the boxes of each: a box that has several is with the first kind alone."""
    boxes = annotations.boxes
    named = [category.id for category in annotations.categories if category.name.strip()]
    size = annotations.images.sizes[owners] if len(annotations.images) else np.zeros((len(boxes), 2))
    low, sides = boxes.xywh[:, :2], boxes.xywh[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        high = low + sides
        first_fault = sides[np.arange(len(boxes)), (sides[:, 0] > 0).astype(int)]  # the width, or the height where that is good
        table = {
            "unknown_image": owners < 0,
            "unknown_category": ~np.isin(boxes.category_ids, named),
            "duplicate_box_id": ~first_of_each(boxes.ids),
            "non_finite": ~np.isfinite(boxes.xywh).all(axis=1),
            "zero_size": first_fault == 0,
            "inverted": first_fault < 0,
            "outside": ((low >= size) | (high <= 0)).any(axis=1),
            "partly_outside": (np.maximum(-low, high - size) > CLIP_SLACK_PX).any(axis=1),
        }
    left = np.ones(len(boxes), dtype=bool)
    for kind, found in table.items():
        rows = np.flatnonzero(found & left)
        if len(rows):
            left[rows] = False
            yield kind, rows


def _what(kind: str, annotations: Annotations, row: int, owner: int) -> str:
    """What is wrong with a box, for people."""
    boxes = annotations.boxes
    width, height = boxes.xywh[row, 2:].tolist()
    if kind in ("outside", "partly_outside"):
        image_width, image_height = annotations.images.sizes[owner].tolist()
        return f"bbox {boxes.xywh[row].tolist()} in an image of {image_width}x{image_height}"
    return {
        "unknown_image": f"no image has the id {boxes.image_ids[row]}",
        "unknown_category": _unknown_class(annotations, row),
        "duplicate_box_id": "another annotation before it has the same id",
        "non_finite": f"bbox {boxes.xywh[row].tolist()}",
    }.get(kind, f"width {width}" if not width > 0 else f"height {height}")


def _unknown_class(annotations: Annotations, row: int) -> str:
    number, name = int(annotations.boxes.category_ids[row]), annotations.strays.get(row)
    known = [category.name for category in annotations.categories]
    if number >= 0:
        return f"no named category has the id {number}"
    near = get_close_matches(name, known, n=1) if name else []
    return (f"its class{f' {name!r}' if name else ''} is not among {', '.join(known) or 'none'}"
            + (f"; did you mean {near[0]!r}?" if near else ""))


def first_of_each(values: np.ndarray) -> np.ndarray:
    """(T,) bool: the value has not come before."""
    result = np.zeros(len(values), dtype=bool)
    result[np.unique(values, return_index=True)[1]] = True
    return result


def _repeated(rows: Iterable[T], keys: Iterable[Hashable]) -> Iterator[tuple[T, T]]:
    """Every row whose key came before, with the first row of that key."""
    first: dict[Hashable, T] = {}
    for row, key in zip(rows, keys, strict=True):
        if key in first:
            yield row, first[key]
        else:
            first[key] = row
