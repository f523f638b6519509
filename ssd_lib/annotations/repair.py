"""Mend annotations: a pure function from any annotations to ones that can be trained on. Files are left to `fixed`."""

from collections.abc import Collection

import numpy as np

from ssd_lib.annotations.table import Annotations, Boxes, Category, Images, clean_name, translate
from ssd_lib.errors import InputError


def fix(annotations: Annotations, unreadable: Collection[str], min_box_px: float) -> Annotations:
    """Give the annotations without their faults; the table in `faults` says what becomes of each.

    Guarantees: fix(fix(a)) == fix(a). Category ids are 1..K in the order of the original ids, which stay as `source_id`.
    Every box lies in its image exactly: x >= 0, y >= 0, x + width <= image width, y + height <= image height, in
    float arithmetic; its sides are at least `min_box_px`. Of what exists twice, the first stays. Images
    without boxes stay.

    Args:
        annotations: names of images as in the manifest.
        unreadable: names of images to leave out with their boxes; a set, where there are many.
        min_box_px: shorter sides, after clipping, remove the box.
    """
    categories, label_of = _label(annotations.categories)
    rows, meant = _unique_images(annotations.images, unreadable)
    images, boxes = annotations.images.take(rows), annotations.boxes
    label = translate(boxes.category_ids, np.array([*label_of], dtype=np.int64), np.array([*label_of.values()], dtype=np.int64))
    owner = translate(boxes.image_ids, np.array([*meant], dtype=np.int64), np.array([*meant.values()], dtype=np.int64))
    size = annotations.images.sizes[owner] if len(annotations.images) else np.zeros((len(boxes), 2))
    xywh, fits = _clip(boxes.xywh, size, min_box_px)
    kept = np.flatnonzero(fits & (owner >= 0) & (label >= 0))
    kept = kept[np.unique(boxes.ids[kept], return_index=True)[1]]  # the first of each id, by id
    fixed = Boxes(boxes.ids[kept], annotations.images.ids[owner[kept]], label[kept], xywh[kept],
                  _areas(boxes.areas[kept], xywh[kept]), boxes.is_crowd[kept])
    return Annotations(images, fixed, categories, annotations.info)


def merge_categories(first: Annotations, second: Annotations) -> tuple[Category, ...]:
    """The categories of both, so that one set of labels serves both.

    Raises:
        InputError: the two disagree about an id or a name; results could not be given back under their ids.
    """
    name_of = {category.id: category for category in reversed(first.categories)}
    id_of = {clean_name(category.name): category.id for category in reversed(first.categories)}
    merged = list(first.categories)
    for category in second.categories:
        name = clean_name(category.name)
        known = name_of.get(category.id)
        if known and clean_name(known.name) != name:
            raise InputError(f"categories: id {category.id} is '{known.name}' in train and '{name}' in val; one id "
                             "means one class. Give both files the same ids.")
        if not known and name in id_of:
            raise InputError(f"categories: '{name}' has id {id_of[name]} in train and {category.id} in val; one class "
                             "has one id. Give both files the same ids.")
        if not known:
            merged.append(category)
    return tuple(merged)


def _label(categories: tuple[Category, ...]) -> tuple[tuple[Category, ...], dict[int, int]]:
    """The classes under the ids 1..K, and the label of every original id."""
    first = {category.id: category for category in reversed(categories) if clean_name(category.name)}
    labelled: dict[str, Category] = {}
    label_of: dict[int, int] = {}
    for number, category in sorted(first.items()):
        name = clean_name(category.name)
        kept = labelled.setdefault(name, Category(len(labelled) + 1, name, category.source_id))
        label_of[number] = kept.id
    return tuple(labelled.values()), label_of


def _unique_images(images: Images, unreadable: Collection[str]) -> tuple[np.ndarray, dict[int, int]]:
    """The places of the images to keep, by their ids, and which image each image id means."""
    by_name: dict[str, int] = {}
    by_id: dict[int, int] = {}
    for place, (number, name) in enumerate(zip(images.ids.tolist(), images.file_names, strict=True)):
        if number not in by_id and name not in unreadable:
            by_id[number] = by_name.setdefault(name, place)
    rows = np.array([*by_name.values()], dtype=np.int64)
    return rows[np.argsort(images.ids[rows])], by_id


def _clip(xywh: np.ndarray, size: np.ndarray, min_box_px: float) -> tuple[np.ndarray, np.ndarray]:
    """The parts of boxes that lie in their images, and whether enough of each does."""
    start, length = xywh[:, :2], xywh[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (start >= 0) & (start + length <= size)  # untouched to the last bit, so that a second time changes nothing
        begin = np.where(inside, start, np.maximum(start, 0.0))
        # begin is 0, or end the whole number of `size`: their sum cannot round to above the edge
        sides = np.where(inside, length, np.minimum(start + length, size) - begin)
        fits = (sides >= min_box_px) & (begin + sides != begin)  # more than a float can tell
    return np.concatenate([begin, sides], axis=1), fits.all(axis=1) & np.isfinite(xywh).all(axis=1)


def _areas(given: np.ndarray, xywh: np.ndarray) -> np.ndarray:
    """The given areas where they make sense, at most the whole box."""
    whole = xywh[:, 2] * xywh[:, 3]
    sensible = np.isfinite(given) & (given > 0)
    return np.where(sensible, np.minimum(np.where(sensible, given, 0.0), whole), whole)
