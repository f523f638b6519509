"""Annotations as rows, which are easier to change and compare in tests than arrays."""

from typing import NamedTuple

from ssd_lib.annotations.table import Annotations, Box, Category, Image, Images, box_rows, from_rows


class Rows(NamedTuple):
    """The content of one annotation file, row by row."""

    images: tuple[Image, ...]
    boxes: tuple[Box, ...]
    categories: tuple[Category, ...]
    info: dict[str, str]


def flat(rows: Rows) -> Annotations:
    """Return the annotations as arrays."""
    return from_rows(*rows)


def rows_of(annotations: Annotations) -> Rows:
    """Return annotations as rows; the inverse of `flat`."""
    return Rows(tuple(image_rows(annotations.images)), tuple(box_rows(annotations.boxes)), annotations.categories,
                annotations.info)


def image_rows(images: Images) -> list[Image]:
    """Return the images as single records."""
    rows = zip(images.ids.tolist(), images.file_names, images.sizes.tolist(), strict=True)
    return [Image(number, name, width, height) for number, name, (width, height) in rows]
