"""Measure a model on a dataset that no pipeline of this project has prepared: images in a folder, annotations in COCO format.

Classes are matched by name. Classes that only one side has do not count: neither their objects nor their detections.
"""

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ssd_lib.annotations.coco import format_annotations, read_annotations
from ssd_lib.annotations.fixed_set import FixedSet, from_arrays, to_arrays
from ssd_lib.annotations.repair import fix, turn_upright
from ssd_lib.annotations.table import Images, clean_name
from ssd_lib.boxes.selection import Postprocess, Tiles
from ssd_lib.checkpoint.weights import open_model
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.loader import worker_count
from ssd_lib.device import pick_device
from ssd_lib.errors import InputError, plural, visible, visible_lines
from ssd_lib.evaluate.analysis import analyse
from ssd_lib.evaluate.coco_eval import BOX_DIGITS, Predictions, results_json, run_coco
from ssd_lib.evaluate.evaluate import all_metrics
from ssd_lib.evaluate.tiled import predict_as_shipped
from ssd_lib.exif import INVERSE, UPRIGHT, read_orientation, turn_boxes
from ssd_lib.files import atomic_write, read_regular, write_json
from ssd_lib.images import FULL_RANGE, Range, read_sizes
from ssd_lib.nets.ssd import SSD

TABLE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "VOC07", "VOC10")  # the metrics that are printed
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can hold; a fixed date makes equal results equal bytes


class ExternalDataset(NamedTuple):
    """A repaired dataset, reduced to the classes that it shares with the model, in the order of the dataset's ids.

    Attributes:
        fixed: its images and boxes.
        truth: the same as a COCO tree, for `run_coco`.
        images: the folder that its file names are relative to.
        has_boxes: False for a test set, which publishes only images and categories.
        label_of: (K + 1,) int64, the dataset's label for each label of the model; 0 where it has none.
        model_only: names of classes that only the model knows.
        data_only: names of classes that only the dataset knows.
        faulty_boxes: number of boxes of shared classes that are left out because they cannot be repaired.
        turns: name of an image whose annotations refer to its pixels as stored, and are turned here -> its EXIF orientation.
    """

    fixed: FixedSet
    truth: dict[str, Any]
    images: Path
    has_boxes: bool
    label_of: np.ndarray
    model_only: tuple[str, ...]
    data_only: tuple[str, ...]
    faulty_boxes: int
    turns: dict[str, int]


def evaluate_external(model: Path, annotations: Path, images: Path, out: Path, name: str | None, device: str, batch_size: int,
                      score_threshold: float | None, nms_iou: float | None, tiles: Tiles | None) -> None:
    """Detect on all images of a dataset, write results.json and eval.json, and print a summary.

    Args:
        model: a model file or a combo checkpoint.
        annotations, images: as for `open_external`.
        out: folder for the files written.
        name: algorithm name; if given, the zip file for COCO's evaluation server is written as well.
        device: "auto" | "cpu" | "cuda" | "cuda:1".
        batch_size: images per batch.
        score_threshold, nms_iou, tiles: as in `Postprocess`; None takes the model's own.

    Raises:
        StateError: a file or the device is missing.
        InputError: the model, the dataset or the name is invalid.
    """
    submission = submission_name(annotations, name) if name else None
    torch_device = pick_device(device)
    opened = open_model(model, torch_device)
    dataset = open_external(annotations, images, opened.spec.class_names)
    print(visible_lines(_describe(dataset, annotations)), flush=True)
    own = opened.postprocess
    postprocess = own._replace(score_threshold=own.score_threshold if score_threshold is None else score_threshold,
                               nms_iou=own.nms_iou if nms_iou is None else nms_iou,
                               tiles=own.tiles if tiles is None else tiles)
    predictions = predict_external(opened.net, dataset, postprocess, batch_size, torch_device, worker_count("auto"),
                                   opened.spec.sixteen_bit_range)
    results = results_json(dataset.fixed, as_annotated(predictions, dataset))
    write_json(out / "results.json", results)
    print(f"{out / 'results.json'}: {plural(len(results), 'detection')}")
    if submission:
        print(f"{write_submission(out, submission, results)}: the same for COCO's evaluation server")
    if dataset.has_boxes:
        metrics = all_metrics(run_coco(dataset.truth, dataset.fixed, predictions), analyse(dataset.fixed, predictions))
        write_json(out / "eval.json", {**metrics, "model_only": dataset.model_only, "data_only": dataset.data_only}, indent=1)
        print(f"{out / 'eval.json'}: all metrics, among them\n{_table(metrics)}")


