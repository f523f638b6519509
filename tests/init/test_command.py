"""`ssd init` on small datasets: what it writes, says and refuses."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from support.folders import run as manifest_of
from support.four_formats import Row, write_coco, write_files, write_voc, write_yolo
from support.project import ROOT
from support.repository import dvc, git, make_clone, run

from ssd_lib.cli import main
from ssd_lib.download.download import summary

Boxes = Sequence[tuple[str, int, int, int, int, bool]]
LARGE: Boxes = (("cat", 10, 10, 30, 20, False), ("dog", 50, 40, 40, 30, False))
SMALL: Boxes = (("cat", 10, 10, 3, 20, False), ("dog", 50, 40, 40, 30, False))
SPEED = ("--images-per-second", "10", "--minutes", "1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a repository with the shipped params.yaml and recipes."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copy(ROOT / "params.yaml", folder)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=start"]):
        git(folder, *command)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return folder


def rows(folder: Path, first: int, count: int, boxes: Boxes = LARGE) -> list[Row]:
    """Write images of 100 x 80 px beside the dataset, and return their rows."""
    folder.mkdir(exist_ok=True)
    names = [f"{at}.jpg" for at in range(first, first + count)]
    for at, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.random.default_rng(first + at).integers(0, 256, (80, 100, 3), dtype=np.uint8))
    return [{"name": name, "width": 100, "height": 80, "file": folder / name, "boxes": list(boxes)} for name in names]


def dataset(folder: Path, form: str, boxes: Boxes = LARGE, count: int = 24) -> Path:
    """Write images for training, and a third as many for validation, in a format."""
    images = folder.parent / "images"
    write_files(folder, form, {"train": rows(images, 0, count, boxes), "validation": rows(images, count, count // 3, boxes)})
    return folder


def unsplit(folder: Path, form: str, count: int = 30) -> Path:
    """Write images without a validation split."""
    folder.mkdir()
    writer = {"voc": write_voc, "yolo": write_yolo}[form]
    images = rows(folder.parent / "images", 0, count)
    for row in images:
        shutil.copy(row["file"], folder)
    writer(folder, ".", images, ["cat", "dog"])
    (folder / "data.yaml").unlink(missing_ok=True)
    if form == "yolo":
        (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


def params() -> dict[str, Any]:
    """Return the written values."""
    return yaml.safe_load(Path("params.yaml").read_text())


@pytest.mark.parametrize("form", ["voc", "yolo", "coco", "open_images"])
def test_data_of_every_format_give_a_params_yaml_that_says_why(project: Path, tmp_path: Path, form: str,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path / "my data", form)
    assert main(["init", str(data), *SPEED]) == 0
    printed = capsys.readouterr().out
    recipe = yaml.safe_load((ROOT / "recipes" / "finetune.yaml").read_text())
    recipe["data"]["paths"] = [str(data)]
    recipe["train"] |= {"batch_size": 3, "epochs": 19, "ema_decay": 0.9}  # an epoch: (24 + 8 / 3) / 10 / 0.85 = 3.14 s
    assert params() == recipe
    assert f"{data}: {form}, 24 training and 8 validation images, the median 100 x 80 px\n2 classes in training: " in printed
    assert " training: cat 24, dog 24\n" in printed
    assert "\nbatch_size 3: so that 24 training images make 8 steps; the recipe has 8" in printed
    card = Path("params.yaml").read_text().partition("\ndata:")[0]
    assert all(f"#   {line}" in card for line in printed.splitlines()[1:-1])


def test_splits_that_share_a_folder_of_images_are_counted_by_their_annotations(
        project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path / "data", "coco")
    (data / "images").mkdir()
    for image in data.rglob("*.jpg"):
        image.rename(data / "images" / image.name)
    assert main(["init", str(data), *SPEED]) == 0
    assert "coco, 24 training and 8 validation images" in capsys.readouterr().out
    assert summary(manifest_of(data), 1).startswith("download: local (coco), 32 images, ")


def test_many_small_objects_take_the_recipe_for_them(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(dataset(tmp_path / "data", "yolo", SMALL)), *SPEED]) == 0
    assert "recipe small-objects: 50% of the objects are narrower or lower than 4% of the image" in capsys.readouterr().out
    assert "written to params.yaml" not in Path("params.yaml").read_text()
    assert main(["init", str(tmp_path / "data"), *SPEED, "--recipe", "coco2017", "--force"]) == 0
    assert (params()["train"]["lr"], params()["data"]["source"]) == (0.001, "local")


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_data_without_a_validation_split_get_one(project: Path, tmp_path: Path, form: str,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(unsplit(tmp_path / "data", form)), *SPEED]) == 0
    assert params()["data"]["val_fraction"] == 0.2
    printed = capsys.readouterr().out
    assert "val_fraction 0.2: the data have no validation split" in printed
    assert " of 30 images become one" in printed


def test_a_class_without_objects_is_left_out(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Roboflow's COCO files declare the group of the classes as a class of its own."""
    for split, first in (("train", 0), ("val", 24)):
        images = rows(tmp_path / "images", first, 8)
        (tmp_path / "data" / split).mkdir(parents=True)
        for row in images:
            shutil.copy(row["file"], tmp_path / "data" / split)
        write_coco(tmp_path / "data", split, images, ["animals", "cat", "dog"])
    assert main(["init", str(tmp_path / "data"), *SPEED]) == 0
    assert params()["data"]["classes"] == ["cat", "dog"]
    assert "classes [cat, dog]: no training image shows animals" in capsys.readouterr().out


