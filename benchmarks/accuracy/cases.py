"""The cases of the comparison: a row each, and the three ways to train them. A run has a folder and is a process of its own."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, Protocol

import torch
import yaml

from benchmarks.accuracy.data import (
    Split,
    environment,
    link,
    load_split,
    read_detections,
    run_command,
    write_params,
    write_yolo,
)
from benchmarks.images import ROOT
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate.coco_eval import Predictions, predict
from ssd_lib.nets.model_file import load_model

RECIPE = ROOT / "recipes/finetune.yaml"
YOLO_SIZE = 320
Settings = Mapping[str, Mapping[str, Any]]


class Job(NamedTuple):
    """One training.

    Attributes:
        folder: empty; gets all files.
        data: a dataset that `data.prepare` has read.
        test: what to detect on afterwards; None only measures the speed of training.
        test_at: the folder of a dataset that `data.prepare` has read and whose val is `test`.
        epochs, seed: of the training.
        threads: of torch, and loader processes.
        ultralytics: the Python that has the package ultralytics.
    """

    folder: Path
    data: Path
    test: Split | None
    test_at: Path | None
    epochs: int
    seed: int
    threads: int
    ultralytics: str


class Trained(NamedTuple):
    """The result of a training: its wall time, the number of parameters, what it started from, and detections if asked for."""

    seconds: float
    parameters: int
    start: str
    predictions: Predictions | None


class Train(Protocol):
    """Trains as a job says."""

    def __call__(self, job: Job) -> Trained: ...


class Case(NamedTuple):
    """A row of the table: the recipe in words, and how to train it."""

    recipe: str
    train: Train


def train_ours(job: Job, settings: Settings) -> Trained:
    """Train by the stage `train`, with the parameters of RECIPE but for `settings`, and detect with the model."""
    (job.folder / "data").mkdir()
    (job.folder / "reports").mkdir()
    for name in ("data/raw", "data/fixed", "data/manifest.json"):
        link(job.data / name, job.folder / name)
    of_data = {"data": read_params(job.data)["data"]}
    of_job: dict[str, dict[str, Any]] = {
        "train": {"epochs": job.epochs, "seed": job.seed, "ap_every_epochs": 0, "patience": 0},
        "runtime": {"workers": job.threads, "threads": job.threads, "device": "cpu"}}
    write_params(job.folder, RECIPE, of_data, settings, of_job)
    log, begin = job.folder / "train.log", perf_counter()
    _must_run([sys.executable, "-m", "stages.train"], job, log)
    seconds = perf_counter() - begin
    model = load_model(job.folder / "models/ssd.pt")
    predictions = None
    if job.test is not None:
        torch.set_num_threads(job.threads)
        files = {job.test.fixed.file_name(index): file for index, file in enumerate(job.test.files)}
        dataset = DetectionDataset(job.test.fixed, files.__getitem__, build_transform("none", model.spec.image_size))
        predictions = predict(model.net, dataset, model.postprocess, 8, torch.device("cpu"), workers=0, progress=False)
    found = re.search(r"tensors from ([^;\n]+)", log.read_text())
    parameters = sum(parameter.numel() for parameter in model.net.parameters())
    return Trained(seconds, parameters, found[1].strip() if found else "random weights", predictions)


def train_torchvision(job: Job, batch: int) -> Trained:
    """Train torchvision's SSDlite by `torchvision_reference.py`."""
    test = {} if job.test_at is None else {"test": job.test_at}
    options = _options(data=job.data, epochs=job.epochs, batch=batch, seed=job.seed, threads=job.threads, **test)
    command = [sys.executable, "-m", "benchmarks.accuracy.torchvision_reference", *options]
    _must_run(command, job, job.folder / "train.log")
    return _read_result(job)