def open_external(annotations: Path, images: Path, class_names: tuple[str, ...]) -> ExternalDataset:
    """Read and repair a dataset in COCO format, such as a raw official file, and match its classes to a model's.

    Args:
        annotations: a file such as instances_val2017.json or image_info_test-dev2017.json.
        images: the folder of its images.
        class_names: those of the model; label i is class_names[i - 1].

    Raises:
        InputError: the file is not in COCO format, shares no class with the model, or images are missing.
    """
    raw = read_annotations(annotations, boxes=False)
    model_names = [clean_name(name) for name in class_names]
    turns = _turns(raw.images, images)
    shared = tuple(category for category in raw.categories if clean_name(category.name) in model_names)
    whole = turn_upright(replace(raw, categories=shared), turns)
    repaired = fix(whole, unreadable=(), min_box_px=0)  # every box with an area counts
    labels = {category.name: category.id for category in repaired.categories}
    if not labels:
        raise InputError(f"{annotations}: no class in common with the model, whose classes are {_listed(class_names)}; the "
                         f"file has {_listed([category.name for category in raw.categories]) or 'none'}. Give equal classes "
                         "equal names: upper and lower case differ.")
    _check_images(annotations, repaired.images.file_names, images)
    ids = {category.id for category in shared}
    return ExternalDataset(
        fixed=from_arrays(to_arrays(repaired)),
        truth=json.loads(b"".join(format_annotations(repaired))),
        images=images,
        has_boxes=len(raw.boxes) > 0,
        label_of=np.array([0, *(labels.get(name, 0) for name in model_names)]),
        model_only=tuple(name for name in model_names if name not in labels),
        data_only=tuple(clean_name(category.name) for category in raw.categories if category.id not in ids),
        faulty_boxes=int(np.isin(raw.boxes.category_ids, list(ids)).sum()) - len(repaired.boxes),
        turns=turns)


def predict_external(net: SSD, dataset: ExternalDataset, postprocess: Postprocess, batch_size: int, device: torch.device,
                     workers: int, deep_range: Range = FULL_RANGE) -> Predictions:
    """Detect on every image of a dataset; keep the detections of its classes, with its labels.

    Guarantees: detections of other classes do not count towards the `max_detections` of an image.

    Args:
        net: on `device`.
        dataset: from `open_external`, with the classes of this net.
        postprocess: thresholds and limits.
        batch_size: images per batch.
        device: where to compute.
        workers: loader processes.
        deep_range: see `decode_image`.
    """
    loaded = DetectionDataset(dataset.fixed, dataset.images.joinpath, build_transform("none", net.image_size),
                              deep_range=deep_range)
    limit = postprocess.max_detections
    if dataset.model_only:  # no limit before the detections of other classes are removed
        limit = postprocess.top_k_per_class * net.classes
    found = predict_as_shipped(net, loaded, postprocess._replace(max_detections=limit), batch_size, device, workers)
    labels = dataset.label_of[found.labels]
    kept = Predictions(*(column[labels > 0] for column in found._replace(labels=labels)))
    rank = np.arange(len(kept.images)) - np.searchsorted(kept.images, kept.images)  # within its image, best first
    return Predictions(*(column[rank < postprocess.max_detections] for column in kept))


def as_annotated(predictions: Predictions, dataset: ExternalDataset) -> Predictions:
    """Return the detections with boxes that refer to the same pixels as the annotations of the dataset.

    Args:
        predictions: of `predict_external`.
        dataset: of `open_external`.
    """
    boxes = predictions.boxes.copy()
    for index in range(len(dataset.fixed)) if dataset.turns else ():
        orientation = dataset.turns.get(dataset.fixed.file_name(index), UPRIGHT)
        rows = predictions.images == index
        sizes = np.tile(dataset.fixed.sizes[index][::-1], (int(rows.sum()), 1))
        boxes[rows] = turn_boxes(boxes[rows], sizes, INVERSE.get(orientation, orientation)).round(BOX_DIGITS)
    return predictions._replace(boxes=boxes)


