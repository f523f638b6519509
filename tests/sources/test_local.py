"""Claims about data sets of the user's own: found where people put them, never guessed, never touched."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Split
from ssd_lib.params import DataParams, RuntimeParams
from ssd_lib.sources.local import local

RUNTIME = RuntimeParams(device="cpu", workers=0, processes=1, downloads=1, keep_runs=20, keep_days=30)


def run(path: Path | str) -> Manifest:
    data = DataParams(source="local", format="coco", paths=[str(path)], base_url="http://x", splits=["train", "val"],
                      demo_images=(4, 4), max_bad_fraction=0)
    return local(data, RUNTIME)


def put(root: Path, annotations: str, images: str, *names: str) -> None:
    """An annotation file that lists the names, and an image for each."""
    document = {"images": [{"id": number, "file_name": name} for number, name in enumerate(names)]}
    (root / annotations).parent.mkdir(parents=True, exist_ok=True)
    (root / annotations).write_text(json.dumps(document))
    for name in names:
        path = root / images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


LAYOUTS = {
    "COCO": [("annotations/instances_train2017.json", "train2017"), ("annotations/instances_val2017.json", "val2017")],
    "Roboflow": [("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "valid")],
    "CVAT": [("annotations/instances_train.json", "images/train"),
             ("annotations/instances_validation.json", "images/validation")],
    "one image folder": [("annotations/train.json", "images"), ("annotations/val.json", "images")],
    "all in the root": [("train.json", ""), ("val.json", "")],
    "beside the annotations": [("annotations/instances_train.json", "annotations"),
                               ("annotations/instances_val.json", "annotations")],
    "annotations in the root": [("instances_train_v2.json", "train_v2"), ("instances_val_v2.json", "val_v2")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised(tmp_path: Path, layout: str) -> None:
    for number, (annotations, images) in enumerate(LAYOUTS[layout]):
        put(tmp_path, annotations, images, f"{number}a.jpg", f"{number}b.png")
    manifest = run(tmp_path)
    expected = {split: Split(images=images, annotations=annotations)
                for split, (annotations, images) in zip(("train", "val"), LAYOUTS[layout], strict=True)}
    assert manifest.splits == expected
    assert Path(manifest.root) == tmp_path.resolve()
    assert len(manifest.files) == 6
    for name, row in manifest.files.items():
        content = manifest.path(name).read_bytes()
        assert row == (len(content), hashlib.sha256(content).hexdigest())


def put_coco(root: Path) -> None:
    for annotations, images in LAYOUTS["COCO"]:
        put(root, annotations, images, "a.jpg", "b.jpg")


def test_real_photographs_are_listed(shared_data: Path, tmp_path: Path) -> None:
    for name in ("zips/val2017.zip", "zips/train2017.zip", "annotations/annotations_trainval2017.zip"):
        zipfile.ZipFile(shared_data / "coco-mirror" / name).extractall(tmp_path)
    manifest = run(tmp_path)
    assert {split: len(manifest.images(split)) for split in manifest.splits} == {"train": 80, "val": 80}


def test_the_same_files_give_the_same_manifest(tmp_path: Path) -> None:
    put_coco(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(tmp_path).model_dump_json() == run(tmp_path).model_dump_json()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_orphans_are_listed_and_other_files_are_not(tmp_path: Path) -> None:
    put_coco(tmp_path)
    for name in ("orphan.jpg", "deeper/orphan.PNG", "README.txt", "notes.json"):
        (tmp_path / "train2017" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "train2017" / name).write_bytes(b"")
    assert sorted(run(tmp_path).images("train")) == [
        "train2017/a.jpg", "train2017/b.jpg", "train2017/deeper/orphan.PNG", "train2017/orphan.jpg",
    ]


def test_an_image_with_any_suffix_counts_when_it_is_annotated(tmp_path: Path) -> None:
    put_coco(tmp_path)
    put(tmp_path, "annotations/instances_train2017.json", "train2017", "a.jpg", "photo")
    assert "train2017/photo" in run(tmp_path).images("train")


def test_missing_images_do_not_hide_the_folder(tmp_path: Path) -> None:
    put_coco(tmp_path)
    (tmp_path / "train2017/a.jpg").unlink()
    assert list(run(tmp_path).images("train")) == ["train2017/b.jpg"]  # validate reports the other one


def test_other_annotations_of_coco_do_not_confuse(tmp_path: Path) -> None:
    put_coco(tmp_path)
    for name in ("captions_train2017", "person_keypoints_val2017", "instances_trainval2017"):
        (tmp_path / f"annotations/{name}.json").write_text("{}")
    assert run(tmp_path).splits["train"].annotations == "annotations/instances_train2017.json"


def test_a_relative_path_starts_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_coco(tmp_path / "my data")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert Path(run("my data").root) == (tmp_path / "my data").resolve()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_coco(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Path(run("~/data").root) == (tmp_path / "data").resolve()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.paths: .*nowhere is not a folder"):
        run(tmp_path / "nowhere")


def test_nothing_found_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "train.json", "", "a.jpg")
    (tmp_path / "testing.json").touch()
    with pytest.raises(InputError, match=r"no annotation files for val; one is needed\. Looked for") as caught:
        run(tmp_path)
    assert "instances_val|valid|validation*.json, " in str(caught.value)
    assert "; there are a.jpg, testing.json, train.json. Move" in str(caught.value)


def test_two_annotation_files_for_a_split_are_both_named(tmp_path: Path) -> None:
    put_coco(tmp_path)
    put(tmp_path, "train.json", "", "c.jpg")
    with pytest.raises(InputError, match=r"2 annotation files for train; .*found annotations/instances_train2017"):
        run(tmp_path)


def test_two_image_folders_for_a_split_are_both_named(tmp_path: Path) -> None:
    put_coco(tmp_path)
    put(tmp_path, "annotations/instances_train2017.json", "images", "a.jpg", "b.jpg")
    with pytest.raises(InputError, match=r"2 folders with the images of .*found train2017, images\. "):
        run(tmp_path)


def test_images_that_are_nowhere_are_named(tmp_path: Path) -> None:
    put_coco(tmp_path)
    (tmp_path / "val2017").rename(tmp_path / "pictures")
    with pytest.raises(InputError, match=r"no folders with the images of .*/instances_val2017\.json \(such as 'a"):
        run(tmp_path)


@pytest.mark.parametrize("name", ["/etc/hostname", "../train2017/a.jpg"])
def test_a_file_name_that_leaves_its_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    put_coco(tmp_path)
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps({"images": [{"file_name": name}]}))
    with pytest.raises(InputError, match="1 images, none of them with a relative file_name"):
        run(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{}]}', '{"images": 3}', "\x00"])
def test_what_is_no_coco_file_is_named(tmp_path: Path, text: str) -> None:
    put_coco(tmp_path)
    (tmp_path / "annotations/instances_train2017.json").write_text(text)
    with pytest.raises(InputError, match=r"instances_train2017\.json: not an annotation file in COCO form"):
        run(tmp_path)
