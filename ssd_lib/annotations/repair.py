"""Mend annotations: a pure function from any annotations to ones that can be trained on. Files are left to `fixed`."""

import math
from collections.abc import Collection

from ssd_lib.annotations.checks import clean_name
from ssd_lib.annotations.coco import Annotations, Box, Category, Image
from ssd_lib.errors import InputError


def fix(annotations: Annotations, unreadable: Collection[str], min_box_px: float) -> Annotations:
    """Give the annotations without their faults; the table in `faults` says what becomes of each.

    Laws: fix(fix(a)) == fix(a). Category ids are 1..K in the order of the original ids, which stay as `source_id`.
    Every box lies in its image exactly: x >= 0, y >= 0, x + width <= image width, y + height <= image height, in
    float arithmetic; its sides are at least `min_box_px`. Of what exists twice, the first stays. Images
    without boxes stay.

    Args:
        annotations: names of images as in the manifest.
        unreadable: names of images to leave out with their boxes; a set, where there are many.
        min_box_px: shorter sides, after clipping, remove the box.
    """
    categories, label_of = _label(annotations.categories)
    images, image_of = _unique_images(annotations.images, unreadable)
    boxes: dict[int, Box] = {}
    for box in annotations.boxes:
        image, label = image_of.get(box.image_id), label_of.get(box.category_id)
        clipped = _clip(box, image, min_box_px) if image and label and box.id not in boxes else None
        if clipped and image and label:
            boxes[box.id] = clipped._replace(image_id=image.id, category_id=label)
    return Annotations(tuple(sorted(images)), tuple(sorted(boxes.values())), categories, annotations.info)


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


def _unique_images(images: tuple[Image, ...], unreadable: Collection[str]) -> tuple[list[Image], dict[int, Image]]:
    """The images to keep, and which of them each image id means."""
    by_name: dict[str, Image] = {}
    by_id: dict[int, Image] = {}
    for image in images:
        if image.id not in by_id and image.file_name not in unreadable:
            by_id[image.id] = by_name.setdefault(image.file_name, image)
    return list(by_name.values()), by_id


def _clip(box: Box, image: Image, min_box_px: float) -> Box | None:
    """The part of a box that lies in the image; None where nothing, or too little, does."""
    if not all(map(math.isfinite, (box.x, box.y, box.width, box.height))):
        return None
    x, width = _clip_side(box.x, box.width, image.width)
    y, height = _clip_side(box.y, box.height, image.height)
    if width < min_box_px or height < min_box_px or x + width == x or y + height == y:  # too small for a float to tell
        return None
    whole = width * height
    area = min(box.area, whole) if math.isfinite(box.area) and box.area > 0 else whole
    return box._replace(x=x, y=y, width=width, height=height, area=area)


def _clip_side(start: float, length: float, size: int) -> tuple[float, float]:
    if start >= 0 and start + length <= size:
        return start, length  # untouched to the last bit, so that a second time changes nothing
    begin, end = max(start, 0.0), min(start + length, float(size))
    return begin, end - begin  # begin is 0, or end the whole number `size`: their sum cannot round to above the edge