def test_what_is_saved_nowhere_else_is_not_overwritten(project: Path, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    data = str(dataset(tmp_path / "data", "voc"))
    changed = Path("params.yaml").read_text().replace("seed: 1 ", "seed: 7 ").replace("  downloads: 4", "  downloads: 9")
    Path("params.yaml").write_text(changed)
    assert main(["init", data, *SPEED]) == 1
    assert "ERROR params.yaml: has changes that neither git's last commit nor recipes/ has" in capsys.readouterr().err
    assert main(["init", data, *SPEED, "--dry-run"]) == 0
    assert "epochs 19" in capsys.readouterr().out
    assert Path("params.yaml").read_text() == changed
    assert main(["init", data, *SPEED, "--force"]) == 0
    assert (params()["train"]["seed"], params()["runtime"]["downloads"]) == (7, 9)  # these two do not depend on the data


@pytest.mark.parametrize("saved", ["recipe", "commit", "missing"])
def test_what_is_saved_elsewhere_is_overwritten(project: Path, tmp_path: Path, saved: str) -> None:
    if saved == "recipe":
        shutil.copy("recipes/classic-ssd300.yaml", "params.yaml")
    elif saved == "commit":
        Path("params.yaml").write_text(Path("params.yaml").read_text().replace("seed: 1 ", "seed: 2 "))
        git(project, "commit", "--quiet", "--all", "--message=mine")
    else:
        Path("params.yaml").unlink()
    assert main(["init", str(dataset(tmp_path / "data", "voc")), *SPEED]) == 0
    assert params()["train"]["epochs"] == 19


def test_data_that_cannot_be_used_are_an_error_that_says_what_to_do(project: Path, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    rows(tmp_path / "photos", 0, 3)
    without = dataset(tmp_path / "without", "voc", ())
    broken = dataset(tmp_path / "broken", "voc")
    for path in broken.rglob("*.xml"):
        path.write_text("<annotation>")
    for path, text in ((tmp_path / "none", "there is no such folder or zip file"), (tmp_path / "empty", "no dataset in it"),
                       (tmp_path / "photos", "no dataset in it"), (without, "no object in the labels of the training images"),
                       (broken, "24 label files cannot be read; the first: ")):
        assert main(["init", str(path), *SPEED]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"ERROR {path}: ")
        assert text in error
    assert Path("params.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_another_folder_than_the_root_of_a_clone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "data"]) == 1
    assert "Run `ssd init` in the root of a clone" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a: b", "yes", "1e3", "it's", "x # y", "ä\u200d[1]", "\U0001f600\u2028", "a\\b\"c\udcff"])
def test_any_name_survives_the_file(project: Path, tmp_path: Path, name: str) -> None:
    data = dataset(tmp_path / name, "voc")
    assert main(["init", str(data), *SPEED]) == 0
    assert params()["data"]["paths"] == [str(data)]


@pytest.mark.slow
def test_the_pipeline_trains_after_init(tmp_path: Path) -> None:
    clone = make_clone(tmp_path / "clone")
    data = dataset(tmp_path / "data", "yolo", count=6)
    done = run(clone, sys.executable, "-m", "ssd_lib", "init", str(data), "--minutes", "0.001")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epochs 1: " in done.stdout
    done = dvc(clone, "repro", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (clone / "models" / "ssd.pt").is_file()
    assert (clone / "data" / "fixed" / "labels.txt").read_text() == "BACKGROUND\ncat\ndog\n"


def test_labels_that_cannot_be_read_are_told(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path / "data", "yolo")
    labels = next(data.rglob("0.txt"))
    labels.write_text("0 0.5 0.4 zz 0.1\n")
    assert main(["init", str(data), *SPEED, "--dry-run"]) == 0
    printed = "".join(capsys.readouterr())
    assert "1 label file cannot be read, so that the objects there are not counted; the first: " in printed
    assert "0.txt: line 1 has 'zz'" in printed


def test_a_folder_without_a_dataset_is_told_before_params_that_would_be_lost(
        project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text("mine: 1\n")
    (tmp_path / "photos").mkdir()
    assert main(["init", str(tmp_path / "photos"), *SPEED]) == 1
    assert "photos: " in capsys.readouterr().err
