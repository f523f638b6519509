"""AP of any detector, such as an exported file, on some of the validation images of this project."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.boxes.selection import Selected
from ssd_lib.errors import StateError
from ssd_lib.evaluate.coco_eval import BOX_DIGITS, SCORE_DIGITS, Predictions, coco_metrics, fastest_tools, run_coco
from ssd_lib.manifest import FIXED_FOLDER, load_manifest


class SplitImages(NamedTuple):
    """Some images of a split that are on this machine.

    Attributes:
        fixed: the whole split.
        indices: of these images in it.
        paths: of these images.
    """

    fixed: FixedSet
    indices: tuple[int, ...]
    paths: tuple[Path, ...]


def split_images(split: str, limit: int) -> SplitImages | None:
    """Return at most `limit` images at even distances in the split; None if they or their list are not on this machine."""
    try:
        fixed, manifest = load_fixed(split), load_manifest()
    except StateError:
        return None
    indices = np.linspace(0, len(fixed) - 1, min(limit, len(fixed))).round().astype(int).tolist()
    paths = tuple(manifest.path(fixed.file_name(index)) for index in indices)
    return SplitImages(fixed, tuple(indices), paths) if paths and all(path.is_file() for path in paths) else None


def average_precision(images: SplitImages, found: Iterable[Selected]) -> float | None:
    """Return COCO's AP on these validation images; None if they have no ground truth.

    Args:
        images: of the split val.
        found: the detections in each of them.
    """
    found, fixed = list(found), images.fixed
    places = np.repeat(np.array(images.indices, dtype=np.int64), [len(one.scores) for one in found])
    boxes, labels, scores = (np.concatenate(column) for column in zip(*found, strict=True))
    height, width = fixed.sizes[places].T
    xyxy = boxes.astype(np.float64) * np.stack([width, height, width, height], axis=1)
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1).round(BOX_DIGITS)
    predictions = Predictions(places, labels, scores.astype(np.float64).round(SCORE_DIGITS), xywh)
    result = run_coco(_truth(images), fixed, predictions, fastest_tools())
    return coco_metrics(result)["AP"]


def _truth(images: SplitImages) -> dict[str, Any]:
    """Return the annotations of these images, as fix_annotations wrote them."""
    truth = json.loads((FIXED_FOLDER / "val.json").read_bytes())
    ids = {int(images.fixed.image_ids[index]) for index in images.indices}
    return {**truth, "images": [image for image in truth["images"] if image["id"] in ids],
            "annotations": [row for row in truth["annotations"] if row["image_id"] in ids]}
