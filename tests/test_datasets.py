"""Real datasets in every format go through every stage, to a finite AP and an exported model."""

import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.tiny_run import Ended, run_stage, set_params

from stages import download, evaluate, export, fix_annotations, train, validate

STAGES = (download.download_data, validate.validate_data, fix_annotations.fix, train.main, export.main, evaluate.main)
SETS: dict[str, tuple[list[str], tuple[int, int], int]] = {  # paths; training and validation images; classes
    "voc": (["voc-bccd.zip"], (205, 87), 3),
    "yolo": (["yolo-coco36"], (24, 12), 80),
    "open_images": (["open-images-mini"], (10, 4), 6),
    "coco": (["coco"], (80, 80), 80),
    "voc and yolo": (["voc-bccd.zip", "yolo-coco36"], (229, 99), 83),
}


@pytest.fixture(scope="session")
def datasets(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder or zip of each dataset; COCO's zips are unpacked."""
    folder = tmp_path_factory.mktemp("sets")
    for archive in ("zips/train2017.zip", "zips/val2017.zip", "annotations/annotations_trainval2017.zip"):
        with zipfile.ZipFile(shared_data / "coco-mirror" / archive) as content:
            content.extractall(folder / "coco")
    return {name: folder / name if name == "coco" else shared_data / name for paths, _, _ in SETS.values() for name in paths}


def run_all(folder: Path, **data: Any) -> Ended:
    """Run all stages one after the other, in one process."""
    set_params(folder, data={"source": "local", "max_bad_fraction": 0.05} | data, epochs=1, batch_size=8, ap_every_epochs=0)
    return run_stage(folder, stage=_every_stage)


def _every_stage() -> str:
    sys.argv = ["stages"]
    return "\n".join(stage() for stage in STAGES)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "yolo" else pytest.mark.slow) for name in SETS])
def test_a_real_set_is_trained_on_measured_and_exported(datasets: dict[str, Path], tmp_path: Path, name: str) -> None:
    paths, counts, classes = SETS[name]
    done = run_all(tmp_path, paths=[str(datasets[path]) for path in paths])
    assert done.returncode == 0, done.stdout + done.stderr
    fixed = {split: json.loads((tmp_path / "data" / "fixed" / f"{split}.json").read_bytes()) for split in ("train", "val")}
    assert tuple(len(fixed[split]["images"]) for split in ("train", "val")) == counts
    assert len(fixed["train"]["categories"]) == classes
    assert math.isfinite(json.loads((tmp_path / "reports" / "eval.json").read_bytes())["AP"])
    assert (tmp_path / "models" / "ssd.onnx").stat().st_size > 0
    assert "<svg" in (tmp_path / "reports" / "validation.html").read_text()
