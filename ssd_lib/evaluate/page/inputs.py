"""What the page is made from, and the reports of training and of the export that it shows."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.errors import StateError
from ssd_lib.evaluate.analysis import Analysis
from ssd_lib.nets.model_file import Model

HISTORY, PRIORS = "history.csv", "priors.json"  # of the stage train, beside the page
EXPORT, SPEEDS = "export.json", "benchmark.csv"  # of the stage export

Epoch = Mapping[str, float]


class PageInput(NamedTuple):
    """What was measured.

    Attributes:
        analysis: the detections and their errors.
        metrics: of `all_metrics`.
        precision: (10, 101, K, areas, limits), `COCOeval.eval["precision"]`.
        areas: of the objects, in square pixels of their images, as annotated.
        model: the detector.
        dataset: the images of the split.
        device: where the detections were computed.
        history: of `read_history`.
        priors: reports/priors.json; empty if training did not write it.
        train_objects: (K,) objects of each class in the training images; None if these are not on this machine.
        export: reports/export.json; empty if there was no export.
        speeds: the rows of reports/benchmark.csv: `ssd_lib.detect.benchmark.Row` as texts.
    """

    analysis: Analysis
    metrics: Mapping[str, Any]
    precision: np.ndarray
    areas: np.ndarray
    model: Model
    dataset: DetectionDataset
    device: str
    history: Sequence[Epoch] = ()
    priors: Mapping[str, Any] = {}
    train_objects: np.ndarray | None = None
    export: Mapping[str, Any] = {}
    speeds: Sequence[Mapping[str, str]] = ()

    def with_reports(self, folder: Path) -> "PageInput":
        """Return the same with what training and the export left in a folder of reports and in data/fixed."""
        return self._replace(history=read_history(folder / HISTORY), priors=read_report(folder / PRIORS),
                             train_objects=_train_objects(len(self.analysis.fixed.class_names)),
                             export=read_report(folder / EXPORT), speeds=_read_speeds(folder / SPEEDS))


def read_history(path: Path) -> list[Epoch]:
    """Return the numbers of each epoch, without those that were not measured; [] if there is no such file."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        return [{key: float(value) for key, value in row.items() if value} for row in rows]
    except (OSError, ValueError, TypeError):  # written by hand, or of another version
        return []


def read_report(path: Path) -> dict[str, Any]:
    """Return a report of another stage; {} if there is no such file."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def int8_ap(export: Mapping[str, Any]) -> float | None:
    """Return the AP of models/int8/ssd.onnx as reports/export.json has it; None if there is no such file."""
    made = export.get("int8", {}).get("ssd.onnx", {})
    return None if made.get("bytes") is None else made["AP"]


def _read_speeds(path: Path) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        numbers = [(float(row["ms"]), float(row["ms_p95"]), float(row["MB"]), int(row["threads"])) for row in rows]
        return rows if numbers and {"file", "format", "precision", "device"} <= rows[0].keys() else []
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _train_objects(classes: int) -> np.ndarray | None:
    try:
        train = load_fixed("train")
    except StateError:
        return None
    return np.bincount(train.labels[~train.is_crowd], minlength=classes + 1)[1:]
