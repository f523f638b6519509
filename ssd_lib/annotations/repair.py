"""Repair annotations: a pure function from any annotations to ones that can be trained on."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from ssd_lib.annotations.table import Annotations, Boxes, Category, Images, clean_name, repeated_rows, translate
from ssd_lib.errors import InputError
from ssd_lib.exif import UPRIGHT, turn_boxes, turn_sizes


def fix(annotations: Annotations, unreadable: Collection[str], min_box_px: float) -> Annotations:
    """Return the annotations without their faults; the table in `faults` says how each kind is repaired.

    Guarantees: fix(fix(a)) == fix(a). Of equal boxes of a class on an image one is kept. Category ids are 1..K in the order of
    the original ids, which are kept as `source_id`. Every box lies exactly in its image: x >= 0, y >= 0, x + width <= image
    width, y + height <= image height, in float arithmetic; its sides are at least `min_box_px`. Of duplicates the first is
    kept. Images without boxes are kept.

    Args:
        annotations: image names are those of the manifest.
        unreadable: names of images to remove with their boxes; a set, if there are many.
        min_box_px: a box with a shorter side, after clipping, is removed.
    """
    return fix_and_count(annotations, unreadable, min_box_px)[0]


def fix_and_count(annotations: Annotations, unreadable: Collection[str], min_box_px: float) -> tuple[Annotations,
                                                                                                     dict[str, int]]:
    """Return `fix` of the annotations, and how many boxes it removed, by reason; each box has the first reason only."""
    categories, label_of = _label(annotations.categories)
    rows, index_of = _unique_images(annotations.images, unreadable)
    images, boxes = annotations.images.take(rows), annotations.boxes
    label = translate(boxes.category_ids, np.array([*label_of], dtype=np.int64), np.array([*label_of.values()], dtype=np.int64))
    image = translate(boxes.image_ids, np.array([*index_of], dtype=np.int64), np.array([*index_of.values()], dtype=np.int64))
    size = annotations.images.sizes[image] if len(annotations.images) else np.zeros((len(boxes), 2))
    xywh, is_large = _clip(boxes.xywh, size, min_box_px)
    is_usable = (image >= 0) & (label >= 0)
    kept = np.flatnonzero(is_large & is_usable)
    removed = {"their image is left out or unknown": int((image < 0).sum()),
               "their class is unknown": int(((image >= 0) & (label < 0)).sum()),
               f"a side is below {min_box_px:g} px, or they are not boxes in their image": int((is_usable & ~is_large).sum())}
    count = len(kept)
    kept = kept[np.unique(boxes.ids[kept], return_index=True)[1]]  # the first of each id, by id
    removed["their id occurs before"] = count - len(kept)
    areas = _areas(boxes.areas[kept], xywh[kept])
    is_new = ~repeated_rows([image[kept], label[kept], *xywh[kept].T, areas, boxes.is_crowd[kept]])
    removed["an equal box is there already"] = len(kept) - int(is_new.sum())
    kept, areas = kept[is_new], areas[is_new]
    fixed = Boxes(boxes.ids[kept], annotations.images.ids[image[kept]], label[kept], xywh[kept], areas, boxes.is_crowd[kept])
    return Annotations(images, fixed, categories, annotations.info), {why: number for why, number in removed.items() if number}


def turn_upright(annotations: Annotations, orientations: Mapping[str, int]) -> Annotations:
    """Turn sizes and boxes that refer to an image as stored, so that they fit the upright pixels of `decode_image`.

    Args:
        annotations: with the sizes of the images as stored.
        orientations: name of an image to turn -> its EXIF orientation; the other images are left as they are.
    """
    if not orientations:
        return annotations
    images, boxes = annotations.images, annotations.boxes
    of_image = np.array([orientations.get(name, UPRIGHT) for name in images.file_names])
    sizes, xywh, index = images.sizes.copy(), boxes.xywh.copy(), annotations.image_indices()
    for orientation in set(orientations.values()):
        rows = (index >= 0) & (of_image[index] == orientation)
        xywh[rows] = turn_boxes(boxes.xywh[rows], images.sizes[index[rows]], orientation)
        sizes[of_image == orientation] = turn_sizes(images.sizes[of_image == orientation], orientation)
    return replace(annotations, images=replace(images, sizes=sizes), boxes=replace(boxes, xywh=xywh))


def merge_categories(first: Annotations, second: Annotations) -> tuple[Category, ...]:
    """Return the categories of train and val, so that both have the same labels.

    Raises:
        InputError: the two disagree about an id or a name; results could not be given with the original ids.
    """
    name_of = {category.id: category for category in reversed(first.categories)}
    id_of = {clean_name(category.name): category.id for category in reversed(first.categories)}
    merged = list(first.categories)
    first_of_id = {category.id: category for category in reversed(second.categories)}
    for category in reversed(first_of_id.values()):
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
    """Return the classes with ids 1..K, and the label of every original id."""
    first = {category.id: category for category in reversed(categories) if clean_name(category.name)}
    labelled: dict[str, Category] = {}
    label_of: dict[int, int] = {}
    for number, category in sorted(first.items()):
        name = clean_name(category.name)
        kept = labelled.setdefault(name, Category(len(labelled) + 1, name, category.source_id))
        label_of[number] = kept.id
    return tuple(labelled.values()), label_of


def _unique_images(images: Images, unreadable: Collection[str]) -> tuple[np.ndarray, dict[int, int]]:
    """Return the indices of the images to keep, sorted by id, and the index of the image that each image id refers to."""
    by_name: dict[str, int] = {}
    by_id: dict[int, int] = {}
    for index, (number, name) in enumerate(zip(images.ids.tolist(), images.file_names, strict=True)):
        if number not in by_id and name not in unreadable:
            by_id[number] = by_name.setdefault(name, index)
    rows = np.array([*by_name.values()], dtype=np.int64)
    return rows[np.argsort(images.ids[rows])], by_id


def _clip(xywh: np.ndarray, size: np.ndarray, min_box_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes clipped to their images, and whether each is large enough."""
    start, length = xywh[:, :2], xywh[:, 2:]
    with np.errstate(invalid="ignore", over="ignore"):
        inside = (start >= 0) & (start + length <= size)  # kept bit for bit, so that fixing again changes nothing
        low = np.where(inside, start, np.maximum(start, 0.0))
        # low is 0, or low + side is the whole number in `size`: their sum cannot be rounded to beyond the edge
        sides = np.where(inside, length, np.minimum(start + length, size) - low)
        is_large = (sides >= min_box_px) & (low + sides != low)  # large enough to change low in float arithmetic
    return np.concatenate([low, sides], axis=1), is_large.all(axis=1) & np.isfinite(xywh).all(axis=1)


def _areas(given: np.ndarray, xywh: np.ndarray) -> np.ndarray:
    """Return the given areas where they are positive and finite, limited to the whole box; else the whole box."""
    whole = xywh[:, 2] * xywh[:, 3]
    is_valid = np.isfinite(given) & (given > 0)
    return np.where(is_valid, np.minimum(np.where(is_valid, given, 0.0), whole), whole)
