"""Real images in COCO's layout, with their manifest, for the tests of this folder."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part

SPLITS = {
    "train": Part(images="train2017", annotations="annotations/instances_train2017.json"),
    "val": Part(images="val2017", annotations="annotations/instances_val2017.json"),
    "test": Part(images="test2017", annotations="annotations/image_info_test2017.json"),
}


def manifest_of(root: Path, splits: dict[str, Part]) -> Manifest:
    """Return the manifest of the current files."""
    names = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    return Manifest(source="local", root=str(root), splits={name: (part,) for name, part in splits.items()},
                    files={name: (os.path.getsize(root / name), sha256(root / name)) for name in names})


@pytest.fixture(scope="session")
def unpacked(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the extracted small mirror of COCO; tests must not change it."""
    folder = tmp_path_factory.mktemp("coco")
    for archive in sorted((shared_data / "coco-mirror").glob("*/*.zip")):
        with zipfile.ZipFile(archive) as content:
            content.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def mirror(unpacked: Path) -> Manifest:
    """Return the manifest of the mirror; tests must not change its files."""
    return manifest_of(unpacked, SPLITS)


@pytest.fixture
def copy(unpacked: Path, tmp_path: Path) -> Manifest:
    """Return the manifest of a copy of the mirror's train split, 80 images, that a test may break."""
    for folder in ("train2017", "annotations"):
        shutil.copytree(unpacked / folder, tmp_path / "raw" / folder)
    return manifest_of(tmp_path / "raw", {"train": SPLITS["train"]})


@pytest.fixture(scope="session")
def image_bytes(unpacked: Path) -> bytes:
    """Return one JPEG image."""
    return min((unpacked / "val2017").glob("*.jpg")).read_bytes()
