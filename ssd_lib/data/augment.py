"""Augment training samples: draw a crop, resize it once, flip it and jitter its colours.

A crop is a rectangle in whole pixels of the image; zooming out gives one larger than the image. Rectangles are tuples because
NumPy arrays of two or four numbers take ten times as long. All randomness comes from the sample's seed.
"""

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from ssd_lib.errors import InputError
from ssd_lib.files import in_project, why_unreadable
from ssd_lib.params import WORDS_FOR_FILES

if TYPE_CHECKING:
    import albumentations as A

FILL = (123, 117, 104)  # ImageNet's mean colour, around a zoomed-out image
FLIP_CHANCE = 0.5
CROP_MIN_IOUS = (1.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # 1.0: the whole image
CROP_TRIES = 50
CROP_MIN_SIDE = 0.3  # as a fraction of the side that is cropped
CROP_MAX_ASPECT = 2.0
ZOOM_OUT_CHANCE = 0.5
ZOOM_OUT_MAX = 4.0


Rectangle = tuple[int, int, int, int]  # xyxy


class Preset(NamedTuple):
    """The transforms of one value of `train.augmentation`."""

    zoom_out: bool = False
    crop: bool = False
    flip: bool = False
    colour: bool = False


PRESETS = {
    "ssd": Preset(zoom_out=True, crop=True, flip=True, colour=True),
    "ssdlite": Preset(crop=True, flip=True),
    "light": Preset(flip=True),
    "none": Preset(),
}


class Transform(NamedTuple):
    """A preset for a net with square inputs of `side` pixels; `colour` is built once and changes only pixel values.

    With `of_file`, the pipeline of a file, the preset only resizes the result.
    """

    preset: Preset
    side: int
    colour: "A.Compose | None" = None
    of_file: "A.Compose | None" = None


class CropPlacement(NamedTuple):
    """The part of the image inside a crop (in pixels of the image) and its position in the sample (in pixels of the sample)."""

    source: Rectangle
    target: Rectangle


def file_of(augmentation: str) -> Path | None:
    """Return the file that `train.augmentation` names; None for a preset.

    Raises:
        InputError: it is neither a preset nor a file that can be read.
    """
    words = WORDS_FOR_FILES["train.augmentation"]
    if augmentation in words:
        return None
    path = in_project(augmentation)
    if reason := why_unreadable(path):
        raise InputError(f"params.yaml: train.augmentation is '{augmentation}', which cannot be read ({path}: {reason}); "
                         f"allowed are {', '.join(words)}, or the path of a file that albumentations.save wrote.")
    return path


def build_transform(augmentation: str, image_size: int) -> Transform:
    """Return the transform that `train.augmentation` names; "none" only resizes.

    Raises:
        InputError: it names a file that cannot be used.
    """
    if (path := file_of(augmentation)) is not None:
        from ssd_lib.data.transform_file import load_transform  # imports albumentations

        return Transform(PRESETS["none"], image_size, of_file=load_transform(path))
    preset = PRESETS[augmentation]
    return Transform(preset, image_size, _colour_jitter() if preset.colour else None)


def augment(transform: Transform, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray,
            sample_seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transform one sample.

    Guarantees: the result depends only on the arguments, not on earlier calls or the process.

    Args:
        transform: from `build_transform`.
        image: (H, W, 3) uint8.
        boxes: (M, 4) float32, xyxy in [0, 1].
        labels: (M,) integers; a negative one marks a crowd.
        sample_seed: (seed, *key of the sample); a trailing 0 makes no difference.

    Returns:
        (S, S, 3) uint8, (N, 4) float32 and (N,) int64 with N <= M: objects whose centre is cut off are dropped. Of a crowd
        whatever is visible is kept: it must not become background.

    Raises:
        InputError: the pipeline of a file fails on this image.
    """
    generator = np.random.default_rng(sample_seed)
    if transform.of_file is not None:
        from ssd_lib.data.transform_file import apply_transform

        image, boxes, labels = apply_transform(transform.of_file, image, boxes, labels, generator)
    (height, width), (preset, side, colour, _) = image.shape[:2], transform
    in_pixels = boxes * np.array([width, height, width, height], dtype=np.float32)
    crop = 0, 0, width, height
    if preset.zoom_out:
        crop = zoom_out(crop, generator)
    if preset.crop:
        crop = min_iou_crop(crop, in_pixels, CROP_MIN_IOUS[generator.integers(len(CROP_MIN_IOUS))], generator)
    placement = place(crop, (height, width), side)
    sample, moved = _render(image, placement, side), move_boxes(in_pixels, placement, side)
    if preset.flip and generator.random() < FLIP_CHANCE:
        sample, moved = cv2.flip(sample, 1), np.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], axis=1)
    if preset.colour and colour is not None:
        colour.set_random_state(generator, random.Random(int(generator.integers(1 << 63))))  # albumentations' own seeds repeat
        sample = colour(image=sample)["image"]
    kept = (centre_inside(in_pixels, crop) | (labels < 0)) & (moved[:, 2:] > moved[:, :2]).all(axis=1)
    return sample, moved[kept].astype(np.float32), labels[kept].astype(np.int64)


def zoom_out(crop: Rectangle, generator: np.random.Generator) -> Rectangle:
    """Return the crop or, half of the time, a rectangle around it up to ZOOM_OUT_MAX times as large: objects become smaller.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3.6 "Data Augmentation for Small Object Accuracy".
    """
    chance, zoom, across, down = generator.random(4).tolist()
    if chance >= ZOOM_OUT_CHANCE:
        return crop
    (x1, y1, x2, y2), factor = crop, 1 + zoom * (ZOOM_OUT_MAX - 1)
    width, height = int((x2 - x1) * factor), int((y2 - y1) * factor)
    left, top = x1 - int(across * (width - (x2 - x1))), y1 - int(down * (height - (y2 - y1)))
    return left, top, left + width, top + height


def min_iou_crop(crop: Rectangle, boxes: np.ndarray, min_iou: float, generator: np.random.Generator) -> Rectangle:
    """Return a random part of `crop` that has an IoU of at least `min_iou` with some box and contains some box centre.

    The whole crop is returned if `min_iou` is 1, if there are no objects, or if none of CROP_TRIES draws qualifies.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2 "Data augmentation", and the authors' batch sampler.

    Args:
        crop: the rectangle to cut from.
        boxes: (M, 4) xyxy in pixels of the image.
        min_iou: usually one of CROP_MIN_IOUS.
        generator: source of the random draws.
    """
    if min_iou == 1.0 or len(boxes) == 0:
        return crop
    crops = _random_crops(crop, generator)
    for candidate in crops.T[_best_iou(crops, boxes) >= min_iou]:
        x1, y1, x2, y2 = map(int, candidate)
        if centre_inside(boxes, (x1, y1, x2, y2)).any():
            return x1, y1, x2, y2
    return crop


def place(crop: Rectangle, size: tuple[int, int], side: int) -> CropPlacement:
    """Return where the part of an image of `size` (height, width) inside `crop` goes in a sample of `side` x `side` pixels."""
    (x1, y1, x2, y2), (height, width) = crop, size
    source = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    across, down = side / (x2 - x1), side / (y2 - y1)
    left, top = (min(round((low - start) * scale), side - 1)  # at least one pixel of the image is visible
                 for low, start, scale in ((source[0], x1, across), (source[1], y1, down)))
    right, bottom = max(round((source[2] - x1) * across), left + 1), max(round((source[3] - y1) * down), top + 1)
    return CropPlacement(source, (left, top, right, bottom))


def move_boxes(boxes: np.ndarray, placement: CropPlacement, side: int) -> np.ndarray:
    """Map (M, 4) boxes, xyxy in pixels of the image, to xyxy in [0, 1] of the sample, clipped to it.

    Guarantees: boxes follow the pixels exactly, although the placement is rounded to whole pixels.
    """
    (x1, y1, x2, y2), (left, top, right, bottom) = placement
    across, down = (right - left) / (x2 - x1) / side, (bottom - top) / (y2 - y1) / side
    moved = boxes * np.array([across, down, across, down])
    moved += [left / side - x1 * across, top / side - y1 * down] * 2
    return np.minimum(np.maximum(moved, 0, out=moved), 1, out=moved)


def centre_inside(boxes: np.ndarray, crop: Rectangle) -> np.ndarray:
    """Return (M,) bool: which of (M, 4) boxes have their centre in the crop."""
    (x1, y1, x2, y2), (left, top, right, bottom) = boxes.T, crop
    across, down = x1 + x2, y1 + y2
    return (across > 2 * left) & (across < 2 * right) & (down > 2 * top) & (down < 2 * bottom)


def _colour_jitter() -> "A.Compose":
    """Return the transform of colours. It is imported only here: that takes most of a second, which not every run needs."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise it contacts the network when imported
    import albumentations as A

    jitter = A.ColorJitter(brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.5)
    return A.Compose([jitter])


def _render(image: np.ndarray, placement: CropPlacement, side: int) -> np.ndarray:
    """Return (side, side, 3): the visible part of the image, resized, with FILL around it."""
    (x1, y1, x2, y2), (left, top, right, bottom) = placement
    sample = cv2.resize(image[y1:y2, x1:x2], (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    if sample.shape[:2] == (side, side):
        return sample
    return cv2.copyMakeBorder(sample, top, side - bottom, left, side - right, cv2.BORDER_CONSTANT, value=FILL)


def _random_crops(crop: Rectangle, generator: np.random.Generator) -> np.ndarray:
    """Return (4, T) random parts of a crop, in whole pixels, with an aspect ratio of at most CROP_MAX_ASPECT relative to it."""
    shares = generator.uniform(CROP_MIN_SIDE, 1, (2, CROP_TRIES))
    shares = shares[:, (shares <= CROP_MAX_ASPECT * shares[::-1]).all(axis=0)]
    corner = generator.random(shares.shape) * (1 - shares)
    start, sides = np.array(crop[:2])[:, None], np.array([[crop[2] - crop[0]], [crop[3] - crop[1]]])
    low = np.floor(corner * sides)
    high = np.minimum(np.maximum(np.rint((corner + shares) * sides), low + 1), sides)
    return np.concatenate([low + start, high + start])


def _best_iou(crops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return (T,) the highest IoU of each of (4, T) crops with any of (M, 4) boxes."""
    (left, top, right, bottom), (x1, y1, x2, y2) = crops[..., None], boxes.T
    overlap = np.maximum(np.minimum(right, x2) - np.maximum(left, x1), 0)
    overlap *= np.maximum(np.minimum(bottom, y2) - np.maximum(top, y1), 0)
    union = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - overlap
    best: np.ndarray = (overlap / np.maximum(union, 1e-12)).max(axis=1)
    return best
