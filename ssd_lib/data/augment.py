"""Augmentation: where a sample looks is drawn first, the image is cut and scaled once, and colour, by albumentations, comes
last, when the picture is small. All dice are thrown anew for every sample, from outside."""

import os
import random
from typing import NamedTuple

import cv2
import numpy as np

from ssd_lib.data.crops import CROP_MIN_IOUS, CropPlacement, centre_inside, min_iou_crop, move_boxes, place, zoom_out

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for news at import

import albumentations as A

FILL = (123, 117, 104)  # ImageNet's mean colour, around a zoomed-out image
FLIP_CHANCE = 0.5


class Preset(NamedTuple):
    """What `train.augmentation` names."""

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
    """A preset for a net whose input is `side` pixels wide and high; `colour` is built once and changes pixels alone."""

    preset: Preset
    side: int
    colour: A.Compose


def build_transform(preset: str, image_size: int) -> Transform:
    """Make what `train.augmentation` names; "none" only resizes."""
    jitter = A.ColorJitter(brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.5)
    return Transform(PRESETS[preset], image_size, A.Compose([jitter]))


def augment(transform: Transform, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray,
            dice: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transform one sample.

    Guarantees: the result depends on the arguments alone, whatever was transformed before and in whichever process.

    Args:
        transform: from `build_transform`.
        image: (H, W, 3) uint8.
        boxes: (M, 4) float32, xyxy in [0, 1].
        labels: (M,) integers.
        dice: (seed, *key of the sample); a last 0 makes no difference.

    Returns:
        (S, S, 3) uint8, (N, 4) float32 and (N,) int64 with N <= M: boxes whose centre is cut off are gone.
    """
    (height, width), (preset, side, colour) = image.shape[:2], transform
    generator = np.random.default_rng(dice)
    in_pixels = boxes * np.array([width, height, width, height], dtype=np.float32)
    view = 0, 0, width, height
    if preset.zoom_out:
        view = zoom_out(view, generator)
    if preset.crop:
        view = min_iou_crop(view, in_pixels, CROP_MIN_IOUS[generator.integers(len(CROP_MIN_IOUS))], generator)
    placement = place(view, (height, width), side)
    picture, moved = _render(image, placement, side), move_boxes(in_pixels, placement, side)
    if preset.flip and generator.random() < FLIP_CHANCE:
        picture, moved = cv2.flip(picture, 1), np.stack([1 - moved[:, 2], moved[:, 1], 1 - moved[:, 0], moved[:, 3]], axis=1)
    if preset.colour:
        colour.set_random_state(generator, random.Random(int(generator.integers(1 << 63))))  # its own seeding repeats itself
        picture = colour(image=picture)["image"]
    kept = centre_inside(in_pixels, view) & (moved[:, 2:] > moved[:, :2]).all(axis=1)
    return picture, moved[kept].astype(np.float32), labels[kept].astype(np.int64)


def _render(image: np.ndarray, placement: CropPlacement, side: int) -> np.ndarray:
    """(side, side, 3): the part of the image, scaled to its place, and FILL around it."""
    (x1, y1, x2, y2), (left, top, right, bottom) = placement
    picture = cv2.resize(image[y1:y2, x1:x2], (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    if picture.shape[:2] == (side, side):
        return picture
    return cv2.copyMakeBorder(picture, top, side - bottom, left, side - right, cv2.BORDER_CONSTANT, value=FILL)
