"""data/fixed in memory: flat arrays, which loader workers share instead of copying (118k Python dicts would take 3 GB)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssd_lib.errors import InputError, StateError
from ssd_lib.manifest import FIXED_FOLDER


@dataclass(frozen=True)
class FixedSet:
    """The images and boxes of one split.

    Attributes:
        class_names: K names; label i is class_names[i - 1].
        source_ids: the K category ids that the source gave these classes.
        image_ids: (N,) int64.
        file_names: (N,) names as in the manifest, UTF-8 bytes.
        sizes: (N, 2) int32, (height, width) in pixels.
        first: (N + 1,) int64: the boxes of image i are the rows first[i] to first[i + 1].
        boxes: (T, 4) float32, xyxy in pixels.
        labels: (T,) int64 in 1..K.
        is_crowd: (T,) bool.
    """

    class_names: tuple[str, ...]
    source_ids: tuple[int, ...]
    image_ids: np.ndarray
    file_names: np.ndarray
    sizes: np.ndarray
    first: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def file_name(self, index: int) -> str:
        """The name of image `index` in the manifest."""
        return self.file_names[index].decode()


def load_fixed(split: str, folder: Path = FIXED_FOLDER) -> FixedSet:
    """Read one split, e.g. "train", as fix_annotations wrote it.

    Raises:
        StateError: it is not there.
        InputError: it is not what fix_annotations writes.
    """
    path = folder / f"{split}.json"
    try:
        return flatten(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise StateError(f"{path}: missing. `dvc repro fix_annotations` makes it.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not what fix_annotations writes ({error}). "
                         "Run `dvc repro --force fix_annotations`.") from error


def flatten(tree: dict) -> FixedSet:
    """One split from its annotations as fix_annotations writes them: `write_annotations`, parsed."""
    images, rows, categories = tree["images"], tree["annotations"], tree["categories"]
    image_ids = np.array([image["id"] for image in images], dtype=np.int64)
    order = np.argsort(image_ids)
    owners = order[np.searchsorted(image_ids, [row["image_id"] for row in rows], sorter=order)].astype(np.int64)
    by_image = np.argsort(owners, kind="stable")
    xywh = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)[by_image]
    return FixedSet(
        class_names=tuple(category["name"] for category in categories),
        source_ids=tuple(category["source_id"] for category in categories),
        image_ids=image_ids,
        file_names=np.array([image["file_name"].encode() for image in images]),
        sizes=np.array([(image["height"], image["width"]) for image in images], dtype=np.int32).reshape(-1, 2),
        first=np.searchsorted(owners[by_image], np.arange(len(images) + 1)),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1).astype(np.float32),
        labels=np.array([row["category_id"] for row in rows], dtype=np.int64)[by_image],
        is_crowd=np.array([row["iscrowd"] for row in rows], dtype=bool)[by_image],
    )
