"""Predictions made from ground truth, and their metrics computed with pycocotools directly."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.coco_eval import Predictions


def ground_truth_as_predictions(fixed: FixedSet) -> Predictions:
    """Return the predictions of a perfect detector, without crowds."""
    real = ~fixed.is_crowd
    images = np.repeat(np.arange(len(fixed)), np.diff(fixed.box_offsets))[real]
    xywh = np.concatenate([fixed.boxes[:, :2], fixed.boxes[:, 2:] - fixed.boxes[:, :2]], axis=1)[real]
    scores = np.linspace(0.9, 0.5, real.sum()).round(6)
    return Predictions(images, fixed.labels[real], scores, xywh.astype(float).round(3))


def by_hand(annotations: Path, results: list[dict], tmp_path: Path, category_ids: Sequence[int] = ()) -> list[float]:
    """Return the twelve metrics that pycocotools computes from files, for some classes or for all."""
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        run = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
        run.params.catIds = list(category_ids) or run.params.catIds
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


def noisy(found: Predictions, classes: int) -> Predictions:
    """Return the predictions with random errors in boxes, labels and scores."""
    rng = np.random.default_rng(5)
    count = len(found.images)
    boxes = found.boxes + found.boxes[:, [2, 3, 2, 3]] * rng.normal(0, 0.08, (count, 4))
    labels = np.where(rng.random(count) < 0.1, rng.integers(1, classes + 1, count), found.labels)
    return Predictions(found.images, labels, rng.random(count).round(6), boxes.round(3))
