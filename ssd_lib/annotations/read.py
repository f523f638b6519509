"""All annotations of a manifest, whatever they are written in, as one form: each format has its reader, named in one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from ssd_lib.annotations.coco import read_coco
from ssd_lib.annotations.open_images import read_open_images
from ssd_lib.annotations.table import Annotations, Category, ParsedPart, clean_name, merge
from ssd_lib.annotations.voc import read_voc
from ssd_lib.annotations.yolo import read_yolo
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Place
from ssd_lib.params import Format

MOST_NAMED = 40  # classes in a message

# Each reads all parts of its format at once: where labels have no numbers for classes, those of one part follow from all.
READERS: Mapping[Format, Callable[[Manifest], dict[Place, ParsedPart]]] = {
    "coco": read_coco,
    "voc": read_voc,
    "yolo": read_yolo,
    "open_images": read_open_images,
}


def read_splits(manifest: Manifest) -> dict[str, tuple[ParsedPart, ...]]:
    """Read the parts of every split, without the classes that are not to be learned.

    Raises:
        InputError: a file cannot be read, or `data.classes` names a class that the data do not have.
    """
    readings: dict[Place, ParsedPart] = {}
    for form, read in READERS.items():
        readings |= read(manifest) if manifest.parts(form) else {}
    splits = {split: tuple(readings[split, number] for number in range(len(parts))) for split, parts in manifest.splits.items()}
    if not manifest.classes:
        return splits
    declared = [name for parts in manifest.splits.values() for part in parts for name in part.class_names.values()]
    found = [category.name for parts in splits.values() for reading in parts for category in reading.annotations.categories]
    _refuse_unknown(manifest.classes, {clean_name(name) for name in declared + found})
    return {split: tuple(_asked_for(reading, manifest.classes) for reading in parts) for split, parts in splits.items()}


def join_parts(splits: Mapping[str, Sequence[ParsedPart]]) -> dict[str, Annotations]:
    """Each split as one: as it was read where no split has several parts; else with classes that are one by name."""
    parts = {split: [reading.annotations for reading in readings] for split, readings in splits.items()}
    if all(len(annotations) == 1 for annotations in parts.values()):
        return {split: annotations[0] for split, annotations in parts.items()}
    names = dict.fromkeys(clean_name(category.name) for annotations in parts.values() for part in annotations
                          for category in part.categories if category.name.strip())
    categories = [Category(number, name, number) for number, name in enumerate(names, 1)]
    return {split: merge(annotations, categories) for split, annotations in parts.items()}


def only_classes(annotations: Annotations, names: Sequence[str]) -> Annotations:
    """The annotations of some classes alone, without the images whose objects are all of other classes.

    Images without any object stay: that they show none of the classes is known.
    """
    categories = tuple(category for category in annotations.categories if clean_name(category.name) in names)
    others = {category.id for category in annotations.categories} - {category.id for category in categories}
    boxes = annotations.boxes
    is_other = np.isin(boxes.category_ids, list(others))
    ids = annotations.images.ids
    dropped = np.isin(ids, boxes.image_ids[is_other]) & ~np.isin(ids, boxes.image_ids[~is_other])
    new_row = np.cumsum(~is_other) - 1
    return replace(annotations, images=annotations.images.take(np.flatnonzero(~dropped)), categories=categories,
                   boxes=boxes.take(~is_other), places=None if annotations.places is None else annotations.places[~is_other],
                   strays={int(new_row[row]): name for row, name in annotations.strays.items()})


def _asked_for(reading: ParsedPart, classes: Sequence[str]) -> ParsedPart:
    kept = only_classes(reading.annotations, classes)
    unasked = frozenset(reading.annotations.images.file_names).difference(kept.images.file_names)
    return reading._replace(annotations=kept, unasked=unasked)


def _refuse_unknown(wanted: Sequence[str], known: set[str]) -> None:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        by_letters = {name.casefold(): name for name in known}
        near = (get_close_matches(name.casefold(), by_letters, n=1, cutoff=0.5) for name in unknown)
        said = [f"'{name}'{f' (did you mean {by_letters[found[0]]!r}?)' if found else ''}"
                for name, found in zip(unknown, near, strict=True)]
        raise InputError(f"data.classes: the data have no class {', '.join(said)}. They have {_some(sorted(known))}. Names are "
                         "compared letter by letter.")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more or "none"
