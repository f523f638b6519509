"""Real datasets in every format go through every stage, to a finite AP and an exported model."""

import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from support.servers import serve
from support.tiny_run import run_stage, set_params

from stages import download, evaluate, export, fix_annotations, train, validate

STAGES = (download.download_data, validate.validate_data, fix_annotations.fix, train.main, export.main, evaluate.main)
SETS: dict[str, tuple[list[str], tuple[int, int], int]] = {  # paths; training and validation images; classes
    "yolo": (["yolo-coco36"], (24, 12), 80),
    "open_images": (["open-images-mini"], (10, 4), 6),
    "voc and yolo": (["voc-bccd.zip", "yolo-coco36"], (229, 99), 83),
}


def run_all(folder: Path, **data: Any) -> None:
    """Run all stages one after the other, in one process."""
    set_params(folder, data={"max_bad_fraction": 0.05} | data, epochs=1, batch_size=8, ap_every_epochs=0)
    done = run_stage(folder, stage=_every_stage)
    assert done.returncode == 0, done.stdout + done.stderr


def _every_stage() -> str:
    sys.argv = ["stages"]
    return "\n".join(stage() for stage in STAGES)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "yolo" else pytest.mark.slow) for name in SETS])
def test_a_real_set_is_trained_on_measured_and_exported(shared_data: Path, tmp_path: Path, name: str) -> None:
    paths, counts, classes = SETS[name]
    run_all(tmp_path, source="local", paths=[str(shared_data / path) for path in paths])
    fixed = {split: json.loads((tmp_path / "data" / "fixed" / f"{split}.json").read_bytes()) for split in ("train", "val")}
    assert tuple(len(fixed[split]["images"]) for split in ("train", "val")) == counts
    assert len(fixed["train"]["categories"]) == classes
    assert math.isfinite(json.loads((tmp_path / "reports" / "eval.json").read_bytes())["AP"])
    assert (tmp_path / "models" / "ssd.onnx").stat().st_size > 0
    assert "<svg" in (tmp_path / "reports" / "validation.html").read_text()


@pytest.mark.slow
def test_real_coco_is_downloaded_trained_on_measured_and_exported(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "coco-mirror"
    files = {f"/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.zip")}
    with serve(files) as server:
        run_all(tmp_path, source="coco2017", base_url=server.url)
    with zipfile.ZipFile(folder / "annotations/annotations_trainval2017.zip") as archive:
        archive.extract("annotations/instances_val2017.json", tmp_path)
    official = COCO(str(tmp_path / "annotations/instances_val2017.json"))
    results = json.loads((tmp_path / "reports/results.json").read_bytes())
    assert {row["category_id"] for row in results} <= set(official.getCatIds())
    assert max(row["category_id"] for row in results) > 80, "the original ids have holes and go up to 90"
    assert len(official.loadRes(results).getAnnIds()) == len(results)
    assert math.isfinite(json.loads((tmp_path / "reports/eval.json").read_bytes())["AP"])
    assert (tmp_path / "models/ssd.onnx").stat().st_size > 0
