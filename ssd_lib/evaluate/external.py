"""A data set that no pipeline of ours has prepared, as a model sees it: images in a folder, annotations in COCO's form.

Classes are matched by name. What only one side knows takes part in nothing: neither the data set's objects nor the model's
detections of such a class are counted.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ssd_lib.annotations.coco import format_annotations, read_annotations
from ssd_lib.annotations.fixed_arrays import flatten
from ssd_lib.annotations.fixed_set import FixedSet, from_columns
from ssd_lib.annotations.repair import fix
from ssd_lib.annotations.table import Annotations, clean_name
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.errors import InputError
from ssd_lib.evaluate.coco_eval import Predictions, predict
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import EvalParams


class ForeignSet(NamedTuple):
    """A data set, repaired, with the classes that both it and the model know, in the order of the data set's ids.

    Attributes:
        fixed: its images and boxes.
        truth: the same as a COCO tree, for `run_coco`.
        images: the folder that its file names are below.
        has_boxes: False for a test set, of which images and categories alone are published.
        label_of: (K + 1,) int64, the data set's label for each of the model's; 0 where it has none.
        model_only: names of classes that the data set does not know.
        data_only: names of classes that the model does not know.
        faulty_boxes: how many boxes of known classes could not be repaired, and are left out.
    """

    fixed: FixedSet
    truth: dict[str, Any]
    images: Path
    has_boxes: bool
    label_of: np.ndarray
    model_only: tuple[str, ...]
    data_only: tuple[str, ...]
    faulty_boxes: int


def open_foreign_set(annotations: Path, images: Path, class_names: tuple[str, ...]) -> ForeignSet:
    """Read, repair and match to a model a data set in COCO's form; a raw official file will do.

    Args:
        annotations: a file like instances_val2017.json or image_info_test-dev2017.json.
        images: the folder with its images.
        class_names: of the model; label i is class_names[i - 1].

    Raises:
        InputError: the file is no such file, the two share no class, or images are missing.
    """
    raw = read_annotations(annotations, boxes=False)
    known = [clean_name(name) for name in class_names]
    shared = tuple(category for category in raw.categories if clean_name(category.name) in known)
    mended = fix(replace(raw, categories=shared), unreadable=(), min_box_px=0)  # measured is all that has an area
    labels = {category.name: category.id for category in mended.categories}
    if not labels:
        raise InputError(f"{annotations}: shares no class with the model, which knows {', '.join(class_names)}; the file has "
                         f"{', '.join(category.name for category in raw.categories) or 'none'}. Give the same things the "
                         "same names: they are compared letter by letter.")
    _refuse_missing(annotations, mended, images)
    ids = {category.id for category in shared}
    truth = json.loads(b"".join(format_annotations(mended)))
    return ForeignSet(
        from_columns(flatten(mended)), truth, images, has_boxes=len(raw.boxes) > 0,
        label_of=np.array([0, *(labels.get(name, 0) for name in known)]),
        model_only=tuple(name for name in known if name not in labels),
        data_only=tuple(clean_name(category.name) for category in raw.categories if category.id not in ids),
        faulty_boxes=int(np.isin(raw.boxes.category_ids, list(ids)).sum()) - len(mended.boxes))


def predict_foreign(net: SSD, data: ForeignSet, params: EvalParams, device: torch.device, workers: int) -> Predictions:
    """Detect on every image of a foreign data set, and keep what is of its classes, under its labels.

    Guarantees: detections of other classes take no place among the `max_detections` of an image.

    Args:
        net: on `device`.
        data: from `open_foreign_set`, with this net's classes.
        params: thresholds and limits.
        device: where to compute.
        workers: loader processes.

    Raises:
        StateError, InputError: as of `predict`.
    """
    dataset = DetectionDataset(data.fixed, data.images.joinpath, build_transform("none", net.image_size))
    limit = params.top_k_per_class * net.classes if data.model_only else params.max_detections  # all that NMS leaves, or few
    found = predict(net, dataset, params.model_copy(update={"max_detections": limit}), device, workers, progress=True)
    labels = data.label_of[found.labels]
    kept = Predictions(*(column[labels > 0] for column in found._replace(labels=labels)))
    place = np.arange(len(kept.images)) - np.searchsorted(kept.images, kept.images)  # within its image, the best first
    return Predictions(*(column[place < params.max_detections] for column in kept))


def _refuse_missing(annotations: Path, mended: Annotations, images: Path) -> None:
    if not len(mended.images):
        raise InputError(f"{annotations}: lists 0 images; there is nothing to detect on. Name another file.")
    missing = [name for name in mended.images.file_names if not (images / name).is_file()]
    if missing:
        raise InputError(f"{images}: {len(missing)} of the {len(mended.images)} images of {annotations} are missing, the first "
                         f"'{missing[0]}'; every one must be there. Fetch them, or name their folder with --images.")
