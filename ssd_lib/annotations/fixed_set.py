"""data/fixed in memory: flat arrays, which loader workers share instead of copying (118k Python dicts would take 3 GB)."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd_lib.errors import InputError, StateError
from ssd_lib.manifest import FIXED_FOLDER

BACKGROUND_NAME = "BACKGROUND"  # of label 0, in labels.txt and in the metadata of models


@dataclass(frozen=True)
class FixedSet:
    """The images and boxes of one split.

    Attributes:
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids that the source gave these classes.
        image_ids: (N,) int64.
        name_bytes: (L,) uint8, the names of the images in the manifest, one behind the other, UTF-8.
        name_offsets: (N + 1,) int64: the name of image i is bytes name_offsets[i] to name_offsets[i + 1].
        sizes: (N, 2) int32, (height, width) in pixels.
        box_offsets: (N + 1,) int64: the boxes of image i are the rows box_offsets[i] to box_offsets[i + 1].
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

    def owners(self) -> np.ndarray:
        """(T,) int64: the image of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.box_offsets))

    def file_name(self, index: int) -> str:
        """The name of image `index` in the manifest."""
        return self.name_bytes[self.name_offsets[index]:self.name_offsets[index + 1]].tobytes().decode()


def load_fixed(split: str, folder: Path = FIXED_FOLDER) -> FixedSet:
    """Read one split, e.g. "train", as fix_annotations wrote it.

    Raises:
        StateError: it is not there.
        InputError: it is not what fix_annotations writes.
    """
    path = folder / f"{split}.npz"
    try:
        with np.load(path) as archive:
            return from_columns({name: archive[name] for name in archive.files})
    except FileNotFoundError as error:
        raise StateError(f"{path}: missing. `dvc repro fix_annotations` makes it.") from error
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not what fix_annotations writes ({error}). "
                         "Run `dvc repro --force fix_annotations`.") from error


def from_columns(columns: Mapping[str, np.ndarray]) -> FixedSet:
    """One split from the columns that `ssd_lib.annotations.fixed_arrays.flatten` gives."""
    lists = {name: tuple(columns[name].tolist()) for name in ("class_names", "source_ids")}
    return FixedSet(**{**columns, **lists})  # type: ignore[arg-type]
