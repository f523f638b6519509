"""Datasets of users: found where people put them, never guessed, never changed."""

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from support.folders import pairs, plant, run

from ssd_lib.download.download import summary
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, load_manifest

VOC = ("Annotations/a.xml", "Annotations/b.xml", "JPEGImages/a.jpg", "JPEGImages/b.jpg")
YOLO = ("images/train/a.jpg", "labels/train/a.txt", "images/val/b.jpg", "labels/val/b.txt")
COCO = {"train.json": '{"images": [{"file_name": "a.jpg"}]}', "val.json": '{"images": [{"file_name": "b.jpg"}]}'}
OPEN_IMAGES = ("train-annotations-bbox.csv", "validation-annotations-bbox.csv", "train/a.jpg", "validation/b.jpg")


@pytest.fixture(autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty project the current folder, so that nothing is unpacked into this one."""
    folder = tmp_path_factory.mktemp("project")
    monkeypatch.setenv("DVC_ROOT", str(folder))
    return folder


def plant_voc(root: Path, prefix: str = "") -> Path:
    return plant(root, *(prefix + name for name in VOC), texts={
        f"{prefix}ImageSets/Main/train.txt": "a\n", f"{prefix}ImageSets/Main/val.txt": "b\n"})


def plant_yolo(root: Path) -> Path:
    return plant(root, *YOLO, texts={"classes.txt": "cat\n"})


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as bundle:
        for path in sorted(folder.rglob("*")):
            bundle.write(path, path.relative_to(folder))
    return archive


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


def test_every_file_has_its_size_and_hash_in_the_order_of_the_names(tmp_path: Path) -> None:
    manifest = run(plant_voc(tmp_path / "set"))
    assert list(manifest.files) == sorted(VOC)
    for name, row in manifest.files.items():
        content = manifest.path(name).read_bytes()
        assert row == (len(content), hashlib.sha256(content).hexdigest())


def test_the_same_files_give_the_same_manifest_and_stay_as_they_are(tmp_path: Path) -> None:
    folders = [plant_voc(tmp_path / "voc"), plant_yolo(tmp_path / "yolo")]
    before = state(tmp_path)
    assert run(*folders).model_dump_json() == run(*folders).model_dump_json()
    assert state(tmp_path) == before


def test_an_image_without_objects_has_none_in_a_joined_set_either(tmp_path: Path) -> None:
    plant(plant_yolo(tmp_path / "yolo"), "images/train/empty.jpg")
    manifest = run(tmp_path / "yolo", plant_voc(tmp_path / "voc"))
    assert pairs(manifest)["train"]["yolo/images/train/empty.jpg"] == ""


def test_several_paths_are_joined_in_their_order(tmp_path: Path) -> None:
    manifest = run(plant_yolo(tmp_path / "a/yolo"), plant_voc(tmp_path / "voc"))
    assert Path(manifest.root) == tmp_path.resolve()
    for split, number in (("train", "a"), ("val", "b")):
        assert [part.format for part in manifest.splits[split]] == ["yolo", "voc"]
        assert list(pairs(manifest)[split].items()) == [
            (f"a/yolo/images/{split}/{number}.jpg", f"a/yolo/labels/{split}/{number}.txt"),
            (f"voc/JPEGImages/{number}.jpg", f"voc/Annotations/{number}.xml")]
    assert all(manifest.path(name).is_file() for name in manifest.files)
    assert set(manifest.files) >= {image for images in pairs(manifest).values() for image in images}


def test_all_four_formats_become_one_data_set(tmp_path: Path, shared_data: Path) -> None:
    for archive in ("zips/val2017.zip", "zips/train2017.zip", "annotations/annotations_trainval2017.zip"):
        zipfile.ZipFile(shared_data / "coco-mirror" / archive).extractall(tmp_path)
    manifest = run(tmp_path, *(shared_data / name for name in ("voc-bccd.zip", "yolo-coco36", "open-images-mini")))
    assert {split: len(manifest.images(split)) for split in manifest.splits} == {"train": 80 + 205 + 24 + 10,
                                                                                 "val": 80 + 87 + 12 + 4}
    assert all(manifest.path(name).is_file() for name in manifest.files)
    assert summary(manifest, 1).startswith("download: local (coco + voc + yolo + open_images), 319 + 183 images, ")


def test_a_format_can_be_named_for_each_path(tmp_path: Path) -> None:
    both = plant(plant_voc(tmp_path / "both"), *YOLO, texts={"classes.txt": "cat\n"})
    other = plant_voc(tmp_path / "other")
    manifest = run(both, other, format=["yolo", "auto"])
    assert [part.format for part in manifest.splits["train"]] == ["yolo", "voc"]
    assert [part.format for part in run(both, other, format="voc").splits["val"]] == ["voc", "voc"]


def test_several_formats_in_a_folder_are_named(tmp_path: Path) -> None:
    plant(plant_voc(tmp_path), *YOLO)
    with pytest.raises(InputError, match=r"looks like 2 formats, voc \(in .*\), yolo \(in .*Say which in data\.format"):
        run(tmp_path)


def test_sets_of_several_formats_beside_each_other_are_named(tmp_path: Path) -> None:
    plant_voc(tmp_path / "a")
    plant_yolo(tmp_path / "b")
    with pytest.raises(InputError, match=r"2 formats, voc \(in .*a\), yolo \(in .*b\); one is needed"):
        run(tmp_path)


def test_sets_of_one_format_beside_each_other_are_all_used(tmp_path: Path) -> None:
    plant_yolo(tmp_path / "2019")
    plant_yolo(tmp_path / "2020")
    assert list(pairs(run(tmp_path))["train"]) == ["2019/images/train/a.jpg", "2020/images/train/a.jpg"]


def test_no_format_found_says_what_each_looked_for_and_what_is_there(tmp_path: Path) -> None:
    plant(tmp_path, "notes.doc", "photos/a.jpg", ".hidden/x.xml")
    with pytest.raises(InputError) as caught:
        run(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path.resolve()}: no dataset in it, or at most 2 folders deeper; looked for"
    assert [line.split(":")[0] for line in lines[1:5]] == ["  coco", "  voc", "  yolo", "  open_images"]
    assert lines[5].startswith("  there are notes.doc, photos/. Correct data.paths")


@pytest.mark.parametrize(("name", "text", "tool", "export"), [
    ("annotations.xml", "<annotations>\n <version>1.1</version>\n <meta>\n  <task>", "CVAT for images", "COCO 1.0"),
    ("a.json", '{"version": "5.4.1", "flags": {}, "shapes": [{"label": "cat"}]}', "LabelMe", "COCO or YOLO"),
    ("via.json", '{"a.jpg-1": {"filename": "a.jpg", "regions": [], "file_attributes": {}}}', "VIA", "COCO"),
    ("via.csv", "#filename,file_size,file_attributes,region_count\n", "VIA", "COCO"),
    ("project.json", '[{"id": 1, "annotations": [{"completed_by": 1, "result": []}]}]', "Label Studio", "YOLO with images"),
    ("labels.json", '{"classes": ["cat"],"labels": {"a": [{"label": 0}]}}', "FiftyOne", "`fiftyone.types.COCO"),
    ("default.json", '{"dm_format_version": "1.0", "items": []}', "Datumaro", "COCO"),
    ("ann/a.jpg.json", '{"size": {}, "objects": [{"classId": 1}]}', "Supervisely", "COCO or YOLO"),
    ("train.csv", "\ufefffilename,width,height,class,xmin,ymin,xmax,ymax\n", "tables", "COCO, YOLO or Pascal VOC"),
])
def test_a_format_of_a_tool_is_named_with_what_to_export_instead(
        tmp_path: Path, name: str, text: str, tool: str, export: str) -> None:
    plant(tmp_path, "a.jpg", texts={name: text})
    with pytest.raises(InputError) as caught:
        run(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path.resolve() / name}: it is in the format of {tool}")
    assert f"as {export}" in message
    assert "\n" not in message


def test_a_named_format_looks_for_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"looked for\n  coco: .*\n  there are Annotations/, ImageSets/, JPEGImages/\."):
        run(plant_voc(tmp_path), format="coco")


@pytest.mark.parametrize(("names", "texts", "form"), [
    ((), COCO | {"a.jpg": "", "b.jpg": ""}, "coco"), (VOC, {}, "voc"), (YOLO, {"classes.txt": "cat"}, "yolo"),
    (OPEN_IMAGES, {"class-descriptions-boxable.csv": "/m/01,Cat"}, "open_images")])
def test_each_format_is_told_by_its_names_also_in_folders_around_it(
        tmp_path: Path, names: tuple[str, ...], texts: dict[str, str], form: str) -> None:
    plant(tmp_path / "set", *names, texts=texts)
    inner = run(tmp_path / "set")
    assert [part.format for part in inner.splits["train"]] == [form]
    (tmp_path / "set").rename(tmp_path / "moved")
    plant(tmp_path / "x", "LICENSE").joinpath("y").mkdir()
    (tmp_path / "moved").rename(tmp_path / "x/y/set")
    outer = run(tmp_path / "x")
    assert outer.files == {f"y/set/{name}": row for name, row in inner.files.items()}
    assert list(outer.images("val")) == [f"y/set/{name}" for name in inner.images("val")]


def test_what_is_hidden_or_of_macos_is_not_seen(tmp_path: Path) -> None:
    plant(plant_voc(tmp_path), ".ipynb_checkpoints/a.jpg", "__MACOSX/JPEGImages/a.jpg", "JPEGImages/._a.jpg", ".cache/b.json")
    assert list(run(tmp_path).files) == sorted(VOC)


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    plant_yolo(tmp_path / "disk")
    (tmp_path / "set").mkdir()
    try:
        (tmp_path / "set/images").symlink_to(tmp_path / "disk/images", target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links for us")
    (tmp_path / "disk/images/loop").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "disk/images/train/gone.jpg").symlink_to(tmp_path / "nowhere")
    shutil.copytree(tmp_path / "disk/labels", tmp_path / "set/labels")
    shutil.copy(tmp_path / "disk/classes.txt", tmp_path / "set")
    assert pairs(run(tmp_path / "set"))["train"] == {"images/train/a.jpg": "labels/train/a.txt"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes any bytes as a name")
def test_a_name_that_is_not_unicode_is_said(tmp_path: Path) -> None:
    plant_voc(tmp_path)
    with open(os.fsencode(tmp_path) + b"/JPEGImages/\xff.jpg", "w"):
        pass
    with pytest.raises(InputError, match=r"JPEGImages: the name '\\udcff\.jpg' is not Unicode"):
        run(tmp_path)


def test_a_relative_path_starts_at_the_project(project: Path) -> None:
    plant_voc(project / "my data")
    assert Path(run("my data").root) == (project / "my data").resolve()


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_voc(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Path(run("~/data").root) == (tmp_path / "data").resolve()


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.paths: '.*nowhere': there is no such file; source: local takes folders"):
        run(tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/x"])
def test_a_path_that_cannot_be_is_named(path: str) -> None:
    with pytest.raises(InputError, match=r"data\.paths: '"):
        run(path)


def test_a_file_that_is_no_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"data\.paths: '/dev/null': it is a pipe, a socket or a device; source: local takes"):
        run("/dev/null")
    with pytest.raises(InputError, match=r"a\.tar': it is a file, but not a zip archive; source: local takes"):
        run(tmp_path / "a.tar")


def test_the_same_path_twice_is_refused(tmp_path: Path) -> None:
    plant_voc(tmp_path / "set")
    with pytest.raises(InputError, match=r"'.*set' and '.*x.*' are the same; each may be given once"):
        run(tmp_path / "set", tmp_path / "x" / ".." / "set")


def test_the_same_zip_under_two_names_is_refused(tmp_path: Path) -> None:
    archive = zipped(plant_voc(tmp_path / "set"), tmp_path / "a.zip")
    (tmp_path / "b").mkdir()
    shutil.copy(archive, tmp_path / "b/a.zip")
    with pytest.raises(InputError, match="are the same"):
        run(archive, tmp_path / "b/a.zip")


def test_classes_and_source_stand_in_the_manifest(tmp_path: Path) -> None:
    manifest = run(plant_voc(tmp_path), classes=["cat", "dog"])
    assert (manifest.source, manifest.classes) == ("local", ("cat", "dog"))


def test_a_manifest_comes_back_from_its_file(tmp_path: Path) -> None:
    manifest = run(plant_yolo(tmp_path / "set"))
    manifest.save(tmp_path / "manifest.json")
    assert load_manifest(tmp_path / "manifest.json") == manifest


def test_a_zip_is_unpacked_once_below_data_raw(tmp_path: Path, project: Path) -> None:
    archive = zipped(plant_voc(tmp_path / "set", "BCCD/"), tmp_path / "my set.zip")
    content, modified = archive.read_bytes(), archive.stat().st_mtime_ns
    manifest = run(archive)
    folder = project / "data/raw/zips" / f"my set-{hashlib.sha256(content).hexdigest()[:12]}"
    assert f"{project}/data/raw/{manifest.root}" == str(folder)  # relative, so that the project may be moved
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} >= {f"BCCD/{name}" for name in VOC}
    assert pairs(manifest)["val"] == {"BCCD/JPEGImages/b.jpg": "BCCD/Annotations/b.xml"}
    before = state(project)
    assert run(archive) == manifest
    assert state(project) == before
    assert (archive.read_bytes(), archive.stat().st_mtime_ns) == (content, modified)


def test_what_is_missing_of_an_unpacked_zip_is_unpacked_again(tmp_path: Path) -> None:
    archive = zipped(plant_voc(tmp_path / "set"), tmp_path / "set.zip")
    manifest = run(archive)
    gone = manifest.path("JPEGImages/a.jpg")
    gone.unlink()
    manifest.path("JPEGImages/b.jpg").write_bytes(b"JPEGImages/x.jpg")  # as many bytes, but others
    assert run(archive) == manifest
    assert gone.read_bytes() == b"JPEGImages/a.jpg"
    assert manifest.path("JPEGImages/b.jpg").read_bytes() == b"JPEGImages/b.jpg"


def test_another_zip_of_the_same_name_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first = run(zipped(plant_voc(tmp_path / "set"), tmp_path / "set.zip"))
    plant(tmp_path / "set", "Annotations/c.xml", "JPEGImages/c.jpg")
    second = run(zipped(tmp_path / "set", tmp_path / "set.zip"))
    assert first.root != second.root
    assert "JPEGImages/c.jpg" in second.files


def test_a_zip_with_a_member_that_leaves_it_is_refused(tmp_path: Path, project: Path) -> None:
    archive = zipped(plant_voc(tmp_path / "set"), tmp_path / "set.zip")
    with zipfile.ZipFile(archive, "a") as bundle:
        bundle.writestr("../evil.jpg", b"evil")
    with pytest.raises(InputError, match=r"set\.zip: member '\.\./evil\.jpg': the name leaves the folder"):
        run(archive)
    assert not list(project.rglob("*.jpg"))


def test_a_damaged_zip_is_named_and_may_be_replaced(tmp_path: Path) -> None:
    archive = zipped(plant_voc(tmp_path / "set"), tmp_path / "set.zip")
    whole = archive.read_bytes()
    archive.write_bytes(whole.replace(b"JPEGImages/b.jpgJPEGImages/b.jpg", b"JPEGImages/b.jpgJPEGImages/?.jpg"))
    with pytest.raises(InputError, match=r"'JPEGImages/b\.jpg' is damaged .*replace it by an intact one"):
        run(archive)
    archive.write_bytes(whole)
    assert len(run(archive).files) == 4


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid") or os.geteuid() == 0,
                    reason="needs files that their owner cannot read")
def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    plant_voc(tmp_path)
    (tmp_path / "JPEGImages/a.jpg").chmod(0)
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read: Permission denied"):
        run(tmp_path)


def test_a_summary_of_other_sources_names_no_format() -> None:
    assert summary(Manifest(source="demo", root="x", splits={"train": ()}, files={}), 2).startswith("download: demo, 0 images")
