"""Which part of the plane around an image a training sample shows, and where boxes come to lie in it. Pixels are not
touched here: whatever is drawn, the image is cut and scaled once.

A view is a rectangle in whole pixels of the image; zooming out makes one that is larger than the image. Rectangles are plain
numbers and boxes are columns: arithmetic with arrays of two or four numbers takes ten times as long.
"""

from typing import NamedTuple

import numpy as np

CROP_MIN_IOUS = (1.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # 1.0: the whole view
CROP_TRIES = 50
CROP_MIN_SIDE = 0.3  # of the view's side
CROP_MAX_ASPECT = 2.0
ZOOM_OUT_CHANCE = 0.5
ZOOM_OUT_MAX = 4.0

Rectangle = tuple[int, int, int, int]  # xyxy


class CropPlacement(NamedTuple):
    """The part of the image that a view shows, in its pixels, and where in the sample it comes to lie, in the sample's."""

    source: Rectangle
    target: Rectangle


def zoom_out(view: Rectangle, generator: np.random.Generator) -> Rectangle:
    """Half of the time the view, at a random place, in one up to ZOOM_OUT_MAX times as wide and as high: makes small objects.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3.6 "Data Augmentation for Small Object Accuracy".
    """
    chance, zoom, across, down = generator.random(4).tolist()
    if chance >= ZOOM_OUT_CHANCE:
        return view
    (x1, y1, x2, y2), factor = view, 1 + zoom * (ZOOM_OUT_MAX - 1)
    width, height = int((x2 - x1) * factor), int((y2 - y1) * factor)
    left, top = x1 - int(across * (width - (x2 - x1))), y1 - int(down * (height - (y2 - y1)))
    return left, top, left + width, top + height


def min_iou_crop(view: Rectangle, boxes: np.ndarray, min_iou: float, generator: np.random.Generator) -> Rectangle:
    """A random part of the view that some object's box overlaps by an IoU of `min_iou` at least, with some object's centre in
    it; the whole view where `min_iou` is 1, there are no objects, or CROP_TRIES draws find none.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2 "Data augmentation", and the authors' batch sampler.

    Args:
        view: to cut from.
        boxes: (M, 4) xyxy in pixels of the image.
        min_iou: mostly one of CROP_MIN_IOUS.
        generator: of the random draws.
    """
    if min_iou == 1.0 or len(boxes) == 0:
        return view
    crops = _random_crops(view, generator)
    for crop in crops.T[_best_iou(crops, boxes) >= min_iou]:
        x1, y1, x2, y2 = map(int, crop)
        if centre_inside(boxes, (x1, y1, x2, y2)).any():
            return x1, y1, x2, y2
    return view


def place(view: Rectangle, size: tuple[int, int], side: int) -> CropPlacement:
    """Where what a view shows of an image of `size` (height, width) comes to lie in a sample of `side` x `side` pixels."""
    (x1, y1, x2, y2), (height, width) = view, size
    source = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    across, down = side / (x2 - x1), side / (y2 - y1)
    left, top = (min(round((low - start) * scale), side - 1)  # a sliver of the image has a pixel
                 for low, start, scale in ((source[0], x1, across), (source[1], y1, down)))
    right, bottom = max(round((source[2] - x1) * across), left + 1), max(round((source[3] - y1) * down), top + 1)
    return CropPlacement(source, (left, top, right, bottom))


def move_boxes(boxes: np.ndarray, placement: CropPlacement, side: int) -> np.ndarray:
    """(M, 4) boxes, xyxy in pixels of the image, as xyxy in [0, 1] of the sample, clipped to it.

    Guarantees: they follow the pixels exactly, though the placement is rounded to whole ones.
    """
    (x1, y1, x2, y2), (left, top, right, bottom) = placement
    across, down = (right - left) / (x2 - x1) / side, (bottom - top) / (y2 - y1) / side
    moved = boxes * np.array([across, down, across, down])
    moved += [left / side - x1 * across, top / side - y1 * down] * 2
    return np.minimum(np.maximum(moved, 0, out=moved), 1, out=moved)


def centre_inside(boxes: np.ndarray, view: Rectangle) -> np.ndarray:
    """(M,) bool: of (M, 4) boxes, which have their centre in the view."""
    (x1, y1, x2, y2), (left, top, right, bottom) = boxes.T, view
    across, down = x1 + x2, y1 + y2
    return (across > 2 * left) & (across < 2 * right) & (down > 2 * top) & (down < 2 * bottom)


def _random_crops(view: Rectangle, generator: np.random.Generator) -> np.ndarray:
    """(4, T) parts of a view, in whole pixels, none flatter than CROP_MAX_ASPECT (in shares of its sides)."""
    shares = generator.uniform(CROP_MIN_SIDE, 1, (2, CROP_TRIES))
    shares = shares[:, (shares <= CROP_MAX_ASPECT * shares[::-1]).all(axis=0)]
    corner = generator.random(shares.shape) * (1 - shares)
    start, sides = np.array(view[:2])[:, None], np.array([[view[2] - view[0]], [view[3] - view[1]]])
    low = np.floor(corner * sides)
    high = np.minimum(np.maximum(np.rint((corner + shares) * sides), low + 1), sides)
    return np.concatenate([low + start, high + start])


def _best_iou(crops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(T,) the highest IoU of each of (4, T) crops with one of (M, 4) boxes."""
    (left, top, right, bottom), (x1, y1, x2, y2) = crops[..., None], boxes.T
    overlap = np.maximum(np.minimum(right, x2) - np.maximum(left, x1), 0)
    overlap *= np.maximum(np.minimum(bottom, y2) - np.maximum(top, y1), 0)
    union = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - overlap
    best: np.ndarray = (overlap / np.maximum(union, 1e-12)).max(axis=1)
    return best
