"""The comparison of accuracy: its data, the epochs for a budget, and its table."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from benchmarks.accuracy import __main__ as accuracy
from benchmarks.accuracy.cases import parse_settings
from benchmarks.accuracy.data import (
    Split,
    as_val,
    first_images,
    load_split,
    measure,
    prepare,
    read_detections,
    view_of_test,
    write_part,
    yolo_lines,
)
from benchmarks.accuracy.report import table
from benchmarks.accuracy.torchvision_reference import learning_rate
from benchmarks.coco_numbers import make_split
from ssd_lib.annotations.fixed_set import FixedSet


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Return a dataset of six images in VOC format, two for each of train, val and test, each with a bright square."""
    root = tmp_path / "six"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for number in range(6):
        image = np.zeros((64, 96, 3), dtype=np.uint8)
        image[10:40, 20:60] = 200 + number
        cv2.imwrite(str(root / f"JPEGImages/{number}.jpg"), image)
        (root / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename><size><width>96</width><height>64</height><depth>3</depth></size>"
            "<object><name>square</name><bndbox><xmin>21</xmin><ymin>11</ymin><xmax>60</xmax><ymax>40</ymax></bndbox></object>"
            "</annotation>")
    for split, rows in (("train", "0\n1\n"), ("val", "2\n3\n"), ("test", "4\n5\n")):
        (root / f"ImageSets/Main/{split}.txt").write_text(rows)
    return root


def tiny_fixed() -> FixedSet:
    """Return two images of 100 x 50 px, the first with an object and a crowd, the second with an object."""
    boxes = np.array([[10, 10, 30, 20], [0, 0, 5, 5], [50, 25, 100, 50]], dtype=np.float32)
    return FixedSet(("a", "b"), (1, 2), np.array([1, 2]), np.frombuffer(b"xy", dtype=np.uint8), np.array([0, 1, 2]),
                    np.array([[50, 100], [50, 100]]), np.array([0, 2, 3]), boxes, np.array([1, 1, 2]),
                    np.array([False, True, False]))


def test_objects_read_back_as_detections_give_an_ap_of_one() -> None:
    truth, fixed, _ = make_split(images=6, per_image=1)
    index = {image["id"]: number for number, image in enumerate(truth["images"])}
    rows = [{"image_id": f"{index[one['image_id']]:06d}", "category_id": one["category_id"], "bbox": one["bbox"], "score": 0.9}
            for one in reversed(truth["annotations"]) if not one["iscrowd"]]
    metrics = measure(Split(fixed, [], truth), read_detections(rows, images=6, classes=80))
    assert metrics["AP50"] == pytest.approx(1)
    assert [value for value in metrics["class_AP50"].values() if value is not None] == pytest.approx([1] * len(
        {one["category_id"] for one in rows}))


@pytest.mark.parametrize(("image", "label"), [(2, 1), (-1, 1), (0, 0), (0, 3)])
def test_a_detection_of_no_image_or_class_is_refused(image: int, label: int) -> None:
    row = {"image_id": image, "category_id": label, "bbox": [0, 0, 1, 1], "score": 1}
    with pytest.raises(ValueError, match="must be in 0 to 1 and 1 to 2"):
        read_detections([row], images=2, classes=2)


def test_detections_read_back_are_sorted_by_image() -> None:
    rows = [{"image_id": image, "category_id": 1, "bbox": [0, 0, 1, 1], "score": score}
            for image, score in ((1, 0.9), (0, 0.8), (1, 0.7))]
    found = read_detections(rows, images=2, classes=1)
    assert (found.images.tolist(), found.scores.tolist()) == ([0, 1, 1], [0.8, 0.9, 0.7])


def test_no_detections_are_an_ap_of_zero() -> None:
    truth, fixed, _ = make_split(images=2, per_image=1)
    assert measure(Split(fixed, [], truth), read_detections([], images=2, classes=80))["AP"] == 0


def test_yolo_lines_are_centres_and_sides_without_crowds() -> None:
    assert list(yolo_lines(tiny_fixed(), 0)) == ["0 0.200000 0.300000 0.200000 0.200000\n"]
    assert list(yolo_lines(tiny_fixed(), 1)) == ["1 0.750000 0.750000 0.500000 0.500000\n"]


def test_the_first_images_have_their_own_boxes() -> None:
    part = first_images(replace(tiny_fixed()), 1)
    assert len(part) == 1
    assert part.labels.tolist() == [1, 1]
    assert part.file_name(0) == "x"


@pytest.mark.parametrize(("names", "renamed"), [
    (["a/ImageSets/Main/test.txt", "a/ImageSets/Main/val.txt", "a/ImageSets/Main/train.txt", "a/JPEGImages/test_1.jpg"],
     ["a/ImageSets/Main/val.txt", "a/ImageSets/Main/train.txt", "a/JPEGImages/test_1.jpg"]),
    (["annotations/instances_test2017.json", "annotations/instances_val2017.json", "test2017/1.jpg", "val2017/2.jpg"],
     ["annotations/instances_val2017.json", "val2017/1.jpg"]),
    (["images/test/1.jpg", "labels/test/1.txt", "labels/valid/2.txt", "labels/train/test.txt", "contest/3.jpg"],
     ["images/val/1.jpg", "labels/val/1.txt", "labels/train/test.txt", "contest/3.jpg"]),
])
def test_files_of_test_take_the_place_of_val(names: list[str], renamed: list[str]) -> None:
    assert [new for _, new in as_val(names)] == renamed


