"""Manifest: saving, loading, errors, and paths of images."""

from pathlib import Path

import pytest

from ssd_lib.errors import InputError, StateError
from ssd_lib.manifest import Manifest, Part, load_manifest, name_below

MANIFEST = Manifest(
    source="local", root="set",
    splits={"train": (Part(images="train2017", annotations="a.json"),), "val": (Part(images="", annotations="b.json"),)},
    files={"train2017/2.jpg": (2, "bb"), "train2017/1.jpg": (1, "aa"), "a.json": (3, "cc"), "b.json": (4, "dd"),
           "3.jpg": (5, "ee")},
)


def test_a_saved_manifest_is_loaded_unchanged(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path / "m.json")
    assert load_manifest(tmp_path / "m.json") == MANIFEST


def test_the_order_of_the_files_does_not_change_the_bytes(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path / "a")
    MANIFEST.model_copy(update={"files": dict(reversed(MANIFEST.files.items()))}).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_images_are_looked_up_in_the_main_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", "/main")
    assert MANIFEST.path("3.jpg") == Path("/main/data/raw/set/3.jpg")
    monkeypatch.delenv("DVC_ROOT")
    assert MANIFEST.path("3.jpg") == Path("data/raw/set/3.jpg")


def test_a_local_root_is_absolute() -> None:
    assert MANIFEST.model_copy(update={"root": "/my/data"}).path("3.jpg") == Path("/my/data/3.jpg")


def test_images_of_a_split_do_not_include_its_annotations() -> None:
    assert list(MANIFEST.images("train")) == ["train2017/2.jpg", "train2017/1.jpg"]


def test_a_split_of_a_shared_annotation_file_has_only_its_own_images() -> None:
    part = Part(images="train2017", annotations="a.json", only=("./1.jpg",))
    assert list(MANIFEST.model_copy(update={"splits": {"val": (part,)}}).images("val")) == ["train2017/1.jpg"]


@pytest.mark.parametrize(("name", "expected"), [
    ("1.jpg", "train2017/1.jpg"), ("./1.jpg", "train2017/1.jpg"), (".//1.jpg", "train2017/1.jpg"),
    (".\\1.jpg", "train2017/1.jpg"), ("sub\\a.jpg", "train2017/sub/a.jpg"), ("one\\name.jpg", "train2017/one\\name.jpg")])
def test_names_in_annotations_are_found_in_all_spellings(name: str, expected: str) -> None:
    assert name_below("train2017", name, {*MANIFEST.files, "train2017/one\\name.jpg"}) == expected


def test_a_missing_manifest_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="dvc repro download"):
        load_manifest(tmp_path / "m.json")


def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(InputError, match="not a manifest"):
        load_manifest(tmp_path / "m.json")