def train_ultralytics(job: Job, name: str) -> Trained:
    """Train a YOLO by `ultralytics_defaults.py`, on the same images in its own layout."""
    splits = {split: load_split(job.data, split) for split in ("train", "val")}
    config = write_yolo(job.folder / "dataset", {**splits, **({"test": job.test} if job.test else {})})
    script, speed_only = Path(__file__).with_name("ultralytics_defaults.py"), ["--speed-only"] * (job.test is None)
    options = _options(epochs=job.epochs, seed=job.seed, threads=job.threads, size=YOLO_SIZE)
    _must_run([job.ultralytics, str(script), name, str(config), *options, *speed_only], job, job.folder / "train.log",
              YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=str(job.folder))
    return _read_result(job)


def has_ultralytics(python: str) -> bool:
    """Whether a Python can import the package ultralytics."""
    try:
        return subprocess.run([python, "-c", "import ultralytics"], capture_output=True).returncode == 0
    except OSError:
        return False


def read_params(folder: Path) -> dict[str, Any]:
    """Return the parameters in a folder."""
    return yaml.safe_load((folder / "params.yaml").read_text())


def ours(**groups: Mapping[str, Any]) -> Train:
    """Return the way to train RECIPE with other values in some groups."""
    return partial(train_ours, settings=groups)


def parse_settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return `train.lr=0.01 model.net=mb2-fpn` as groups.

    Raises:
        ValueError: a word has another form.
    """
    groups: dict[str, dict[str, Any]] = {}
    for word in words:
        match = re.fullmatch(r"(\w+)\.(\w+)=(.*)", word)
        if match is None:
            raise ValueError(f"{word!r} is not a setting; it must look like train.lr=0.01")
        groups.setdefault(match[1], {})[match[2]] = yaml.safe_load(match[3])
    return groups


def _options(**values: object) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _must_run(command: Sequence[str], job: Job, log: Path, **variables: str) -> None:
    if not run_command(command, job.folder, log, environment(job.threads) | variables):
        sys.exit(f"{log}: the training failed:\n{log.read_text()[-1500:]}")


def _read_result(job: Job) -> Trained:
    about = json.loads((job.folder / "about.json").read_text())
    predictions = None
    if job.test is not None:
        rows = json.loads((job.folder / "detections.json").read_text())
        predictions = read_detections(rows, len(job.test.fixed), len(job.test.fixed.class_names))
    return Trained(about["seconds"], about["parameters"], "random weights", predictions)


NO_WEIGHTS = {"backbone_weights": "none"}
PREDECESSOR = {
    "model": {"net": "mb2-ssd-lite", "image_size": 300, "width_mult": 1.0, "priors": "published"},
    "train": {"lr": 0.01, "batch_size": 24, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "decay_norms": True,
              "schedule": "cosine", "warmup_epochs": 0, "clip_grad_norm": 0, "ema_decay": 0, "augmentation": "ssd",
              "assignment": "iou", "class_loss": "multibox", "box_loss": "smooth_l1", "freeze": "none", "select": "last"}}
CASES = {
    "ours": Case("recipes/finetune.yaml", ours()),
    "ours-ssd": Case("recipes/finetune.yaml with lite0-ssd-lite, published matching and loss", ours(
        model={"net": "lite0-ssd-lite"})),
    "ours-scratch": Case("recipes/finetune.yaml", ours(model=NO_WEIGHTS)),
    "mb2-scratch": Case("recipes/finetune.yaml with mb2-ssd-lite, published matching and loss", ours(
        model={"net": "mb2-ssd-lite"} | NO_WEIGHTS)),
    **{name: Case(f"ssdlite320_mobilenet_v3_large, torchvision's recipe, batch {batch}",
                  partial(train_torchvision, batch=batch)) for name, batch in (("torchvision", 24), ("torchvision-8", 8))},
    "predecessor": Case("mb2-ssd-lite at 300 px, SGD 0.01, batch 24, cosine, its augmentation, no average",
                        ours(**PREDECESSOR)),
    "yolo11n": Case("Ultralytics' defaults, 320 px", partial(train_ultralytics, name="yolo11n")),
    "yolo26n": Case("Ultralytics' defaults, 320 px", partial(train_ultralytics, name="yolo26n")),
}
