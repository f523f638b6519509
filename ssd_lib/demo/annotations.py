"""What is visible in a demo picture, as COCO annotations: boxes and polygons of objects, run lengths of crowds.

Coordinates are COCO's: pixel i covers [i, i + 1), so that a box from 0 to the width fills the picture.
"""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from skimage.measure import find_contours

from ssd_lib.demo.layers import Layer
from ssd_lib.demo.scenes import Scene

CATEGORIES = {  # name: (id, supercategory); ids have holes, as COCO's do
    "ball": (3, "toy"),
    "butterfly": (17, "animal"),
    "dice": (18, "toy"),
    "mug": (44, "kitchen"),
    "ring": (62, "ornament"),
    "star": (87, "ornament"),
}
SIMPLIFY_PX = 0.3  # a polygon's corner that moves its outline by less is left out
SPECK_PX = 4.0  # a visible fragment of a smaller area is left out
ID_STEP, ID_SPAN = 104_729, 15_485_863  # two primes: steps of one around the other never meet, and look shuffled


def annotate(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """List the COCO annotations of a picture; box, area and segmentation are of the visible pixels.

    Polygons have no holes, which is COCO's habit as well: the area of a ring is that of its outline.
    """
    found = [_annotate_object(layer, image_id) for layer in scene.objects]
    numbered = [{"id": (image_id * 32 + number) * ID_STEP % ID_SPAN, **one} for number, one in enumerate(found)]
    return [*numbered, _annotate_crowd(scene.crowd, image_id)] if scene.crowd else numbered


def polygons(alpha: np.ndarray) -> list[np.ndarray]:
    """Outline where alpha is above a half: closed polygons of (x, y), one for each fragment, holes left out.

    The corners lie between pixels, where alpha, interpolated, is a half; at the picture's border they lie on it.
    """
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    top, left = rows[0], columns[0]
    padded = np.pad(alpha[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    outlines = [contour[:, ::-1] + (left - 0.5, top - 0.5) for contour in find_contours(padded, 0.5)]
    return [outline for outline in outlines if _signed_area(outline) >= SPECK_PX]


def _annotate_object(layer: Layer, image_id: int) -> dict[str, Any]:
    outlines = polygons(layer.visible)
    corners = np.concatenate(outlines)
    return {
        "image_id": image_id,
        "category_id": CATEGORIES[layer.class_name][0],
        "bbox": _box(corners.min(axis=0), corners.max(axis=0)),
        "area": round(sum(_signed_area(outline) for outline in outlines), 2),
        "iscrowd": 0,
        "segmentation": [_round(_simplify(outline).ravel()) for outline in outlines],
    }


def _annotate_crowd(crowd: list[Layer], image_id: int) -> dict[str, Any]:
    """One box around all of a crowd; its id tells category and image, as COCO's do."""
    category = CATEGORIES[crowd[0].class_name][0]
    mask = np.maximum.reduce([layer.visible for layer in crowd]) > 0.5
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return {
        "id": 900_000_000_000 + category * 100_000_000 + image_id,
        "image_id": image_id,
        "category_id": category,
        "bbox": _box(np.array([columns[0], rows[0]]), np.array([columns[-1] + 1, rows[-1] + 1])),
        "area": int(mask.sum()),
        "iscrowd": 1,
        "segmentation": {"counts": list(_run_lengths(mask)), "size": list(mask.shape)},
    }


def _run_lengths(mask: np.ndarray) -> Iterator[int]:
    """Lengths of the runs of 0, 1, 0, ... down the columns; the first may be 0."""
    flat = mask.ravel(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    yield from np.diff(changes, prepend=0, append=flat.size).tolist()


def _signed_area(outline: np.ndarray) -> float:
    """The area of a closed polygon; negative for a hole, which scikit-image walks the other way round."""
    x, y = (outline - outline[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def _simplify(outline: np.ndarray) -> np.ndarray:
    return cv2.approxPolyDP(outline[:-1].astype(np.float32), SIMPLIFY_PX, closed=True)[:, 0]


def _box(low: np.ndarray, high: np.ndarray) -> list[float]:
    return _round(np.concatenate([low, high - low]))


def _round(numbers: np.ndarray) -> list[float]:
    return [round(float(number), 2) for number in numbers]
