"""Detect on a split and compute COCO's metrics, with data/fixed as the ground truth.

pycocotools computes the metrics; validation during training may use faster-coco-eval instead: see `fastest_tools`.
"""

import json
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.boxes.selection import SHOWN_SCORE, Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.loader import evaluation_batches, load_batches
from ssd_lib.evaluate.matching import class_thresholds
from ssd_lib.nets.postprocess import Detections, detect
from ssd_lib.nets.ssd import SSD

SUMMARY_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
BOX_DIGITS, SCORE_DIGITS = 3, 6  # a thousandth of a pixel, a millionth of a score


class CocoTools(NamedTuple):
    """Classes that index annotations and evaluate them, with pycocotools' interface."""

    index: Any
    evaluate: Any


PYCOCOTOOLS = CocoTools(COCO, COCOeval)


class Predictions(NamedTuple):
    """The detections of a split, one per row, rounded so that the metrics are exactly those of results.json.

    Attributes:
        images: (T,) int64, index of the image in the split.
        labels: (T,) int64 in 1..K.
        scores: (T,) float64, SCORE_DIGITS decimals.
        boxes: (T, 4) float64, xywh in pixels of the stored image, BOX_DIGITS decimals.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def measure(net: SSD, dataset: DetectionDataset, gt_path: Path, postprocess: Postprocess, batch_size: int,
            device: torch.device, workers: int) -> dict[str, Any]:
    """Compute COCO's metrics of a net for validation during training, with `fastest_tools`.

    Guarantees: the mode of the net and the random state are unchanged.

    Args:
        net: on `device`.
        dataset: a split without augmentation.
        gt_path: the annotations of that split, written by fix_annotations.
        postprocess: thresholds and limits.
        batch_size: images per batch.
        device: where to compute.
        workers: loader processes.

    Returns:
        As `coco_metrics`, `Postprocess.class_thresholds`, and "precisions": class -> (101,) precision at the recalls 0 to 1,
        IoU 0.5.
    """
    predictions = predict(net, dataset, postprocess, batch_size, device, workers, progress=False)
    result = run_coco(json.loads(gt_path.read_bytes()), dataset.fixed, predictions, fastest_tools())
    curves = result.eval["precision"][0, :, :, 0, -1].T
    return {**coco_metrics(result), "class_thresholds": class_thresholds(dataset.fixed, predictions, SHOWN_SCORE),
            "precisions": dict(zip(dataset.fixed.class_names, curves, strict=True))}


def fastest_tools() -> CocoTools:
    """Return faster-coco-eval if it is installed (requirements-fast.txt), else pycocotools.

    Guarantees: both give the same metrics, to 1e-9 (tests/evaluate/test_coco_eval.py), so that a run may switch between them.
    """
    try:
        fast = import_module("faster_coco_eval")
    except ImportError:
        return PYCOCOTOOLS
    return CocoTools(fast.COCO, fast.COCOeval_faster)


def predict(net: SSD, dataset: DetectionDataset, postprocess: Postprocess, batch_size: int, device: torch.device,
            workers: int, progress: bool) -> Predictions:
    """Detect on every image of a split; the arguments are those of `measure`.

    Raises:
        StateError: the net gives nan or infinity, or a loader process was killed.
        InputError: an image cannot be read.
    """
    batches = evaluation_batches(len(dataset), batch_size)
    indices: list[int] = []
    found: list[Detections] = []
    with closing(load_batches(dataset, batches, workers, pin_memory=device.type == "cuda")) as loaded:
        for batch in tqdm(loaded, "evaluate", len(batches), unit="batch", leave=False, dynamic_ncols=True,
                          disable=None if progress else True):
            found += detect(net, batch.images.to(device, non_blocking=True), postprocess)
            indices += batch.indices.tolist()
    return in_pixels(indices, found, dataset.fixed)


def run_coco(truth: dict[str, Any], fixed: FixedSet, predictions: Predictions, tools: CocoTools = PYCOCOTOOLS) -> COCOeval:
    """Run COCO's evaluation of boxes up to its summary, without printing.

    Args:
        truth: the annotations of a split, written by fix_annotations, parsed.
        fixed: the same as arrays.
        predictions: its detections; may be empty.
        tools: the implementation.
    """
    # Copies, since pycocotools changes them; ids from 1, since it counts a detected object of id 0 as missed.
    rows = [{**row, "id": number} for number, row in enumerate(truth["annotations"], start=1)]
    with redirect_stdout(StringIO()):
        ground_truth = _indexed({**truth, "annotations": rows}, tools)
        found = _indexed({**truth, "annotations": _annotations(fixed, predictions)}, tools)
        result = tools.evaluate(ground_truth, found, "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    return result


def coco_metrics(result: COCOeval) -> dict[str, Any]:
    """Return COCO's twelve metrics by `SUMMARY_NAMES`, and {"class": {name: AP}}.

    A metric without ground truth is None: -1 in pycocotools, null in JSON, left out by `dvc metrics show`.
    """
    names = [category["name"] for category in result.cocoGt.loadCats(result.params.catIds)]
    by_class = result.eval["precision"][:, :, :, 0, -1]  # (IoUs, recalls, K) of all areas and 100 detections
    metrics: dict[str, Any] = {name: _or_none(value) for name, value in zip(SUMMARY_NAMES, result.stats, strict=True)}
    metrics["class"] = {name: _or_none(by_class[:, :, k].mean()) for k, name in enumerate(names)}
    return metrics


def results_json(fixed: FixedSet, predictions: Predictions) -> list[dict[str, Any]]:
    """Return rows in COCO's results format, with the ids of the original dataset, as pycocotools' `loadRes` reads them."""
    images, labels, scores, boxes = predictions
    columns = (fixed.image_ids[images], np.array([0, *fixed.source_ids])[labels], boxes, scores)
    return [{"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in zip(*(column.tolist() for column in columns), strict=True)]


def in_pixels(indices: Sequence[int], found: Sequence[Detections], fixed: FixedSet) -> Predictions:
    """Join the detections of images of the split, in that order, and scale them to pixels."""
    images = np.repeat(np.array(indices, dtype=np.int64), [len(one.scores) for one in found])
    boxes, labels, scores = (torch.cat(column).numpy() for column in zip(*found, strict=True))
    height, width = fixed.sizes[images].T
    xyxy = boxes.astype(np.float64) * np.stack([width, height, width, height], axis=1)
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    return Predictions(images, labels, scores.astype(np.float64).round(SCORE_DIGITS), xywh.round(BOX_DIGITS))


def _annotations(fixed: FixedSet, predictions: Predictions) -> list[dict[str, Any]]:
    """Return the detections as COCO annotations."""
    images, labels, scores, boxes = predictions
    numbers = np.arange(1, len(images) + 1)
    columns = (numbers, fixed.image_ids[images], labels, scores, boxes, boxes[:, 2] * boxes[:, 3])
    return [{"id": number, "image_id": image, "category_id": label, "score": score, "bbox": box, "area": area, "iscrowd": 0}
            for number, image, label, score, box, area in zip(*(column.tolist() for column in columns), strict=True)]


def _indexed(dataset: dict[str, Any], tools: CocoTools) -> Any:
    coco = tools.index()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _or_none(value: float) -> float | None:
    return None if value == -1 else float(value)
