"""The stage on real images: no fault in sound data, every fault in damaged data, and no input is changed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support import project
from support.folders import plant, run
from support.label_sets import add_image, manifest_of

from ssd_lib.errors import InputError
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part
from ssd_lib.params import DataParams, RuntimeParams
from ssd_lib.validation.validate import validate


def data_params(max_bad_fraction: float) -> DataParams:
    return project.data_params(max_bad_fraction=max_bad_fraction)


def runtime(workers: int) -> RuntimeParams:
    return RuntimeParams.model_construct(workers=workers)


def first_images(manifest: Manifest, count: int) -> list[str]:
    return sorted(manifest.images("train"))[:count]


def edit_annotations(manifest: Manifest, changes: dict[int, dict[str, Any]]) -> list[int]:
    """Change train annotations by their index; return their ids."""
    path = manifest.path(manifest.splits["train"][0].annotations)
    tree = json.loads(path.read_text(encoding="utf-8"))
    for at, change in changes.items():
        tree["annotations"][at].update(change)
    path.write_text(json.dumps(tree), encoding="utf-8")
    return [tree["annotations"][at]["id"] for at in changes]


def by_kind(report: dict[str, Any]) -> dict[str, list[str]]:
    return {fault["kind"]: fault["first"] for fault in report["faults"]}


def test_real_images_have_no_faults(mirror: Manifest, tmp_path: Path) -> None:
    report = validate(mirror, data_params(0), runtime(2), tmp_path / "report.json")
    assert (report["faults"], report["unreadable"], report["warnings"]) == ([], [], 0)
    assert (report["images"], report["boxes"], report["crowds"]) == (184, 1520, 17)
    assert [row["split"] for row in report["splits"]] == ["train", "val", "test"]


def test_the_same_files_give_the_same_report_bytes(mirror: Manifest, tmp_path: Path) -> None:
    small = mirror.model_copy(update={"splits": {"test": mirror.splits["test"]}})
    for name in ("a", "b"):
        validate(small, data_params(0), runtime(0), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_broken_files_are_all_found_named_and_untouched(copy: Manifest, tmp_path: Path) -> None:
    names = first_images(copy, 5)
    sound = copy.path(names[0]).read_bytes()
    copy.path(names[0]).write_bytes(sound[:9000])
    copy.path(names[1]).write_bytes(b"")
    copy.path(names[2]).write_bytes(b"<html>gone</html>")
    copy.path(names[3]).unlink()
    copy.path(names[4]).write_bytes(sound)
    copy.path("train2017/extra.jpg").write_bytes(sound)
    before = {file: sha256(file) for file in copy.path("").rglob("*") if file.is_file()}
    report = validate(copy, data_params(1), runtime(0), tmp_path / "report.json")
    assert {file: sha256(file) for file in copy.path("").rglob("*") if file.is_file()} == before
    found = by_kind(report)
    assert {kind: len(texts) for kind, texts in found.items()} == {
        "truncated": 1, "empty": 1, "not_an_image": 1, "missing": 1, "size_differs": 1, "changed": 3, "orphan": 1}
    assert found["empty"] == [f"{names[1]}: 0 bytes"]
    assert found["orphan"] == ["train2017/extra.jpg: no annotation file lists it"]
    assert (report["unreadable"], report["bad_images"], report["warnings"]) == (names, 5, 1)


def test_broken_annotations_are_found_by_id(copy: Manifest, tmp_path: Path) -> None:
    changes: dict[int, dict[str, Any]] = {
        0: {"bbox": [1, 1, 0, 9]}, 1: {"bbox": [5, 5, float("nan"), 9]}, 2: {"category_id": 12}}
    ids = edit_annotations(copy, changes)
    report = validate(copy, data_params(1), runtime(0), tmp_path / "report.json")
    found = by_kind(report)
    assert report["bad_boxes"] == 3
    for number, kind in zip(ids, ("zero_size", "non_finite", "unknown_category"), strict=True):
        assert f"train: annotation {number} of 'train2017/" in found[kind][0]


def test_the_first_size_of_an_image_listed_twice_is_used(copy: Manifest, tmp_path: Path) -> None:
    path = copy.path(copy.splits["train"][0].annotations)
    tree = json.loads(path.read_text(encoding="utf-8"))
    tree["images"].append({**tree["images"][0], "id": 1, "width": 9})
    path.write_text(json.dumps(tree), encoding="utf-8")
    report = validate(copy, data_params(1), runtime(0), tmp_path / "report.json")
    assert set(by_kind(report)) == {"duplicate_file_name", "changed_labels"}
    assert by_kind(report)["duplicate_file_name"] == [
        f"train2017/{tree['images'][0]['file_name']}: listed twice, with ids {tree['images'][0]['id']} and 1"]


def test_too_many_bad_images_fail_after_the_report_is_written(copy: Manifest, tmp_path: Path) -> None:
    name, *_ = names = first_images(copy, 6)
    for one in names:
        copy.path(one).write_bytes(b"")
    message = rf"6 of 80 images are bad \(7\.5%\); `data\.max_bad_fraction` allows 0\.1%.*\n  empty \(6\): {name}: 0 b"
    with pytest.raises(InputError, match=message):
        validate(copy, data_params(0.001), runtime(0), tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_bytes())["unreadable"] == names
    assert validate(copy, data_params(0.075), runtime(0), tmp_path / "report.json")["bad_images"] == 6


def test_a_few_bad_images_of_a_small_set_stop_nothing_unless_none_is_allowed(copy: Manifest, tmp_path: Path) -> None:
    for one in first_images(copy, 5):
        copy.path(one).write_bytes(b"")
    assert validate(copy, data_params(0.001), runtime(0), tmp_path / "report.json")["bad_images"] == 5
    with pytest.raises(InputError, match=r"5 of 80 images are bad .*or set `data\.max_bad_fraction` to 0\.07 to train"):
        validate(copy, data_params(0), runtime(0), tmp_path / "report.json")


@pytest.mark.parametrize(("content", "cause"), [
    (b"0 0,5 0,5 0,1 0,1\n", r"a\.txt: line 1 has '0,5';"), (b"cat 0.5 0.5 0.1 0.1\n", r"a\.txt: line 1 has 'cat';"),
    (b"\xe4 0.5 0.5 0.1 0.1", r"a\.txt: line 1 has the byte 0xe4"), (b"0;0.5;0.5;0.1;0.1", r"a\.txt: line 1 has "
                                                                                                        r"1 v")])
def test_where_every_label_file_is_broken_the_cause_comes_first(tmp_path: Path, content: bytes, cause: str) -> None:
    parts = {}
    for split in ("train", "val"):
        add_image(tmp_path, f"{split}/a.png", (60, 40))
        (tmp_path / split / "a.txt").write_bytes(content)
        parts[split] = Part(format="yolo", pairs={f"{split}/a.png": f"{split}/a.txt"}, class_names={"0": "cat"})
    with pytest.raises(InputError, match=rf"report\.json: train/{cause}.* 2 label files cannot be read, so there are no "
                                         rf"objects in"):
        validate(manifest_of(tmp_path, **parts), data_params(0.01), runtime(0), tmp_path / "r" / "report.json")
    assert re.search(rf"^\*\*Stopped: train/{cause}", (tmp_path / "r" / "validation.md").read_text().splitlines()[2])

def test_too_many_bad_boxes_fail(copy: Manifest, tmp_path: Path) -> None:
    number, = edit_annotations(copy, {7: {"bbox": [1, 1, 9, -9]}})
    with pytest.raises(InputError, match=rf"1 of 705 boxes are bad .*\n  inverted \(1\): train: annotation {number} "):
        validate(copy, data_params(0), runtime(0), tmp_path / "report.json")


def write_coco(root: Path, train: list[str], val: list[str]) -> Manifest:
    """Write an image with one object of each of these classes, in both splits."""
    for split, names in (("train", train), ("val", val)):
        add_image(root, f"{split}/a.jpg", (60, 40))
        (root / f"{split}.json").write_text(json.dumps({
            "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
            "annotations": [{"id": at, "image_id": 1, "category_id": at, "bbox": [1, 1, 9, 9]}
                            for at in range(1, len(names) + 1)],
            "categories": [{"id": at, "name": name} for at, name in enumerate(names, 1)]}))
    return manifest_of(root, **{split: Part(images=split, annotations=f"{split}.json") for split in ("train", "val")})


def test_different_classes_under_one_id_are_refused_before_an_image_is_read(tmp_path: Path) -> None:
    manifest = write_coco(tmp_path, ["cat", "dog"], ["dog", "cat"])
    with pytest.raises(InputError, match="id 1 is 'cat' in train and 'dog' in val"):
        validate(manifest, data_params(1), runtime(0), tmp_path / "report.json")


def test_names_that_differ_in_capitals_between_train_and_val_are_reported(tmp_path: Path) -> None:
    manifest = write_coco(tmp_path, ["traffic light"], ["traffic light", "Traffic_Light"])
    found = by_kind(validate(manifest, data_params(1), runtime(0), tmp_path / "report.json"))
    assert found["similar_category_names"] == [
        "classes 'traffic light' and 'Traffic_Light' differ only in capitals, spaces or punctuation"]


def test_labels_that_changed_after_the_download_are_reported(copy: Manifest, tmp_path: Path) -> None:
    edit_annotations(copy, {0: {"iscrowd": 0}})
    report = validate(copy, data_params(0), runtime(0), tmp_path / "report.json")
    assert by_kind(report)["changed_labels"][0].startswith(
        "train: 'annotations/instances_train2017.json' differs from the file that the manifest lists. `dvc repro --force")


def test_a_split_of_crowds_alone_is_refused(copy: Manifest, tmp_path: Path) -> None:
    path = copy.path(copy.splits["train"][0].annotations)
    tree = json.loads(path.read_text(encoding="utf-8"))
    crowds = [row for row in tree["annotations"] if row["iscrowd"]]
    path.write_text(json.dumps({**tree, "annotations": crowds}), encoding="utf-8")
    with pytest.raises(InputError, match="train has 80 images and 6 boxes, all of them crowds; train and val need at"):
        validate(copy, data_params(0), runtime(0), tmp_path / "validation.json")
    assert "Stopped: no objects in train" in (tmp_path / "validation.html").read_text(encoding="utf-8")


def test_label_files_of_no_image_stop_and_images_without_one_are_reported(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        add_image(tmp_path, f"images/{number}.png", (9 + number, 9))
    labels = {f"labels/{number}.txt": "0 0.5 0.5 0.2 0.2\n" for number in (0, 1, 2, 3)}
    plant(tmp_path, texts={"classes.txt": "a\n", "labels/far.txt": "0 0.5 0.5 0.2 0.2\n", **labels})
    path = tmp_path / "report" / "validation.json"
    with pytest.raises(InputError, match=r"1 of 5 label files are used by no image, the first is labels/far.txt.*to 0.21"):
        validate(run(tmp_path), data_params(0.1), runtime(0), path)
    assert "Stopped: 1 of 5 label files" in path.with_suffix(".md").read_text()
    assert "4 of 8 images that have no label file" in caplog.text
    assert validate(run(tmp_path), data_params(0.3), runtime(0), path)["boxes"] == 4


def test_images_of_classes_that_are_not_listed_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split, classes in (("train", "010"), ("val", "0")):
        for number, label in enumerate(classes):
            add_image(tmp_path, f"images/{split}/{number}.png", (9 + number, 9))
            plant(tmp_path, texts={f"labels/{split}/{number}.txt": f"{label} 0.5 0.5 0.2 0.2\n"})
    plant(tmp_path, texts={"classes.txt": "cat\ndog\n"})
    path = tmp_path / "report" / "validation.json"
    report = validate(run(tmp_path, classes=["cat"]), data_params(0), runtime(0), path)
    assert report["images"] == 3
    assert "1 of 4 images whose objects are all of classes that data.classes does not list" in caplog.text
    assert "images/train/1.png" in caplog.text
    assert "1 of 4 images whose objects" in path.with_suffix(".md").read_text()
