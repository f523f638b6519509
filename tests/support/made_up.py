"""Made-up ground truth and detections whose matches a reader can see: corners xmin, ymin, xmax, ymax in images of 100 px."""

from typing import NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.coco_eval import Predictions

Corners = tuple[float, float, float, float]


class Object(NamedTuple):
    image: int
    box: Corners
    label: int = 1
    is_crowd: bool = False


class Found(NamedTuple):
    score: float
    image: int
    box: Corners
    label: int = 1


def truth(*objects: Object, classes: int = 1, images: int = 2) -> FixedSet:
    """Return the objects, which are sorted by image, as data/fixed has them; image i is called i.jpg."""
    assert [row.image for row in objects] == sorted(row.image for row in objects)
    names = [f"{i}.jpg".encode() for i in range(images)]
    return FixedSet(
        tuple(f"class {k}" for k in range(1, classes + 1)), tuple(range(1, classes + 1)), np.arange(images),
        np.frombuffer(b"".join(names), dtype=np.uint8), np.cumsum([0, *map(len, names)]),
        np.full((images, 2), 100, dtype=np.int32), np.searchsorted([row.image for row in objects], np.arange(images + 1)),
        np.array([row.box for row in objects], dtype=np.float32).reshape(-1, 4),
        np.array([row.label for row in objects], dtype=np.int64), np.array([row.is_crowd for row in objects], dtype=bool))


def detections(*rows: Found) -> Predictions:
    """Return the detections as `predict` gives them."""
    corners = np.array([row.box for row in rows], dtype=np.float64).reshape(-1, 4)
    images, labels = np.array([(row.image, row.label) for row in rows], dtype=np.int64).reshape(-1, 2).T
    return Predictions(images, labels, np.array([row.score for row in rows], dtype=np.float64),
                       np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1))
