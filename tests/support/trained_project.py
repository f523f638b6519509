"""A project after training: three images, their fixed annotations and a small net."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate.drawing import write_image
from ssd_lib.manifest import FIXED_FOLDER, MANIFEST_PATH, Manifest, Part
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec, save_model
from ssd_lib.params import EvalParams
from support.project import write_fixed

SIZES = ((64, 96), (80, 60), (50, 50))  # (height, width)
SPEC = NetSpec(net="mb2-ssd-lite", image_size=64, width_mult=0.1, class_names=("dog", "kite"), source_ids=(18, 38))
TREE = {
    "info": {},
    "images": [{"id": 900 + i, "file_name": f"val/{i}.png", "width": w, "height": h} for i, (h, w) in enumerate(SIZES)],
    "annotations": [
        {"id": 1, "image_id": 900, "category_id": 1, "bbox": [10, 10, 40, 30], "area": 1000, "iscrowd": 0},
        {"id": 2, "image_id": 900, "category_id": 2, "bbox": [60, 20, 20, 20], "area": 380, "iscrowd": 0},
        {"id": 3, "image_id": 901, "category_id": 1, "bbox": [5, 5, 50, 60], "area": 2500, "iscrowd": 0},
        {"id": 4, "image_id": 901, "category_id": 1, "bbox": [0, 0, 60, 80], "area": 4800, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "dog", "source_id": 18}, {"id": 2, "name": "kite", "source_id": 38}],
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Use one thread: more threads slow down tensors of this size."""
    torch.set_num_threads(1)


@pytest.fixture
def params() -> EvalParams:
    return EvalParams(batch_size=2, pictures=2)


@pytest.fixture(scope="session")
def weights() -> dict[str, torch.Tensor]:
    """Return weights with batch norm statistics of some images, so that outputs differ between priors."""
    net = SPEC.build(seed=3).train()
    pixels = torch.rand(8, 3, SPEC.image_size, SPEC.image_size, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        for _ in range(20):
            net(pixels)
    return net.state_dict()


@pytest.fixture(scope="session")
def finished_training(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, torch.Tensor]) -> Path:
    """Return the folder of a project after its train stage."""
    root = tmp_path_factory.mktemp("project")
    for i, (height, width) in enumerate(SIZES):
        noise = np.random.default_rng(i).integers(0, 255, (height, width, 3)).astype(np.uint8)
        write_image(root / f"data/raw/tiny/val/{i}.png", noise)
    write_fixed(root / FIXED_FOLDER, "val", TREE)
    splits = {"val": (Part(images="val", annotations="val.json"),)}
    Manifest(source="local", root="tiny", splits=splits, files={}).save(root / MANIFEST_PATH)
    save_model(root / MODEL_PATH, SPEC, weights, {"fingerprint": "f00d"})
    return root


@pytest.fixture
def project(finished_training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, a separate copy of the project after its train stage."""
    shutil.copytree(finished_training, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


@pytest.fixture
def fixed(project: Path) -> FixedSet:
    return load_fixed("val")


@pytest.fixture
def dataset(fixed: FixedSet) -> DetectionDataset:
    return DetectionDataset(fixed, lambda name: Path("data/raw/tiny") / name, build_transform("none", SPEC.image_size))
