"""A tiny data set in which the train stage really runs, and its results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from project import ROOT

from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Split

TINY = {
    "model": {"image_size": 64, "width_mult": 0.1},
    "train": {"epochs": 2, "batch_size": 4, "precision": "fp32", "ap_every_epochs": 1, "ema_decay": 0.9, "lr": 0.01},
    "eval": {"batch_size": 4, "pictures": 2},
    "runtime": {"device": "cpu", "workers": 1, "processes": 1},
}


def make_workspace(folder: Path, images: int = 12) -> Path:
    """Pictures of bright boxes on noise, in the form that fix_annotations leaves, with a tiny params.yaml."""
    files: dict[str, tuple[int, str]] = {}
    for split, count in (("train", images), ("val", 4)):
        rows: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
        for i in range(count):
            dice = np.random.default_rng([len(split), i])
            picture = dice.integers(0, 100, (64, 64, 3), dtype=np.uint8)
            x, y, side = (int(v) for v in dice.integers(4, 30, 3))
            picture[y:y + side, x:x + side] = (250, 200, 150) if i % 2 else (60, 120, 250)
            name = f"{split}/{i}.png"
            path = folder / "data" / "raw" / "tiny" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
            files[name] = (path.stat().st_size, sha256(path))
            rows["images"].append({"id": i, "file_name": name, "width": 64, "height": 64})
            rows["annotations"].append({"id": i + 1, "image_id": i, "category_id": 1 + i % 2, "bbox": [x, y, side, side],
                                        "area": side * side, "iscrowd": 0})
        fixed = folder / "data" / "fixed" / f"{split}.json"
        fixed.parent.mkdir(parents=True, exist_ok=True)
        fixed.write_text(json.dumps({**rows, "categories": [{"id": 1, "name": "red", "source_id": 3},
                                                            {"id": 2, "name": "blue", "source_id": 7}]}))
    splits = {name: Split(images=name, annotations=f"{name}.json") for name in ("train", "val")}
    Manifest(source="local", root="tiny", splits=splits, files=files).save(folder / "data" / "manifest.json")
    set_params(folder)
    return folder


def set_params(folder: Path, **train: Any) -> None:
    """Write params.yaml: the shipped one, made tiny, with these keys of `train`."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for group, values in TINY.items():
        tree[group].update(values)
    tree["train"].update(train)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))


def run_stage(folder: Path, kill_at: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the train stage as a process of its own; `kill_at` names where it kills itself (see killed_trainer.py)."""
    command = [sys.executable, "-m", "stages.train"] if kill_at is None else [
        sys.executable, str(Path(__file__).with_name("killed_trainer.py")), kill_at]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("DVC_ROOT", None)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights in models/ssd.pt."""
    return torch.load(folder / "models" / "ssd.pt", weights_only=True)["weights"]


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    left, right = final_weights(one), final_weights(other)
    assert left.keys() == right.keys()
    different = [key for key in left if not torch.equal(left[key], right[key])]
    assert not different
