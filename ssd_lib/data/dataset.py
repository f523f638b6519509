"""Samples and batches: pixels stay uint8 until they are on the device, boxes are in units of the image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.data.augment import Transform, augment
from ssd_lib.images import read_image

Key = tuple[int, int] | tuple[int, int, int]  # (epoch, index), and how often the epoch has shown the image before


class Sample(NamedTuple):
    """One image: (S, S, 3) uint8, (M, 4) float32 boxes in [0, 1], (M,) int64 labels, -1 for a crowd, its place in the set."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    place: int


class Batch(NamedTuple):
    """Samples as tensors, padded to the fullest image.

    Attributes:
        images: (B, 3, S, S) uint8, RGB, channels last in memory.
        boxes: (B, M, 4) float32, xyxy in [0, 1].
        labels: (B, M) int64 in 1..K, 0 is padding.
        crowd_boxes: (B, C, 4) float32; padding has no area.
        indices: (B,) int64 into the data set.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    crowd_boxes: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`; the indices stay with the host, which names images by them."""
        there = {name: tensor.to(device, non_blocking=True) for name, tensor in self._asdict().items() if name != "indices"}
        return self._replace(**there)


class DetectionDataset(Dataset[Sample]):
    """Images and boxes of a split, asked for by `Key`, so that the augmentation of a sample is known by it.

    Args:
        fixed: the split.
        path_of: from the name of an image in the manifest to its file.
        transform: from `build_transform`.
        seed: `train.seed`.
        pixels_of: from an index to (H, W, 3) uint8, RGB; None decodes the image file.
    """

    def __init__(self, fixed: FixedSet, path_of: Callable[[str], Path], transform: Transform, seed: int = 0,
                 pixels_of: Callable[[int], np.ndarray] | None = None) -> None:
        self.fixed, self.path_of, self.transform, self.seed = fixed, path_of, transform, seed
        self.pixels_of = pixels_of or self._decoded

    def __len__(self) -> int:
        return len(self.fixed)

    def __getitem__(self, key: Key) -> Sample:
        index = key[1]
        fixed, rows = self.fixed, slice(self.fixed.box_offsets[index], self.fixed.box_offsets[index + 1])
        image = self.pixels_of(index)
        height, width = fixed.sizes[index]
        boxes = fixed.boxes[rows] / np.array([width, height, width, height], dtype=np.float32)
        labels = np.where(fixed.is_crowd[rows], -1, fixed.labels[rows])
        return Sample(*augment(self.transform, image, boxes, labels, (self.seed, *key)), index)

    def _decoded(self, index: int) -> np.ndarray:
        return read_image(self.path_of(self.fixed.file_name(index)))


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch."""
    objects = [sample.labels > 0 for sample in samples]
    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])).permute(0, 3, 1, 2),
        boxes=_pad([s.boxes[is_object] for s, is_object in zip(samples, objects, strict=True)]),
        labels=_pad([s.labels[is_object] for s, is_object in zip(samples, objects, strict=True)]),
        crowd_boxes=_pad([s.boxes[~is_object] for s, is_object in zip(samples, objects, strict=True)]),
        indices=torch.tensor([sample.place for sample in samples]),
    )


def _pad(arrays: Sequence[np.ndarray]) -> Tensor:
    """Stack arrays of different lengths, filled up with zeros."""
    longest = max(len(array) for array in arrays)
    result = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for row, array in zip(result, arrays, strict=True):
        row[:len(array)] = array
    return torch.from_numpy(result)
