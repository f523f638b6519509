"""Look at a dataset: its formats, classes, images, sizes of objects. Labels and image headers are read, no pixels."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.read import read_splits
from ssd_lib.annotations.table import ParsedPart, clean_name
from ssd_lib.download.local import listed, open_paths
from ssd_lib.errors import InputError, plural, visible
from ssd_lib.images import read_sizes
from ssd_lib.manifest import Manifest
from ssd_lib.params import DataParams

SAMPLED_IMAGES = 5000  # whose headers are read, evenly spread over the dataset
FEW_IMAGES = 500  # of a smaller dataset a larger share is needed for a validation that says something
FRACTION_OF_FEW = 0.2


class Look(NamedTuple):
    """What a dataset holds.

    Attributes:
        formats: of its parts, such as ("voc",).
        train_images, val_images: with the validation split that it has, or with one of `val_fraction`.
        val_fraction: None if it has a validation split.
        objects: class name -> objects in train, crowds not counted; classes without objects are those of `empty`.
        empty: class names without objects in train.
        image_px: (width, height) of the median image.
        sides: (T, 2) float64, (width, height) of objects in train as fractions of their image.
        broken: a text for each label file that cannot be read; its objects are not counted.
    """

    formats: tuple[str, ...]
    train_images: int
    val_images: int
    val_fraction: float | None
    objects: dict[str, int]
    empty: tuple[str, ...]
    image_px: tuple[int, int]
    sides: np.ndarray
    broken: tuple[str, ...] = ()


def look_at(data: DataParams) -> Look:
    """Look at the datasets of `data.paths`.

    Raises:
        InputError: they are not complete datasets, no image can be read, or there are no objects.
    """
    manifest, val_fraction = _with_split(data)
    splits = read_splits(manifest)
    parts = splits["train"]
    images = {split: sum(len(part.annotations.images) for part in of_split) for split, of_split in splits.items()}
    counts = Counter({clean_name(name): 0 for part in manifest.splits["train"] for name in part.class_names.values()})
    sides, sizes = [], []
    for part in parts:
        counts.update(_objects_of(part))
        of_part, image_sizes = _sides_of(part, manifest, images["train"])
        sides.append(of_part)
        sizes.append(image_sizes)
    objects = {name: count for name, count in counts.items() if count}
    _require(objects, np.concatenate(sizes), parts, data.paths)
    formats = tuple(dict.fromkeys(part.format for part in manifest.splits["train"]))
    width, height = np.median(np.concatenate(sizes), axis=0).round().astype(int).tolist()
    return Look(formats, images["train"], images["val"], val_fraction, objects,
                tuple(name for name, count in counts.items() if not count), (width, height), np.concatenate(sides),
                tuple(fault.text for of_split in splits.values() for part in of_split for fault in part.faults))


def _with_split(data: DataParams) -> tuple[Manifest, float | None]:
    """Return the manifest, and the fraction for validation if it decides the split: then other fractions split otherwise."""
    opened = open_paths(data.paths)

    def split(fraction: float) -> Manifest:
        return listed(opened, data.model_copy(update={"val_fraction": fraction}))

    smallest, largest = split(1e-9), split(1 - 1e-9)
    images = len(smallest.images("train")) + len(smallest.images("val"))
    if smallest.splits == largest.splits and images > 2:
        return smallest, None
    fraction = data.val_fraction if images >= FEW_IMAGES else FRACTION_OF_FEW
    return split(fraction), fraction


def _objects_of(part: ParsedPart) -> Counter[str]:
    """Return the number of objects of each class; the classes that a part declares without objects have 0."""
    found = part.annotations
    names = {category.id: clean_name(category.name) for category in found.categories}
    counts = Counter(dict.fromkeys(names.values(), 0))
    for number in found.boxes.category_ids[~found.boxes.is_crowd].tolist():
        if number in names:
            counts[names[number]] += 1
    return counts


def _sides_of(part: ParsedPart, manifest: Manifest, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (T, 2) sides of the objects as fractions of their image, and (N, 2) sizes of images, of a sample of the images."""
    found = part.annotations
    rows = np.arange(0, len(found.images), max(1, -(-images // SAMPLED_IMAGES)))
    sizes = np.zeros((len(found.images) + 1, 2))  # one more, for boxes without an image, whose index is -1
    sizes[rows] = read_sizes(manifest.path(found.images.file_names[row]) for row in rows.tolist())
    of_box = sizes[found.image_indices()]
    sides = found.boxes.xywh[:, 2:]
    counts = (of_box > 0).all(axis=1) & (sides > 0).all(axis=1) & ~found.boxes.is_crowd
    return sides[counts] / of_box[counts], sizes[(sizes > 0).all(axis=1)]


def _require(objects: dict[str, int], sizes: np.ndarray, parts: Sequence[ParsedPart], paths: Sequence[str]) -> None:
    where = ", ".join(visible(path, 200) for path in paths)
    if not objects:
        fault = next((f" {plural(len(part.faults), 'label file')} cannot be read; the first: {visible(part.faults[0].text)}"
                      for part in parts if part.faults), "")
        raise InputError(f"{where}: no object in the labels of the training images; at least one is needed."
                         f"{fault or ' Label some images, or give the folder that has the labels.'}")
    if not len(sizes):
        raise InputError(f"{where}: no training image can be read; at least one is needed. Are the image files complete?")
