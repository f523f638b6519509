"""The annotated boxes of the images that the report shows."""

from collections.abc import Iterable, Mapping

import numpy as np

from ssd_lib.annotations.table import Annotations, box_rows
from ssd_lib.report.elements import Mark
from ssd_lib.report.thumbnails import can_be_drawn

ImageKey = tuple[str, str]  # split and name of an image


def find_marks(splits: Mapping[str, Annotations], keys: Iterable[ImageKey]) -> dict[ImageKey, tuple[Mark, ...]]:
    """Return the boxes of some images, the largest first, without those that cannot be drawn."""
    marks: dict[ImageKey, list[Mark]] = {key: [] for key in keys}
    for split, annotations in splits.items():
        images = zip(annotations.images.ids.tolist(), annotations.images.file_names, strict=True)
        name_of = {number: name for number, name in images if (split, name) in marks}
        class_of = {category.id: category.name for category in reversed(annotations.categories)}
        for box in box_rows(annotations.boxes.take(np.isin(annotations.boxes.image_ids, list(name_of)))):
            name = class_of.get(box.category_id, f"category {box.category_id}") + (" (crowd)" if box.is_crowd else "")
            marks[split, name_of[box.image_id]].append(Mark((box.x, box.y, box.width, box.height), name))
    return {key: tuple(sorted(filter(can_be_drawn, found), key=_area, reverse=True)) for key, found in marks.items()}


def _area(mark: Mark) -> float:
    return mark.xywh[2] * mark.xywh[3]
