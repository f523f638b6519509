"""Dataset, samples and batches. Pixels are uint8 until they are on the device; boxes are fractions of the image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.data.augment import Transform, augment
from ssd_lib.errors import InputError, plural
from ssd_lib.images import FULL_RANGE, Range, read_image

Key = tuple[int, int] | tuple[int, int, int]  # (epoch, index), or with the number of earlier uses of the image in this epoch

TRIED_IMAGES, TRIED_EPOCHS = 6, 4  # by `try_transform`


class Sample(NamedTuple):
    """One image with its boxes.

    Attributes:
        image: (S, S, 3) uint8, RGB.
        boxes: (M, 4) float32, xyxy in [0, 1].
        labels: (M,) int64 in 1..K, or -1 for a crowd.
        image_index: index of the image in the dataset.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    image_index: int


class Batch(NamedTuple):
    """Samples as tensors, padded to the largest number of boxes.

    Attributes:
        images: (B, 3, S, S) uint8, RGB, channels last in memory.
        boxes: (B, M, 4) float32, xyxy in [0, 1].
        labels: (B, M) int64 in 1..K; 0 is padding.
        crowd_boxes: (B, C, 4) float32, xyxy in [0, 1]; padding has zero area.
        indices: (B,) int64, indices of the images in the dataset.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    crowd_boxes: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`; `indices` stay on the CPU, where error messages need them."""
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self._asdict().items() if name != "indices"}
        return self._replace(**moved)


class DetectionDataset(Dataset[Sample]):
    """The images and boxes of a split, indexed by `Key`: the key determines the augmentation of a sample.

    Args:
        fixed: the split.
        path_of: returns the path of an image, given its name in the manifest.
        transform: from `build_transform`.
        seed: `train.seed`.
        pixels_of: returns the pixels of an image, (H, W, 3) uint8, RGB, given its index; None decodes the image file.
        deep_range: see `decode_image`.
    """

    def __init__(self, fixed: FixedSet, path_of: Callable[[str], Path], transform: Transform, seed: int = 0,
                 pixels_of: Callable[[int], np.ndarray] | None = None, deep_range: Range = FULL_RANGE) -> None:
        self.fixed, self.path_of, self.transform, self.seed = fixed, path_of, transform, seed
        self.pixels_of, self.deep_range = pixels_of or self._decoded, deep_range

    def __len__(self) -> int:
        return len(self.fixed)

    def __getitem__(self, key: Key) -> Sample:
        index = key[1]
        fixed, of_image = self.fixed, slice(self.fixed.box_offsets[index], self.fixed.box_offsets[index + 1])
        image = self.pixels_of(index)
        height, width = fixed.sizes[index]
        boxes = fixed.boxes[of_image] / np.array([width, height, width, height], dtype=np.float32)
        labels = np.where(fixed.is_crowd[of_image], -1, fixed.labels[of_image])
        try:
            return Sample(*augment(self.transform, image, boxes, labels, (self.seed, *key)), index)
        except InputError as error:
            raise InputError(f"{fixed.file_name(index)}: {error}") from error

    def _decoded(self, index: int) -> np.ndarray:
        return read_image(self.path_of(self.fixed.file_name(index)), self.deep_range)


def try_transform(dataset: DetectionDataset) -> str:
    """Try the pipeline of a file on some images, the smallest and the largest among them, and on one with objects everywhere.

    Returns:
        What it does with the objects, for the log.

    Raises:
        InputError: it fails, loses all objects, or gives another result when it is repeated.
    """
    sides, count = dataset.fixed.sizes.min(axis=1), len(dataset)
    spread = np.linspace(0, count - 1, min(count, TRIED_IMAGES)).astype(int).tolist()
    indices = sorted({int(sides.argmin()), int(sides.argmax()), *spread})
    height, width = (max(64, int(side)) for side in np.median(dataset.fixed.sizes, axis=0))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    corners = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=2).reshape(-1, 2) / 4
    boxes, labels = np.concatenate([corners, corners + 0.25], axis=1).astype(np.float32), np.ones(16, dtype=np.int64)
    before = after = 0
    for epoch in range(TRIED_EPOCHS):
        tried = augment(dataset.transform, image, boxes, labels, (dataset.seed, epoch, 0))
        samples = [dataset[epoch, index] for index in indices]
        again = augment(dataset.transform, image, boxes, labels, (dataset.seed, epoch, 0))
        if not all(np.array_equal(one, other) for one, other in zip(tried, again, strict=True)):
            raise InputError("train.augmentation gives another result when it is repeated with the same seed; a run could not "
                             "be continued. Leave such transforms out.")
        before += len(boxes) + int(np.diff(dataset.fixed.box_offsets)[indices].sum())
        after += len(tried[1]) + sum(len(sample.boxes) for sample in samples)
    if after == 0:
        raise InputError(f"train.augmentation loses all {before} objects of {plural(len(indices), 'image')} on which it was "
                         "tried. Correct the file.")
    return f"tried on {len(indices)} training images and on one with 16 objects, {after / before:.0%} of the objects remain"


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch."""
    objects = [sample.labels > 0 for sample in samples]
    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2),
        boxes=_pad([s.boxes[is_object] for s, is_object in zip(samples, objects, strict=True)]),
        labels=_pad([s.labels[is_object] for s, is_object in zip(samples, objects, strict=True)]),
        crowd_boxes=_pad([s.boxes[~is_object] for s, is_object in zip(samples, objects, strict=True)]),
        indices=torch.tensor([sample.image_index for sample in samples]),
    )


def _pad(arrays: Sequence[np.ndarray]) -> Tensor:
    """Stack arrays of different lengths, padded with zeros."""
    longest = max(len(array) for array in arrays)
    result = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for row, array in zip(result, arrays, strict=True):
        row[:len(array)] = array
    return torch.from_numpy(result)
