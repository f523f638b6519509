"""A checkpoint that knows other classes is fine-tuned on real images: blood cells, in VOC's layout."""

import math
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.project import write_fixed
from support.tiny_run import final_weights, run_stage, set_params

from ssd_lib.checkpoint.file import LAST, read_checkpoint
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part
from ssd_lib.nets.model_file import load_model

CLASSES = ("Platelets", "RBC", "WBC")
COUNTS = {"train": 16, "val": 8}


def _use_blood_cells(folder: Path, archive_path: Path) -> None:
    """Replace the images and boxes of a workspace by others, in the form that fix_annotations leaves."""
    files: dict[str, tuple[int, str]] = {}
    with zipfile.ZipFile(archive_path) as archive:
        for split, count in COUNTS.items():
            rows: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
            for i, name in enumerate(archive.read(f"BCCD/ImageSets/Main/{split}.txt").decode().split()[:count]):
                path = folder / "data" / "raw" / "tiny" / split / f"{name}.jpg"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(archive.read(f"BCCD/JPEGImages/{name}.jpg"))
                files[f"{split}/{name}.jpg"] = (path.stat().st_size, sha256(path))
                tree = ET.fromstring(archive.read(f"BCCD/Annotations/{name}.xml"))
                rows["images"].append({"id": i, "file_name": f"{split}/{name}.jpg", "width": 640, "height": 480})
                for thing in tree.iter("object"):
                    x1, y1, x2, y2 = (int(thing.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
                    label = 1 + CLASSES.index(thing.findtext("name", ""))
                    rows["annotations"].append({
                        "id": len(rows["annotations"]) + 1, "image_id": i, "category_id": label, "area": (x2 - x1) * (y2 - y1),
                        "bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1], "iscrowd": 0})
            categories = [{"id": i, "name": name, "source_id": i} for i, name in enumerate(CLASSES, start=1)]
            write_fixed(folder / "data" / "fixed", split, {**rows, "categories": categories})
    splits = {split: (Part(images=split, annotations=f"{split}.json"),) for split in COUNTS}
    Manifest(source="local", root="tiny", splits=splits, files=files).save(folder / "data" / "manifest.json")


@pytest.mark.slow
def test_a_checkpoint_of_other_classes_learns_blood_cells(workspace: Path, never_stopped: Path, shared_data: Path) -> None:
    _use_blood_cells(workspace, shared_data / "voc-bccd.zip")
    before = read_checkpoint(never_stopped / "models" / "checkpoints" / LAST)
    set_params(workspace, model={"weights": str(never_stopped / "models" / "checkpoints" / LAST)}, freeze="backbone")
    ended = run_stage(workspace)
    assert ended.returncode == 0, ended.stderr
    assert "class_heads" in ended.stdout
    assert "new: 2 classes there, 3 here" in ended.stdout
    assert load_model().spec.class_names == CLASSES
    after, kept = final_weights(workspace), before.final_weights
    assert all((after[key] == value).all() for key, value in kept.items() if key.startswith("backbone."))
    assert not (after["extras.0.conv.2.weight"] == kept["extras.0.conv.2.weight"]).all()
    rows = [line.split(",") for line in (workspace / "reports" / "history.csv").read_text().splitlines()]
    columns = {name: [float(row[i]) for row in rows[1:]] for i, name in enumerate(rows[0]) if name in ("train_loss", "AP")}
    assert columns["train_loss"][1] < columns["train_loss"][0]
    assert all(math.isfinite(ap) for ap in columns["AP"])
