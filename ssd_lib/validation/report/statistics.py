"""Statistics of a dataset, computed from its annotations.

Every function but `trainable` takes its result: annotations without faults, where the id of an image is its row, and
the ids of the K categories are 1..K.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ssd_lib.annotations.repair import fix
from ssd_lib.annotations.table import Annotations
from ssd_lib.boxes.prior_fit import GOOD_IOU, best_ious
from ssd_lib.boxes.prior_levels import PUBLISHED
from ssd_lib.data.balance import Mode, boxes_per_epoch, repeat_factors

MEASURED = 20_000  # boxes of which the best prior is sought


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Boxes and images of K classes.

    Attributes:
        names: K names, in the order of the first split's categories, then those that only other splits have.
        boxes: by split: (K,) int64.
        images: by split: (K,) int64, images with a box of the class.
    """

    names: tuple[str, ...]
    boxes: dict[str, np.ndarray]
    images: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Sizes:
    """The sizes of N images.

    Attributes:
        most_frequent: (width, height, number of images), the most frequent first.
        distinct: number of different sizes.
        landscape: number of images that are wider than high.
        portrait: number of images that are higher than wide.
        square: number of the others.
    """

    most_frequent: tuple[tuple[int, int, int], ...]
    distinct: int
    landscape: int
    portrait: int
    square: int


def trainable(annotations: Annotations, unreadable: Collection[str]) -> Annotations:
    """Return the part of a split that is used for training: what `repair.fix` keeps, without crowds.

    Guarantees: the ids of the images are 0..N-1 in their order, so that the image of a box is found without a search.

    Args:
        annotations: as they were read.
        unreadable: names of images that cannot be used.
    """
    fixed = fix(annotations, unreadable, min_box_px=0)
    objects = replace(fixed, boxes=fixed.boxes.take(~fixed.boxes.is_crowd))
    return replace(objects, images=replace(fixed.images, ids=np.arange(len(fixed.images))),
                   boxes=replace(objects.boxes, image_ids=objects.image_indices()))


def count_classes(splits: Mapping[str, Annotations]) -> ClassCounts:
    """Count the boxes of each class, and the images that have one, in each split; classes are identified by name."""
    names = tuple(dict.fromkeys(category.name for annotations in splits.values() for category in annotations.categories))
    boxes, images = {}, {}
    for split, annotations in splits.items():
        classes = _class_of_each_box(annotations, names)
        boxes[split] = np.bincount(classes, minlength=len(names))
        pairs = np.sort(annotations.boxes.image_ids * len(names) + classes)  # of image and class
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        images[split] = np.bincount(pairs % len(names), minlength=len(names))
    return ClassCounts(names, boxes, images)


def epoch_boxes(annotations: Annotations, names: Sequence[str], mode: Mode, threshold: float | Literal["auto"]) -> np.ndarray:
    """Return (K,) the mean number of boxes of each class in an epoch.

    Args:
        annotations: of the training split.
        names: K classes; all classes of the annotations are among them.
        mode, threshold: `data.balance` and `data.balance_threshold`.
    """
    owners, classes = annotations.boxes.image_ids, _class_of_each_box(annotations, names)
    factors = repeat_factors(owners, classes, len(annotations.images), mode, threshold)
    return boxes_per_epoch(owners, classes + 1, factors, len(names))


def boxes_per_image(annotations: Annotations) -> np.ndarray:
    """Return (N,) the number of boxes of each image."""
    return np.bincount(annotations.boxes.image_ids, minlength=len(annotations.images))


def relative_sides(annotations: Annotations) -> np.ndarray:
    """Return (T,) sqrt(w h / (W H)): the side of a square with the box's area, relative to the side of a square image."""
    return np.sqrt(_relative_sizes(annotations).prod(axis=1))


def good_prior_shares(annotations: Annotations) -> dict[str, float]:
    """Return for each kind of net the share of boxes with a good prior, as training reports it for its net; T is at least 1.

    Of many boxes MEASURED, evenly spread, are enough.
    """
    wide = np.linspace(0, len(annotations.boxes) - 1, min(len(annotations.boxes), MEASURED)).round().astype(int)
    boxes = annotations.boxes.take(wide)
    sizes = np.tile(annotations.images.sizes[boxes.image_ids], 2)
    corners = np.concatenate([boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]], axis=1) / sizes
    return {nets: float((best_ious(corners, *priors.at_300_px()) >= GOOD_IOU).mean()) for nets, priors in PUBLISHED.items()}


def relative_ratios(annotations: Annotations) -> np.ndarray:
    """Return (T,) width over height of each box after the image is resized to a square, as the ratios of priors are."""
    sizes = _relative_sizes(annotations)
    return sizes[:, 0] / sizes[:, 1]


def histogram(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Return (len(edges) + 1,) the number of values below the first edge, in each [edge, next edge), and from the last on."""
    return np.bincount(np.searchsorted(np.asarray(edges), values, side="right"), minlength=len(edges) + 1)


def image_sizes(annotations: Annotations, limit: int) -> Sizes:
    """Count the images of each size; `most_frequent` has at most `limit` sizes."""
    sizes, counts = np.unique(annotations.images.sizes, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:limit]
    width, height = annotations.images.sizes.T
    return Sizes(tuple((*sizes[at].tolist(), int(counts[at])) for at in order), len(sizes),
                 int((width > height).sum()), int((width < height).sum()), int((width == height).sum()))


def _relative_sizes(annotations: Annotations) -> np.ndarray:
    return annotations.boxes.xywh[:, 2:] / annotations.images.sizes[annotations.boxes.image_ids]


def _class_of_each_box(annotations: Annotations, names: Sequence[str]) -> np.ndarray:
    """Return (T,) indices into `names`; every category must be among them."""
    index = {name: at for at, name in enumerate(names)}
    return np.array([index[category.name] for category in annotations.categories], np.int64)[annotations.boxes.category_ids - 1]