def test_the_test_of_a_yaml_file_becomes_val(tmp_path: Path) -> None:
    (tmp_path / "in/images").mkdir(parents=True)
    (tmp_path / "in/images/1.jpg").write_bytes(b"1")
    (tmp_path / "in/data.yaml").write_text("train: a\nval: b\ntest: c\n")
    assert view_of_test(tmp_path / "in", tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text()) == {"train": "a", "val": "c"}
    assert (tmp_path / "out/images/1.jpg").read_bytes() == b"1"
    assert "test" in (tmp_path / "in/data.yaml").read_text(), "the dataset must stay as it is"


def test_a_dataset_without_test_has_no_view(tmp_path: Path) -> None:
    (tmp_path / "in/images/train").mkdir(parents=True)
    (tmp_path / "in/images/train/1.jpg").write_bytes(b"1")
    assert not view_of_test(tmp_path / "in", tmp_path / "out")


def test_two_short_trainings_give_start_and_epoch() -> None:
    speed = accuracy.speed_of(short_s=15, long_s=35, share=0.5)  # 5 s and 10 s for each epoch of half of the images
    assert speed == {"start_s": 5, "epoch_s": 20}
    assert accuracy.epochs_of(125, speed) == 6
    assert accuracy.epochs_of(124, speed) == 5
    assert accuracy.epochs_of(1, speed) == 1


def test_a_longer_training_that_was_quicker_gives_no_endless_epochs() -> None:
    speed = accuracy.speed_of(short_s=20, long_s=19, share=1)
    assert speed["epoch_s"] > 0
    assert speed["start_s"] < 20


def test_the_rate_of_torchvision_rises_and_falls() -> None:
    assert learning_rate(1, 0, 4, 0, 11) == pytest.approx(1e-3)
    assert learning_rate(1, 0, 4, 10, 11) == 1
    assert learning_rate(1, 2, 4, 0, 11) == pytest.approx(0.5)
    assert learning_rate(1, 3, 4, 5, 11) == pytest.approx((1 - math.sqrt(0.5)) / 2)


def row(case: str, seed: int, ap50: float, minutes: float = 12, b: float | None = 0.5) -> dict[str, Any]:
    metrics = {"AP50": ap50, "AP": ap50 / 2, "AP75": ap50 / 4, "class_AP50": {"a": ap50, "b": b}}
    return {"case": case, "recipe": "r", "start": "s", "seed": seed, "epochs": 20 + seed, "minutes": minutes,
            "parameters": 2_345_678, "metrics": metrics}


def test_the_table_has_means_spreads_and_the_best_first() -> None:
    lines = table([row("one", 1, 0.2, b=None), row("two", 1, 0.4, 11), row("two", 2, 0.6, 13)]).splitlines()
    assert lines[0] == "| case | recipe | start | seeds | passes | minutes | AP50 | AP | AP75 | AP50 a | AP50 b | parameters |"
    assert lines[2] == ("| two | r | s | 2 | 21 to 22 | 12.0 (11.0 to 13.0) | 0.500 (0.400 to 0.600) | "
                        "0.250 (0.200 to 0.300) | 0.125 (0.100 to 0.150) | 0.500 (0.400 to 0.600) | "
                        "0.500 (0.500 to 0.500) | 2.35 M |")
    assert lines[3] == "| one | r | s | 1 | 21 | 12.0 | 0.200 | 0.100 | 0.050 | 0.200 | undefined | 2.35 M |"


def test_the_table_leaves_out_the_classes_if_there_are_many() -> None:
    many = {f"class {number}": 0.5 for number in range(11)}
    one = row("one", 1, 0.2)
    assert "class 3" not in table([{**one, "metrics": {**one["metrics"], "class_AP50": many}}])


def test_settings_are_groups_of_values() -> None:
    assert parse_settings(["train.lr=0.01", "train.ema_decay=0", "model.net=mb2-fpn"]) == {
        "train": {"lr": 0.01, "ema_decay": 0}, "model": {"net": "mb2-fpn"}}
    with pytest.raises(ValueError, match=r"must look like train\.lr=0\.01"):
        parse_settings(["lr=0.01"])


@pytest.mark.parametrize(("words", "message"), [
    (["--cases", "our"], "'our' is no case; there are ours, "), (["--also", "x", "lr"], "'lr' is not a setting")])
def test_a_wrong_case_ends_in_a_message(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["accuracy", *words])
    with pytest.raises(SystemExit, match=message):
        accuracy.chosen_cases(accuracy.parse_arguments())


@pytest.mark.slow
def test_ours_is_trained_and_measured_on_test_once(voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [
        "accuracy", str(voc), "--passes", "1", "--threads", "1", "--out", str(tmp_path / "out"), "--cases", "small",
        "--also", "small", "model.net=mb2-ssd-lite", "model.image_size=64", "model.width_mult=0.25", "train.batch_size=2",
        "model.backbone_weights=none"])
    accuracy.main()
    result = tmp_path / "out/six/1-passes/small-1.json"
    found = json.loads(result.read_text())
    assert (found["split"], found["images"], found["epochs"]) == ("test", 2, 1)
    assert "| small |" in capsys.readouterr().out
    result.write_text(json.dumps({**found, "epochs": 77}))
    accuracy.main()
    assert "| 77 |" in capsys.readouterr().out, "a finished training must not be repeated"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "train.lr=0.1"])
    with pytest.raises(SystemExit, match="give another folder with --out"):
        accuracy.main()
    files = load_split(tmp_path / "out/six/test", "val").files
    assert sorted(file.name for file in files) == ["4.jpg", "5.jpg"]
    assert prepare(tmp_path / "out/six/data", voc)
    assert write_part(tmp_path / "out/six/data", tmp_path / "half", limit=1) == 0.5
    assert len(load_split(tmp_path / "half", "train").fixed) == 1
