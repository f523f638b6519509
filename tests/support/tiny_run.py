"""A tiny dataset in which the train stage really runs, and its results."""

import multiprocessing.process
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context, set_forkserver_preload
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import cv2
import numpy as np
import torch
import yaml

from ssd_lib.distributed import launch as agent
from ssd_lib.distributed.worker import work
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part
from ssd_lib.processes import STOP_SIGNALS
from stages import runner, train
from support.project import ROOT, write_fixed
from support.self_killing import arm

torch.set_num_threads(1)  # a fork of a process that has used more cannot compute

TINY = {
    "model": {"net": "mb2-ssd-lite", "image_size": 64, "width_mult": 0.1, "backbone_weights": "none"},
    "train": {"epochs": 2, "batch_size": 4, "freeze": "none", "precision": "fp32", "ap_every_epochs": 1, "ema_decay": 0.9,
              "lr": 0.01},
    "eval": {"batch_size": 4, "pictures": 2},
    "runtime": {"device": "cpu", "workers": 1, "threads": 1, "processes": 1},
}


def make_workspace(folder: Path, images: int = 12) -> Path:
    """Write images of bright boxes on noise, in the form that fix_annotations leaves, and a tiny params.yaml."""
    files: dict[str, tuple[int, str]] = {}
    for split, count in (("train", images), ("val", 4)):
        rows: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for i in range(count):
            rng = np.random.default_rng([len(split), i])
            image = rng.integers(0, 100, (64, 64, 3), dtype=np.uint8)
            x, y, side = (int(v) for v in rng.integers(4, 30, 3))
            image[y:y + side, x:x + side] = (250, 200, 150) if i % 2 else (60, 120, 250)
            name = f"{split}/{i}.png"
            path = folder / "data" / "raw" / "tiny" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
            files[name] = (path.stat().st_size, sha256(path))
            rows["images"].append({"id": i, "file_name": name, "width": 64, "height": 64})
            rows["annotations"].append({"id": i + 1, "image_id": i, "category_id": 1 + i % 2, "bbox": [x, y, side, side],
                                        "area": side * side, "iscrowd": 0})
        categories = [{"id": 1, "name": "red", "source_id": 3}, {"id": 2, "name": "blue", "source_id": 7}]
        write_fixed(folder / "data" / "fixed", split, {**rows, "categories": categories})
    splits = {name: (Part(images=name, annotations=f"{name}.json"),) for name in ("train", "val")}
    Manifest(source="local", root="tiny", splits=splits, files=files).save(folder / "data" / "manifest.json")
    set_params(folder)
    return folder


def set_params(folder: Path, model: Mapping[str, Any] | None = None, data: Mapping[str, Any] | None = None,
               **train: Any) -> None:
    """Write params.yaml: the shipped one, made tiny, with these keys of `train`, of `model` and of `data`."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for group, values in TINY.items():
        tree[group].update(values)
    tree["train"].update(train)
    tree["model"].update(model or {})
    tree["data"].update(data or {})
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))


def set_runtime(folder: Path, before: str, after: str) -> None:
    """Change a line of params.yaml that changes no result."""
    path = folder / "params.yaml"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def nothing() -> None:
    """Prepare nothing."""


class Ended(NamedTuple):
    """How a stage ended: its exit code, negative for a signal, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run_stage(folder: Path, kill_at: str | None = None, **how: Any) -> Ended:
    """Run the train stage, or another, to its end in a separate process; see `start_stage`."""
    return ended(start_stage(folder, kill_at, **how), folder)


def start_stage(folder: Path, kill_at: str | None = None, *, stage: Callable[[], str] = train.main,
                prepare: Callable[[], None] = nothing, largest_file: int | None = None, options: Sequence[str] = (),
                start_method: str = "fork") -> BaseProcess:
    """Start a stage in a fork of a process that has imported torch, which saves most of the time, and has computed nothing.

    Autograd does not work in a fork of this process once a test has computed gradients in it.

    Args:
        folder: the workspace, where stdout and stderr are written.
        kill_at: where the process kills itself (see self_killing.py).
        stage: a function of a module, as is `prepare`, which the process calls first.
        largest_file: the disk is full for a file that grows beyond so many bytes.
        options: of the command line.
        start_method: how several training processes are started; users have "spawn".
    """
    set_forkserver_preload([__name__])
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(sys.path)}):
        process = get_context("forkserver").Process(target=in_stage, kwargs={
            "folder": folder, "stage": stage, "prepare": prepare, "kill_at": kill_at, "largest_file": largest_file,
            "options": options, "start_method": start_method, "environment": dict(os.environ)})
        process.start()
    return process


def ended(process: BaseProcess, folder: Path) -> Ended:
    """Wait for its end."""
    process.join(300)
    assert process.exitcode is not None, "the stage does not end"
    return Ended(process.exitcode, *((folder / name).read_text() for name in ("stdout", "stderr")))


def in_stage(folder: Path, stage: Callable[[], str], prepare: Callable[[], None], kill_at: str | None, largest_file: int | None,
             options: Sequence[str], start_method: str, environment: Mapping[str, str]) -> None:
    """Turn this process into one that runs a stage; several training processes are forks of it, which has computed nothing."""
    setattr(multiprocessing.process, "_parent_process", None)  # noqa: B010 - a stage is a main process, and its parent a server
    os.setsid()
    os.chdir(folder)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    os.environ.clear()
    os.environ.update(environment, KILL_AT=kill_at or "", PYTHONUNBUFFERED="1")
    os.environ.pop("DVC_ROOT", None)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        setattr(sys, name, open(number, "w", buffering=1, closefd=False))  # noqa: SIM115
    agent.START_METHOD = start_method
    if start_method == "fork":
        agent.work = without_handlers
    sys.argv = ["a stage", *options]
    if kill_at is not None:
        arm(kill_at)
    prepare()
    runner.run(stage)


def without_handlers(*arguments: Any) -> Any:
    """Work without the signal handlers of the stage, which users' training processes, being spawned, do not have either."""
    for number in STOP_SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    return work(*arguments)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights in models/ssd.pt."""
    return torch.load(folder / "models" / "ssd.pt", weights_only=True)["weights"]


def assert_same_weights(one: Path, other: Path) -> None:
    """Assert that the weights of two runs are equal bit for bit."""
    left, right = final_weights(one), final_weights(other)
    assert left.keys() == right.keys()
    different = [key for key in left if not torch.equal(left[key], right[key])]
    assert not different