def submission_name(annotations: Path, algorithm: str) -> str:
    """Return detections_[testset]_[alg]_results, the name that COCO's evaluation server wants for the zip and the file in it.

    Source: cocodataset.org/#upload; for test-dev2017, github.com/cocodataset/cocoapi/issues/87.

    Args:
        annotations: an annotation file; the test set is what follows the last underscore of its name: test-dev2017 for
            image_info_test-dev2017.json, val2017 for instances_val2017.json.
        algorithm: the name of the submission.

    Raises:
        InputError: the algorithm name has characters that do not belong in a file name.
    """
    if not re.fullmatch(r"[\w.-]+", algorithm, re.ASCII):
        raise InputError(f"--name: {algorithm!r} becomes part of a file name; letters, digits, '.', '-' and '_' are allowed. "
                         "Choose another name.")
    return f"detections_{annotations.stem.rpartition('_')[2]}_{algorithm}_results"


def write_submission(folder: Path, name: str, results: list[dict[str, Any]]) -> Path:
    """Write NAME.zip with NAME.json in it, atomically; equal results give equal bytes.

    The server fails if the zip holds a folder (github.com/kkhoot/PAA/issues/20).

    Args:
        folder: where to write it.
        name: from `submission_name`.
        results: from `results_json`; the server counts at most 100 per image.

    Returns:
        The path of the zip.
    """
    path = folder / f"{name}.zip"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.json", EARLIEST), json.dumps(results), zipfile.ZIP_DEFLATED)
    return path


def _turns(images: Images, folder: Path) -> dict[str, int]:
    """Return the orientations of the images whose stated size is that of the stored pixels, not that of the upright ones."""
    upright = read_sizes(folder / name for name in images.file_names)
    is_swapped = (images.sizes == upright[:, ::-1]).all(axis=1) & (images.sizes != upright).any(axis=1)
    names = [images.file_names[row] for row in np.flatnonzero(is_swapped)]
    orientations = {name: read_orientation(read_regular(folder / name)) for name in names}
    return {name: orientation for name, orientation in orientations.items() if orientation != UPRIGHT}


def _check_images(annotations: Path, file_names: Any, images: Path) -> None:
    if not len(file_names):
        raise InputError(f"{annotations}: lists 0 images; at least one is needed. Give another file.")
    missing = [name for name in file_names if not (images / name).is_file()]
    if missing:
        raise InputError(f"{images}: {len(missing)} of {plural(len(file_names), 'image')} of {annotations} are missing, "
                         f"the first is '{missing[0]}'; all are needed. Download them, or give their folder with --images.")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(visible(name, 60) for name in names)


def _describe(dataset: ExternalDataset, annotations: Path) -> str:
    """Return lines on what is measured and what is left out."""
    lines = [f"{annotations}: {plural(len(dataset.fixed), 'image')}; "
             f"{plural(len(dataset.fixed.class_names), 'class')} in common with the model"]
    if not dataset.has_boxes:
        lines.append("the file lists no boxes: there will be detections but no metrics")
    if dataset.faulty_boxes:
        lines.append(f"left out: {dataset.faulty_boxes} faulty boxes that cannot be repaired")
    for what, names in (("objects of classes that the model does not know", dataset.data_only),
                        ("detections of classes that the dataset does not have", dataset.model_only)):
        if names:
            lines.append(f"left out: {what} ({len(names)}): {_listed(names)}")
    return "\n".join(lines)


def _table(metrics: dict[str, Any]) -> str:
    """Return two lines: names, and the numbers below them."""
    numbers = ["-" if metrics[name] is None else format(metrics[name], ".3f") for name in TABLE]
    return "\n".join("  ".join(f"{cell:>5}" for cell in row) for row in (TABLE, numbers))
