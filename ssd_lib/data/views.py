"""Which part of the plane around an image a training sample shows, and where boxes come to lie in it. Pixels are not
touched here: whatever is drawn, the image is cut and scaled once.

A view is a rectangle in whole pixels of the image, (4,) int64 xyxy; zooming out makes one that is larger than the image.
"""

from typing import NamedTuple

import numpy as np

CROP_MIN_IOUS = (1.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # 1.0: the whole view
CROP_TRIES = 50
CROP_MIN_SIDE = 0.3  # of the view's side
CROP_MAX_ASPECT = 2.0
ZOOM_OUT_CHANCE = 0.5
ZOOM_OUT_MAX = 4.0


class Placement(NamedTuple):
    """The part of the image that a view shows, and where in the sample it comes to lie.

    Attributes:
        source: (4,) int64, xyxy in pixels of the image.
        target: (4,) int64, xyxy in pixels of the sample.
    """

    source: np.ndarray
    target: np.ndarray


def zoom_out(view: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Half of the time the view, at a random place, in one up to ZOOM_OUT_MAX times as wide and as high: makes small objects.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3.6 "Data Augmentation for Small Object Accuracy".
    """
    if generator.random() >= ZOOM_OUT_CHANCE:
        return view
    sides = view[2:] - view[:2]
    wider = (sides * generator.uniform(1, ZOOM_OUT_MAX)).astype(np.int64)
    corner = view[:2] - (generator.random(2) * (wider - sides)).astype(np.int64)
    return np.concatenate([corner, corner + wider])


def min_iou_crop(view: np.ndarray, boxes: np.ndarray, min_iou: float, generator: np.random.Generator) -> np.ndarray:
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
    honest = crops[_iou(crops, boxes).max(axis=1) >= min_iou]
    return next((crop for crop in honest if centre_inside(boxes, crop).any()), view)


def place(view: np.ndarray, size: tuple[int, int], side: int) -> Placement:
    """Where what a view shows of an image of `size` (height, width) comes to lie in a sample of `side` x `side` pixels."""
    height, width = size
    source = view.clip(0, (width, height, width, height))
    low, high = np.rint((source.reshape(2, 2) - view[:2]) * (side / (view[2:] - view[:2]))).astype(np.int64)
    low = low.clip(max=side - 1)  # a sliver of the image has a pixel
    return Placement(source, np.concatenate([low, np.maximum(high, low + 1)]))


def move_boxes(boxes: np.ndarray, placement: Placement, side: int) -> np.ndarray:
    """(M, 4) boxes, xyxy in pixels of the image, as xyxy in [0, 1] of the sample, clipped to it.

    Law: they follow the pixels exactly, though the placement is rounded to whole ones.
    """
    source, target = placement
    scale = (target[2:] - target[:2]) / (source[2:] - source[:2])
    moved = (boxes.reshape(-1, 2, 2) - source[:2]) * scale + target[:2]
    return (moved / side).clip(0, 1).reshape(-1, 4)


def centre_inside(boxes: np.ndarray, view: np.ndarray) -> np.ndarray:
    """(M,) bool: of (M, 4) boxes, which have their centre in the view."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres > view[:2]) & (centres < view[2:])).all(axis=1)


def _random_crops(view: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(T, 4) int64 parts of a view, none flatter than CROP_MAX_ASPECT (in shares of its sides)."""
    shares = generator.uniform(CROP_MIN_SIDE, 1, (CROP_TRIES, 2))
    shares = shares[np.abs(np.log(shares[:, 0] / shares[:, 1])) <= np.log(CROP_MAX_ASPECT)]
    corner = generator.random(shares.shape) * (1 - shares)
    sides = view[2:] - view[:2]
    low = np.floor(corner * sides)
    high = np.minimum(np.maximum(np.rint((corner + shares) * sides), low + 1), sides)
    return np.concatenate([low, high], axis=1).astype(np.int64) + np.tile(view[:2], 2)


def _iou(crops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(T, M) IoU of crops and boxes."""
    low = np.maximum(crops[:, None, :2], boxes[None, :, :2])
    high = np.minimum(crops[:, None, 2:], boxes[None, :, 2:])
    overlap = (high - low).clip(min=0).prod(axis=2)
    area = (crops[:, 2:] - crops[:, :2]).prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[None]
    return overlap / np.maximum(area - overlap, 1e-12)
