"""Numbers about a data set, from its annotations alone. What they mean for training is said by those who show them.

All but `trainable` take what it gives: annotations without faults, whose images have their places as ids."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ssd_lib.annotations.repair import fix
from ssd_lib.annotations.table import Annotations, clean_name
from ssd_lib.data.balance import Mode, boxes_shown, show_factors


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How often K classes are shown.

    Attributes:
        names: K names, in the order of the first split's categories; what other splits add comes after.
        boxes: by split: (K,) int64.
        images: by split: (K,) int64, images with such a box.
    """

    names: tuple[str, ...]
    boxes: dict[str, np.ndarray]
    images: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Sizes:
    """The commonest sizes of N images.

    Attributes:
        commonest: (width, height) and how many, the commonest first.
        distinct: how many different sizes there are.
        landscape: images that are wider than high.
        portrait: images that are higher than wide.
        square: the others.
    """

    commonest: tuple[tuple[int, int, int], ...]
    distinct: int
    landscape: int
    portrait: int
    square: int


def trainable(annotations: Annotations, left_out: Collection[str]) -> Annotations:
    """The part of a split that training will learn from: what `repair.fix` leaves of it, without crowds.

    Guarantees: the ids of the images are 0..N-1 in their order, so that the image of a box needs no search.

    Args:
        annotations: as they were read.
        left_out: names of images that cannot be used.
    """
    fixed = fix(annotations, left_out, min_box_px=0)
    objects = replace(fixed, boxes=fixed.boxes.take(~fixed.boxes.is_crowd))
    return replace(objects, images=replace(fixed.images, ids=np.arange(len(fixed.images))),
                   boxes=replace(objects.boxes, image_ids=objects.owners()))


def count_classes(splits: Mapping[str, Annotations]) -> ClassCounts:
    """How many boxes each class has, and on how many images, in each split; classes are one by their name."""
    names = tuple(dict.fromkeys(clean_name(category.name) for annotations in splits.values()
                                for category in annotations.categories if clean_name(category.name)))
    boxes, images = {}, {}
    for split, annotations in splits.items():
        classes = _class_of_each_box(annotations, names)
        boxes[split] = np.bincount(classes, minlength=len(names))
        pairs = np.sort(annotations.boxes.image_ids * len(names) + classes)  # of image and class
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        images[split] = np.bincount(pairs % max(1, len(names)), minlength=len(names))
    return ClassCounts(names, boxes, images)


def epoch_boxes(annotations: Annotations, names: Sequence[str], mode: Mode, threshold: float | Literal["auto"]) -> np.ndarray:
    """(K,) how many boxes of each class an epoch shows, on average.

    Args:
        annotations: to train on.
        names: K classes, with all of the annotations among them.
        mode, threshold: `data.balance` and `data.balance_threshold`.
    """
    owners, classes = annotations.boxes.image_ids, _class_of_each_box(annotations, names)
    factors = show_factors(owners, classes, len(annotations.images), mode, threshold)
    return boxes_shown(owners, classes + 1, factors, len(names))


def boxes_per_image(annotations: Annotations) -> np.ndarray:
    """(N,) how many boxes each image has."""
    return np.bincount(annotations.boxes.image_ids, minlength=len(annotations.images))


def relative_sides(annotations: Annotations) -> np.ndarray:
    """(T,) sqrt(w h / (W H)): the side of a square of a box's area, as a share of a square image's side."""
    return np.sqrt(_relative_sizes(annotations).prod(axis=1))


def relative_ratios(annotations: Annotations) -> np.ndarray:
    """(T,) width over height of each box, in the square that nets squeeze an image into: priors' ratios are meant there."""
    sizes = _relative_sizes(annotations)
    return sizes[:, 0] / sizes[:, 1]


def histogram(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """(len(edges) + 1,) how many values lie below the first edge, from each edge to below the next, and from the last on."""
    return np.bincount(np.searchsorted(np.asarray(edges), values, side="right"), minlength=len(edges) + 1)


def image_sizes(annotations: Annotations, most: int) -> Sizes:
    """What sizes the images have; at most so many are listed."""
    sizes, counts = np.unique(annotations.images.sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    width, height = annotations.images.sizes.T
    return Sizes(tuple((*sizes[at].tolist(), int(counts[at])) for at in order), len(sizes),
                 int((width > height).sum()), int((width < height).sum()), int((width == height).sum()))


def _relative_sizes(annotations: Annotations) -> np.ndarray:
    return annotations.boxes.xywh[:, 2:] / annotations.images.sizes[annotations.boxes.image_ids]


def _class_of_each_box(annotations: Annotations, names: Sequence[str]) -> np.ndarray:
    """(T,) places in `names`; all categories of the boxes have one."""
    place = {name: at for at, name in enumerate(names)}
    place_of = {category.id: place[clean_name(category.name)] for category in reversed(annotations.categories)
                if clean_name(category.name)}
    numbers, inverse = np.unique(annotations.boxes.category_ids, return_inverse=True)
    return np.array([place_of[number] for number in numbers.tolist()], dtype=np.int64)[inverse]
