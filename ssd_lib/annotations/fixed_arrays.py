"""Annotations as training reads them: sorted by image, in arrays of fixed types, in one file that is read without parsing."""

from pathlib import Path

import numpy as np

from ssd_lib.annotations.table import Annotations
from ssd_lib.files import atomic_write


def flatten(fixed: Annotations) -> dict[str, np.ndarray]:
    """The columns of `ssd_lib.annotations.fixed_set.FixedSet`.

    Args:
        fixed: from `repair.fix`.
    """
    owners = fixed.owners()
    order = np.argsort(owners, kind="stable")
    boxes = fixed.boxes.take(order)
    names = [name.encode() for name in fixed.images.file_names]
    return {
        "class_names": np.array([category.name for category in fixed.categories], dtype=np.str_),
        "source_ids": np.array([category.source_id for category in fixed.categories], dtype=np.int64),
        "image_ids": fixed.images.ids,
        "name_bytes": np.frombuffer(b"".join(names), dtype=np.uint8),
        "name_offsets": np.cumsum([0, *map(len, names)], dtype=np.int64),
        "sizes": fixed.images.sizes[:, ::-1].astype(np.int32),
        "box_offsets": np.searchsorted(owners[order], np.arange(len(fixed.images) + 1)),
        "boxes": np.concatenate([boxes.xywh[:, :2], boxes.xywh[:, :2] + boxes.xywh[:, 2:]], axis=1).astype(np.float32),
        "labels": boxes.category_ids,
        "is_crowd": boxes.is_crowd,
    }


def write_flat(path: Path, fixed: Annotations) -> None:
    """Write the columns as a NumPy archive, atomically; the same annotations give the same bytes."""
    with atomic_write(path) as file:
        np.savez(file, **flatten(fixed))  # type: ignore[arg-type]  # zip entries without a date
