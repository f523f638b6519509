"""Augmentation: one albumentations pipeline, built once, whose dice are thrown anew for every sample from outside."""

import os
import random
from typing import Any

import numpy as np

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for news at import

import albumentations as A
from albumentations.core.type_definitions import Targets

CROP_MIN_IOUS = (1.0, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)  # 1.0: the whole image
CROP_TRIES = 50
CROP_MIN_SIDE = 0.3  # of the image's side
CROP_MAX_ASPECT = 2.0
ZOOM_OUT_MAX = 4.0
FILL = (123, 117, 104)  # ImageNet's mean colour, around a zoomed-out image


def build_transform(preset: str, image_size: int) -> A.Compose:
    """Make the pipeline of `train.augmentation`; "none" only resizes.

    Pixel work is ordered by cost: the crop comes first, colour last, when the image is small.
    """
    resize = A.Resize(image_size, image_size)
    flip = A.HorizontalFlip(p=0.5)
    colour = A.ColorJitter(brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.5)
    steps = {
        "ssd": [ZoomOut(p=0.5), MinIoUCrop(), resize, flip, colour],
        "ssdlite": [MinIoUCrop(), resize, flip],
        "light": [resize, flip],
        "none": [resize],
    }[preset]
    boxes = A.BboxParams(format="albumentations", clip=True, filter_invalid_bboxes=True)
    return A.Compose(steps, bbox_params=boxes)


def augment(transform: A.Compose, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray,
            dice: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transform one sample.

    Law: the result depends on the arguments alone, whatever was transformed before and in whichever process.

    Args:
        transform: from `build_transform`.
        image: (H, W, 3) uint8.
        boxes: (M, 4) float32, xyxy in [0, 1].
        labels: (M,) integers.
        dice: (seed, *key of the sample); a last 0 makes no difference.

    Returns:
        (S, S, 3) uint8, (N, 4) float32 and (N,) int64 with N <= M: boxes that are cut off are gone.
    """
    numpy_seed, python_seed = np.random.SeedSequence(dice).spawn(2)
    transform.set_random_state(np.random.default_rng(numpy_seed), random.Random(int(python_seed.generate_state(1)[0])))
    rows = np.column_stack([boxes, labels]).astype(np.float32)
    result = transform(image=image, bboxes=rows)
    rows = np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, 5)
    return result["image"], rows[:, :4], rows[:, 4].astype(np.int64)


class MinIoUCrop(A.DualTransform):
    """A random crop in which some object's box overlaps the crop by at least a minimum IoU, drawn from CROP_MIN_IOUS.

    Objects whose centre is not in the crop are gone. An image without objects is left whole.
    Source: Liu et al. 2016, arXiv 1512.02325, sec. 2.2 "Data augmentation", and the authors' batch sampler.
    """

    _targets = (Targets.IMAGE, Targets.BBOXES)

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the crop: (4,) xyxy in [0, 1]."""
        whole = np.array([0, 0, 1, 1], dtype=np.float32)
        min_iou = CROP_MIN_IOUS[self.random_generator.integers(len(CROP_MIN_IOUS))]
        boxes = np.asarray(data["bboxes"])[:, :4] if len(data["bboxes"]) else np.empty((0, 4))
        if min_iou == 1.0 or len(boxes) == 0:
            return {"crop": whole}
        crops = _random_crops(self.random_generator, params["shape"][:2])
        honest = crops[_crop_iou(crops, boxes).max(axis=1) >= min_iou]
        return {"crop": next((crop for crop in honest if _centre_inside(boxes, crop).any()), whole)}

    def apply(self, img: np.ndarray, crop: np.ndarray, **params: Any) -> np.ndarray:
        """Cut the pixels out."""
        height, width = img.shape[:2]
        x1, y1, x2, y2 = np.rint(crop * (width, height, width, height)).astype(int)
        return np.ascontiguousarray(img[y1:y2, x1:x2])

    def apply_to_bboxes(self, bboxes: np.ndarray, crop: np.ndarray, **params: Any) -> np.ndarray:
        """Shift and scale the boxes whose centre is inside; clipping is left to the pipeline."""
        kept = bboxes[_centre_inside(bboxes, crop)].copy()
        kept[:, :4] = (kept[:, :4] - np.tile(crop[:2], 2)) / np.tile(crop[2:] - crop[:2], 2)
        return kept


class ZoomOut(A.DualTransform):
    """The image, at a random place, on a canvas up to ZOOM_OUT_MAX times as wide and as high: makes small objects.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3.6 "Data Augmentation for Small Object Accuracy".
    """

    _targets = (Targets.IMAGE, Targets.BBOXES)

    def __init__(self, p: float = 0.5) -> None:
        super().__init__(p=p)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the canvas: its (width, height) and the image's (left, top) on it, in pixels."""
        height, width = params["shape"][:2]
        scale = self.random_generator.uniform(1, ZOOM_OUT_MAX)
        canvas = np.array([int(width * scale), int(height * scale)])
        corner = (self.random_generator.uniform(0, 1, 2) * (canvas - (width, height))).astype(int)
        return {"canvas": canvas, "corner": corner}

    def apply(self, img: np.ndarray, canvas: np.ndarray, corner: np.ndarray, **params: Any) -> np.ndarray:
        """Paint the image on the canvas."""
        result = np.full((canvas[1], canvas[0], 3), FILL, dtype=img.dtype)
        (left, top), (height, width) = corner, img.shape[:2]
        result[top:top + height, left:left + width] = img
        return result

    def apply_to_bboxes(self, bboxes: np.ndarray, canvas: np.ndarray, corner: np.ndarray, **params: Any) -> np.ndarray:
        """Shrink and shift the boxes."""
        height, width = params["shape"][:2]
        moved = bboxes.copy()
        moved[:, :4] = (moved[:, :4] * np.tile((width, height), 2) + np.tile(corner, 2)) / np.tile(canvas, 2)
        return moved


def _random_crops(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(T, 4) crops on whole pixels, xyxy in [0, 1], none flatter than CROP_MAX_ASPECT (in shares of the sides)."""
    height, width = size
    sides = generator.uniform(CROP_MIN_SIDE, 1, (CROP_TRIES, 2))
    sides = sides[np.abs(np.log(sides[:, 0] / sides[:, 1])) <= np.log(CROP_MAX_ASPECT)]
    corner = generator.uniform(0, 1, sides.shape) * (1 - sides)
    scale = np.array([width, height])
    low = np.floor(corner * scale)
    high = np.minimum(np.maximum(np.rint((corner + sides) * scale), low + 1), scale)
    return np.concatenate([low / scale, high / scale], axis=1)


def _crop_iou(crops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(T, M) IoU of crops and boxes."""
    low = np.maximum(crops[:, None, :2], boxes[None, :, :2])
    high = np.minimum(crops[:, None, 2:], boxes[None, :, 2:])
    overlap = (high - low).clip(min=0).prod(axis=2)
    area = (crops[:, 2:] - crops[:, :2]).prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[None]
    return overlap / np.maximum(area - overlap, 1e-12)


def _centre_inside(boxes: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """(M,) bool."""
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
    return ((centres > crop[:2]) & (centres < crop[2:])).all(axis=1)
