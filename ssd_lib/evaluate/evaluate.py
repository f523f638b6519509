"""The evaluate stage: measure models/ssd.pt on the validation images and write the reports."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.loader import worker_count
from ssd_lib.device import pick_device
from ssd_lib.errors import InputError, plural, visible
from ssd_lib.evaluate.analysis import Analysis, analyse, key_numbers
from ssd_lib.evaluate.coco_eval import coco_metrics, results_json, run_coco
from ssd_lib.evaluate.curves import draw_curves, write_class_curves, write_confusion, write_curves
from ssd_lib.evaluate.drawing import write_image
from ssd_lib.evaluate.page.inputs import EXPORT, PageInput, int8_ap, read_report
from ssd_lib.evaluate.page.page import write_page
from ssd_lib.evaluate.tiled import predict_as_shipped
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
    pr_classes.csv, confusion.csv, evaluation.html and detections.png.

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
    predictions = predict_as_shipped(model.net, dataset, model.postprocess, params.batch_size, device,
                                     worker_count(runtime.workers))
    truth = json.loads((FIXED_FOLDER / "val.json").read_bytes())
    result = run_coco(truth, fixed, predictions)
    analysis = analyse(fixed, predictions)
    metrics = {**all_metrics(result, analysis), "AP_int8": int8_ap(read_report(REPORTS / EXPORT))}
    write_json(REPORTS / "metrics.json", headline(metrics, model), indent=1)
    write_json(REPORTS / "eval.json", metrics, indent=1)
    write_json(REPORTS / "results.json", results_json(fixed, predictions))
    write_curves(REPORTS / "pr_curve.csv", result.eval["precision"])
    write_class_curves(REPORTS / "pr_classes.csv", result.eval["precision"], fixed.class_names)
    draw_curves(REPORTS / "pr_curve.png", result.eval["precision"], fixed.class_names)
    write_confusion(REPORTS / "confusion.csv", analysis.confused, fixed.class_names)
    areas = np.array([row["area"] for row in truth["annotations"] if not row["iscrowd"]])
    measured = PageInput(analysis, metrics, result.eval["precision"], areas, model, dataset, str(device))
    write_page(REPORTS, measured.with_reports(REPORTS))
    shown = np.linspace(0, len(fixed) - 1, min(params.pictures, len(fixed))).round().astype(int).tolist()
    write_image(REPORTS / "detections.png", validation_sheet(model.net, dataset, shown, model.postprocess, device))
    return _summary(metrics, len(fixed), len(predictions.images))


def all_metrics(result: COCOeval, analysis: Analysis) -> dict[str, Any]:
    """Return the metrics of `coco_metrics` and `voc_metrics`, the AP of each class and `key_numbers`, rounded."""
    coco = coco_metrics(result)
    by_class = coco.pop("class")
    return _rounded({**coco, **voc_metrics(analysis.fixed, analysis.predictions), "class": by_class, **key_numbers(analysis)})


def headline(metrics: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Return the first columns of `dvc exp show`: AP, and loss, net, learning rate and epochs of the run of the model.

    Args:
        metrics: of `all_metrics`.
        model: what is not known of one that was not trained here is None.
    """
    train, last = model.about.get("params", {}).get("train", {}), model.about.get("metrics", {})
    return {**_rounded({"AP": metrics["AP"], "AP50": metrics["AP50"], "loss": last.get("train_loss")}),
            "net": model.spec.net, "lr": train.get("lr"), "epochs": last.get("epoch")}


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
    page = REPORTS / "evaluation.html"
    return f"evaluate: {numbers}  ({plural(detections, 'detection')} on {plural(images, 'image')}); {page} shows what is wrong"
