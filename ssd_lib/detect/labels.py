"""Detections as labels to correct: `ssd detect --save-labels` writes them as a dataset, for CVAT, Label Studio or training."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssd_lib.detect.inputs import STDIN, Source, is_video, name_of
from ssd_lib.errors import InputError
from ssd_lib.images import read_sizes

if TYPE_CHECKING:
    from ssd_lib.annotations.table import Annotations
    from ssd_lib.annotations.write import LabelFormat
    from ssd_lib.detect.detector import Objects


def check_labels(folder: Path, sources: Iterable[Source]) -> None:
    """Raise InputError before any work if labels cannot be written: labels corrected by hand are never overwritten."""
    other = next((source for source in sources if source == STDIN or is_video(source)), None)
    if other is not None:
        raise InputError(f"--save-labels: {name_of(other)} is not an image file; labels are written for image files only. "
                         "Leave it out: a pattern such as 'folder/*.jpg' takes the images alone.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"--save-labels: {folder} exists already, and its labels may have been corrected by hand; a new or "
                         "an empty folder is needed. Move it away, or give another --out.")


def write_labels(folder: Path, form: "LabelFormat", found: Mapping[Path, "Objects"], names: Sequence[str],
                 class_names: Sequence[str], source_ids: Sequence[int]) -> None:
    """Write images and their detections as a dataset.

    Args:
        folder: as for `write_dataset`.
        form: the format.
        found: the detections of each image file.
        names: of the images in the dataset; see `write_dataset`.
        class_names: K names; label i is class_names[i - 1].
        source_ids: their K category ids.

    Raises:
        StateError: a file cannot be written.
    """
    from ssd_lib.annotations.write import write_dataset  # it needs packages that detection alone does without

    write_dataset(folder, form, to_annotations(list(found.values()), names, read_sizes(found), class_names, source_ids),
                  list(found))


def to_annotations(found: Sequence["Objects"], names: Sequence[str], sizes: np.ndarray, class_names: Sequence[str],
                   source_ids: Sequence[int]) -> "Annotations":
    """Return the detections of N images as annotations.

    Guarantees: boxes are rounded to hundredths of a pixel and lie in their image; one without an area is left out.

    Args:
        found, names: of each image.
        sizes: (N, 2) int64, (width, height) in pixels.
        class_names, source_ids: as for `write_labels`.
    """
    from ssd_lib.annotations.table import Box, Category, Image, from_rows
    from ssd_lib.annotations.write import BOX_DIGITS

    images = [Image(number, name, *size) for number, (name, size) in enumerate(zip(names, sizes.tolist(), strict=True), 1)]
    boxes: list[Box] = []
    for image, objects in zip(images, found, strict=True):
        corners = objects.boxes.astype(np.float64).clip(0, [image.width, image.height] * 2).round(BOX_DIGITS)
        for (x1, y1, x2, y2), label in zip(corners.tolist(), objects.labels.tolist(), strict=True):
            width, height = round(x2 - x1, BOX_DIGITS), round(y2 - y1, BOX_DIGITS)
            if width > 0 and height > 0:
                boxes.append(Box(len(boxes) + 1, image.id, source_ids[label - 1], x1, y1, width, height, width * height, False))
    categories = [Category(number, name, number) for number, name in zip(source_ids, class_names, strict=True)]
    return from_rows(images, boxes, categories)
