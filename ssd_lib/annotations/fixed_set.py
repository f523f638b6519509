"""data/fixed for training: flat arrays in one .npz file per split, which is opened without parsing.

Loader workers share the arrays instead of copying them (118k images as Python dicts would take 3 GB). The same boxes in COCO
format are beside them, for evaluation and for people; see `fix_annotations`.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import atomic_write
from ssd_lib.manifest import FIXED_FOLDER

if TYPE_CHECKING:  # training reads these files and must not depend on the code that reads other formats
    from ssd_lib.annotations.table import Annotations

BACKGROUND_NAME = "BACKGROUND"  # of label 0, in labels.txt and in the metadata of models


@dataclass(frozen=True)
class FixedSet:
    """The images and boxes of one split.

    Attributes:
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids of the original dataset.
        image_ids: (N,) int64.
        name_bytes: (L,) uint8, the names of the images in the manifest, concatenated, UTF-8.
        name_offsets: (N + 1,) int64: the name of image i is bytes name_offsets[i] to name_offsets[i + 1].
        sizes: (N, 2) int32, (height, width) in pixels.
        box_offsets: (N + 1,) int64: the boxes of image i are rows box_offsets[i] to box_offsets[i + 1].
        boxes: (T, 4) float32, xyxy in pixels.
        labels: (T,) int64 in 1..K.
        is_crowd: (T,) bool.
    """

    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]
    image_ids: np.ndarray
    name_bytes: np.ndarray
    name_offsets: np.ndarray
    sizes: np.ndarray
    box_offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def image_indices(self) -> np.ndarray:
        """Return (T,) int64, the index of the image of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.box_offsets))

    def file_name(self, index: int) -> str:
        """Return the name of image `index` in the manifest."""
        return self.name_bytes[self.name_offsets[index]:self.name_offsets[index + 1]].tobytes().decode()


def load_fixed(split: str, folder: Path = FIXED_FOLDER) -> FixedSet:
    """Read one split, such as "train", as fix_annotations wrote it.

    Raises:
        StateError: it does not exist.
        InputError: it is not a file of fix_annotations.
    """
    path = folder / f"{split}.npz"
    try:
        with np.load(path) as archive:
            return from_arrays({name: archive[name] for name in archive.files})
    except FileNotFoundError as error:
        raise StateError(f"{path}: missing. `dvc repro fix_annotations` makes it.") from error
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a file of fix_annotations ({error}). "
                         "Run `dvc repro --force fix_annotations`.") from error


def write_fixed(path: Path, fixed: "Annotations") -> None:
    """Write a split as a NumPy archive, atomically; the same annotations give the same bytes."""
    with atomic_write(path) as file:
        np.savez(file, **to_arrays(fixed))  # type: ignore[arg-type]  # entries of the zip file have no date


def from_arrays(arrays: Mapping[str, np.ndarray]) -> FixedSet:
    """Return a split from the arrays that `to_arrays` gives."""
    lists = {name: tuple(arrays[name].tolist()) for name in ("class_names", "source_ids")}
    return FixedSet(**{**arrays, **lists})  # type: ignore[arg-type]


def to_arrays(fixed: "Annotations") -> dict[str, np.ndarray]:
    """Return the fields of `FixedSet` as arrays, boxes sorted by image.

    Args:
        fixed: from `repair.fix`.
    """
    image_indices = fixed.image_indices()
    order = np.argsort(image_indices, kind="stable")
    boxes = fixed.boxes.take(order)
    names = [name.encode() for name in fixed.images.file_names]
    return {
        "class_names": np.array([category.name for category in fixed.categories], dtype=np.str_),
        "source_ids": np.array([category.source_id for category in fixed.categories], dtype=np.int64),
        "image_ids": fixed.images.ids,
        "name_bytes": np.frombuffer(b"".join(names), dtype=np.uint8),
        "name_offsets": np.cumsum([0, *map(len, names)], dtype=np.int64),
        "sizes": fixed.images.sizes[:, ::-1].astype(np.int32),
        "box_offsets": np.searchsorted(image_indices[order], np.arange(len(fixed.images) + 1)),
        "boxes": np.concatenate([boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]], axis=1).astype(np.float32),
        "labels": boxes.category_ids,
        "is_crowd": boxes.is_crowd,
    }
