"""Faults of annotations, found without looking at an image. Nothing is changed here: `repair` does that."""

import math
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from ssd_lib.annotations.coco import Annotations, Box, Category, Image
from ssd_lib.annotations.faults import Fault

T = TypeVar("T")
CLIP_SLACK_PX = 1.0  # annotators' tools round; a box may pass the edge by this without a word


def check_annotations(annotations: Annotations, split: str) -> Iterator[Fault]:
    """Every fault of one split's annotations; a box has one fault at most, the worst.

    Args:
        annotations: with names of the manifest as `file_name`.
        split: names the file in texts.
    """
    yield from _check_images(annotations.images, split)
    yield from _check_categories(annotations.categories, split)
    images = {image.id: image for image in reversed(annotations.images)}  # the first of an id holds
    named = {category.id for category in annotations.categories if category.name.strip()}
    seen: set[int] = set()
    for at, box in enumerate(annotations.boxes):
        found = _box_fault(box, images, named, seen)
        seen.add(box.id)
        if found:
            kind, what = found
            of = f"'{images[box.image_id].file_name}'" if box.image_id in images else f"image {box.image_id}"
            yield Fault(kind, (split, at), f"{split}: annotation {box.id} of {of}: {what}")


def check_between(train: Annotations, val: Annotations) -> Iterator[Fault]:
    """Classes that validation asks for and training never shows."""
    name_of = {category.id: category.name for category in train.categories}
    shown = {name_of.get(box.category_id) for box in train.boxes if not box.is_crowd}
    asked = {box.category_id for box in val.boxes if not box.is_crowd}
    for category in val.categories:
        if category.id in asked and category.name not in shown:
            yield Fault("untrained_category", ("val", category.id),
                        f"val: category {category.id} '{category.name}' has boxes in val and none in train")


def _check_images(images: tuple[Image, ...], split: str) -> Iterator[Fault]:
    for image, first in _repeated(images, [image.id for image in images]):
        yield Fault("duplicate_image_id", (split, image.file_name),
                    f"{image.file_name}: its id {image.id} is also that of '{first.file_name}'")
    for image, first in _repeated(images, [image.file_name for image in images]):
        yield Fault("duplicate_file_name", (split, image.file_name),
                    f"{image.file_name}: listed twice, with ids {first.id} and {image.id}")


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


def clean_name(name: str) -> str:
    """A class name that fits on a line of labels.txt: no spaces at the ends, single ones within."""
    return " ".join(name.split())


def _box_fault(box: Box, images: dict[int, Image], named: set[int], seen: set[int]) -> tuple[str, str] | None:
    """The kind of the worst fault of a box, and what to say of it."""
    image = images.get(box.image_id)
    if image is None:
        return "unknown_image", f"no image has the id {box.image_id}"
    if box.category_id not in named:
        return "unknown_category", f"no named category has the id {box.category_id}"
    if box.id in seen:
        return "duplicate_box_id", "another annotation before it has the same id"
    return _geometry_fault(box, image)


def _geometry_fault(box: Box, image: Image) -> tuple[str, str] | None:
    x, y, width, height = box.x, box.y, box.width, box.height
    if not all(map(math.isfinite, (x, y, width, height))):
        return "non_finite", f"bbox {[x, y, width, height]}"
    for side, value in (("width", width), ("height", height)):
        if value <= 0:
            return ("zero_size" if value == 0 else "inverted"), f"{side} {value}"
    where = f"bbox {[x, y, width, height]} in an image of {image.width}x{image.height}"
    if x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        return "outside", where
    if max(-x, -y, x + width - image.width, y + height - image.height) > CLIP_SLACK_PX:
        return "partly_outside", where
    return None


def _repeated(rows: Iterable[T], keys: Iterable[Hashable]) -> Iterator[tuple[T, T]]:
    """Every row whose key came before, with the first row of that key."""
    first: dict[Hashable, T] = {}
    for row, key in zip(rows, keys, strict=True):
        if key in first:
            yield row, first[key]
        else:
            first[key] = row
