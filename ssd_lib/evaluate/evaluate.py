"""The evaluate stage: measure models/ssd.pt on the validation images and write the reports."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.loader import worker_count
from ssd_lib.device import pick_device
from ssd_lib.errors import InputError, visible
from ssd_lib.evaluate.coco_eval import Predictions, coco_metrics, predict, results_json, run_coco
from ssd_lib.evaluate.curves import draw_curves, write_curves
from ssd_lib.evaluate.drawing import write_image
from ssd_lib.evaluate.matching import BestF1, best_f1, find_pairs, match
from ssd_lib.evaluate.validation_sheet import validation_sheet
from ssd_lib.evaluate.voc_ap import voc_metrics
from ssd_lib.files import write_json
from ssd_lib.manifest import FIXED_FOLDER, load_manifest
from ssd_lib.nets.model_file import MODEL_PATH, Model, load_model
from ssd_lib.params import EvalParams, RuntimeParams

REPORTS = Path("reports")
DIGITS = 4  # of the metrics; smaller differences are noise on any validation set


def evaluate(params: EvalParams, runtime: RuntimeParams) -> str:
    """Measure models/ssd.pt on the validation images; write metrics.json, eval.json, results.json, pr_curve.csv and .png,
    detections.png.

    Returns:
        One line of summary.

    Raises:
        StateError: the model, the annotations or the device is missing.
        InputError: the classes of the model and of the annotations differ, or an image cannot be read.
    """
    device = pick_device(runtime.device)
    model, fixed = load_model(device=device), load_fixed("val")
    _check_classes(model, fixed)
    dataset = DetectionDataset(fixed, load_manifest().path, build_transform("none", model.spec.image_size),
                               deep_range=model.spec.sixteen_bit_range)
    predictions = predict(model.net, dataset, model.postprocess, params.batch_size, device, worker_count(runtime.workers),
                          progress=True)
    result = run_coco(json.loads((FIXED_FOLDER / "val.json").read_bytes()), fixed, predictions)
    metrics = all_metrics(result, fixed, predictions)
    write_json(REPORTS / "metrics.json", headline(metrics, model), indent=1)
    write_json(REPORTS / "eval.json", metrics, indent=1)
    write_json(REPORTS / "results.json", results_json(fixed, predictions))
    write_curves(REPORTS / "pr_curve.csv", result.eval["precision"])
    draw_curves(REPORTS / "pr_curve.png", result.eval["precision"], fixed.class_names)
    shown = np.linspace(0, len(fixed) - 1, min(params.pictures, len(fixed))).round().astype(int).tolist()
    write_image(REPORTS / "detections.png", validation_sheet(model.net, dataset, shown, model.postprocess, device))
    return _summary(metrics, len(fixed), len(predictions.images))


def all_metrics(result: COCOeval, fixed: FixedSet, predictions: Predictions) -> dict[str, Any]:
    """Return the metrics of `coco_metrics` and `voc_metrics`, and the AP and `BestF1` of each class, rounded."""
    coco = coco_metrics(result)
    by_class = coco.pop("class")
    best = best_f1(fixed, predictions, match(fixed, predictions, find_pairs(fixed, predictions)))
    return _rounded({**coco, **voc_metrics(fixed, predictions), "class": by_class,
                     "best_f1": f1_by_class(fixed.class_names, best)})


def headline(metrics: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Return the first columns of `dvc exp show`: AP, and loss, net, learning rate and epochs of the run of the model.

    Args:
        metrics: of `all_metrics`.
        model: what is not known of one that was not trained here is None.
    """
    train, last = model.about.get("params", {}).get("train", {}), model.about.get("metrics", {})
    return {**_rounded({"AP": metrics["AP"], "AP50": metrics["AP50"], "loss": last.get("train_loss")}),
            "net": model.spec.net, "lr": train.get("lr"), "epochs": last.get("epoch")}


def f1_by_class(names: Sequence[str], best: BestF1) -> dict[str, dict[str, float | None]]:
    """Return threshold, F1, precision and recall of each class; None where no object is found."""
    return {name: {key: None if np.isnan(value) else value for key, value in zip(BestF1._fields, row, strict=True)}
            for name, row in zip(names, np.stack(best, axis=1).tolist(), strict=True)}


def _rounded(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: _rounded(value) if isinstance(value, dict) else value if value is None else round(value, DIGITS)
            for key, value in metrics.items()}


def _check_classes(model: Model, fixed: FixedSet) -> None:
    if model.spec.class_names != fixed.class_names:
        found, wanted = (", ".join(visible(name, 60) for name in names)
                         for names in (model.spec.class_names, fixed.class_names))
        raise InputError(f"{MODEL_PATH}: its classes are {found}; those of {FIXED_FOLDER / 'val.json'} are {wanted}. "
                         "Run `dvc repro train`.")


def _summary(metrics: dict[str, Any], images: int, detections: int) -> str:
    numbers = "  ".join(f"{name} {'undefined' if metrics[name] is None else format(metrics[name], '.3f')}"
                        for name in ("AP", "AP50", "AP75"))
    return f"evaluate: {numbers}  ({detections} detections on {images} images); {REPORTS / 'detections.png'} shows some"
