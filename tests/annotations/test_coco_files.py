"""The files of a COCO dataset: found by name or by content, with the images that they list."""

import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.folders import plant, run

from ssd_lib.annotations.read import read_splits
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part


def put(root: Path, annotations: str, images: str, *names: str) -> None:
    """Write an annotation file that lists the names, and an image for each."""
    document = {"images": [{"id": number, "file_name": name} for number, name in enumerate(names)]}
    plant(root, *((Path(images) / name).as_posix() for name in names), texts={annotations: json.dumps(document)})


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
    "capitals": [("Annotations/Instances_Train.JSON", "Train"), ("Annotations/Instances_Val.JSON", "Val")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised(tmp_path: Path, layout: str) -> None:
    for number, (annotations, images) in enumerate(LAYOUTS[layout]):
        put(tmp_path, annotations, images, f"{number}a.jpg", f"{number}b.png")
    manifest = run(tmp_path)
    assert manifest.splits == {split: (Part(format="coco", images=images, annotations=annotations),)
                               for split, (annotations, images) in zip(("train", "val"), LAYOUTS[layout], strict=True)}
    assert len(manifest.files) == 6


def put_coco(root: Path) -> None:
    for annotations, images in LAYOUTS["COCO"]:
        put(root, annotations, images, "a.jpg", "b.jpg")


def test_real_images_are_listed(shared_data: Path, tmp_path: Path) -> None:
    for name in ("zips/val2017.zip", "zips/train2017.zip", "annotations/annotations_trainval2017.zip"):
        zipfile.ZipFile(shared_data / "coco-mirror" / name).extractall(tmp_path)
    manifest = run(tmp_path)
    assert {split: len(manifest.images(split)) for split in manifest.splits} == {"train": 80, "val": 80}
    assert len(manifest.files) == 162


@pytest.mark.parametrize("spelled", ["sub\\a.jpg", "./sub/a.jpg"])
def test_names_with_windows_separators_and_dots_are_found_and_read(tmp_path: Path, spelled: str) -> None:
    for split in ("train", "val"):
        row = {"id": 1, "file_name": spelled, "width": 9, "height": 9}
        document = {"images": [row], "annotations": [], "categories": []}
        plant(tmp_path, f"{split}/sub/a.jpg", texts={f"{split}.json": json.dumps(document)})
    manifest = run(tmp_path)
    assert [reading.annotations.images.file_names for reading in read_splits(manifest)["val"]] == [("val/sub/a.jpg",)]


def test_the_test_split_is_left(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        put(tmp_path, f"{split}/_annotations.coco.json", split, "a.jpg")
    manifest = run(tmp_path)
    assert list(manifest.splits) == ["train", "val"]
    assert not [name for name in manifest.files if name.startswith("test/")]


def test_orphans_are_listed_and_other_files_are_not(tmp_path: Path) -> None:
    put_coco(tmp_path)
    plant(tmp_path / "train2017", "orphan.jpg", "deeper/orphan.PNG", "README.txt", "notes.json")
    assert sorted(run(tmp_path).images("train")) == [
        "train2017/a.jpg", "train2017/b.jpg", "train2017/deeper/orphan.PNG", "train2017/orphan.jpg",
    ]


def test_an_image_with_any_suffix_counts_when_it_is_annotated(tmp_path: Path) -> None:
    put_coco(tmp_path)
    put(tmp_path, "annotations/instances_train2017.json", "train2017", "a.jpg", "./photo")
    assert "train2017/photo" in run(tmp_path).images("train")


def test_missing_images_do_not_hide_the_folder(tmp_path: Path) -> None:
    put_coco(tmp_path)
    (tmp_path / "train2017/a.jpg").unlink()
    assert list(run(tmp_path).images("train")) == ["train2017/b.jpg"]  # validate reports the other one


def test_other_annotations_of_coco_do_not_confuse(tmp_path: Path) -> None:
    put_coco(tmp_path)
    for name in ("captions_train2017", "person_keypoints_val2017", "instances_trainval2017"):
        (tmp_path / f"annotations/{name}.json").write_text("{}")
    assert run(tmp_path).splits["train"][0].annotations == "annotations/instances_train2017.json"


def test_nothing_for_val_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "train.json", "", "a.jpg")
    put(tmp_path, "instances_train.json", "", "b.jpg")
    put(tmp_path, "val.json", "", "c.jpg")
    (tmp_path / "val.json").rename(tmp_path / "train_val.json")
    (tmp_path / "train.json").unlink()
    put(tmp_path, "instances_other.json", "", "b.jpg")
    with pytest.raises(InputError, match=r"no annotation files for val; one is needed; looked for") as caught:
        run(tmp_path)
    assert "instances_val|valid|validation*.json; " in str(caught.value)
    assert "; there are a.jpg, b.jpg, c.jpg, instances_other.json, instances_train.json, train_val.json." in str(caught.value)


@pytest.mark.parametrize("name", ["annotations/instances_default.json", "_annotations.coco.json", "annotations.json",
                                  "annotations/instances_train.json"])
def test_of_one_file_for_all_images_a_part_becomes_val(tmp_path: Path, name: str) -> None:
    files = [f"{number}.jpg" for number in range(40)]
    put(tmp_path, name, "images", *files)
    (train,), (val,) = (run(tmp_path).splits[split] for split in ("train", "val"))
    assert train.annotations == val.annotations == name
    assert sorted(train.only + val.only) == sorted(files)
    assert 0 < len(val.only) < 15
    put(tmp_path, name, "images", *files, "more.jpg")
    assert set(val.only) <= set(run(tmp_path).splits["val"][0].only)


def put_boxes(root: Path, annotations: str, *names: str) -> None:
    """Write an annotation file with a box in each of the images images/NAME."""
    put(root, annotations, "images", *names)
    document = json.loads((root / annotations).read_text())
    document["annotations"] = [{"image_id": number, "bbox": [0, 0, 1, 1]} for number in range(len(names))]
    (root / annotations).write_text(json.dumps(document))


@pytest.mark.parametrize(("train", "val"), [
    ("annotations/my-train.json", "annotations/my_VALID.json"), ("annotations/train_set/a.json", "annotations/b_val.json"),
    ("a/train/boxes.json", "a/val/boxes.json"), ("annotations/instances_train.json", "annotations/all.validation.json")])
def test_a_word_of_a_split_anywhere_in_the_name_says_which_file_is_which(tmp_path: Path, train: str, val: str) -> None:
    put_boxes(tmp_path, train, "a.jpg", "b.jpg")
    put_boxes(tmp_path, val, "c.jpg")
    captions = '{"images": [{"file_name": "a.jpg"}], "annotations": [{}]}'
    plant(tmp_path, texts={f"{train.rpartition('/')[0]}/captions_train.json": captions})
    manifest = run(tmp_path)
    assert {split: [part.annotations for part in parts] for split, parts in manifest.splits.items()} == {
        "train": [train], "val": [val]}


@pytest.mark.parametrize(("others", "named"), [
    (("annotations/a.json", "annotations/b.json"), r"annotations/a\.json, annotations/b\.json: no .* train_a\.json and val_b"),
    (("a.json", "b.json"), r"a\.json, b\.json: no name"), (("annotations/a.json", "annotations/b_train.json"),
                                                        r"annotations/a\.json, beside annotations/b_train\.json: no name"),
    (("annotations/my_train_val.json", "annotations/x.json"), r"my_train_val\.json, annotations/x\.json: no name"),
])
def test_files_of_which_no_name_says_the_split_are_named_with_what_to_rename(
        tmp_path: Path, others: tuple[str, str], named: str) -> None:
    for number, name in enumerate(others):
        put_boxes(tmp_path, name, f"{number}.jpg", f"{number}b.jpg")
    with pytest.raises(InputError, match=named):
        run(tmp_path)


def test_files_in_folders_of_their_own_are_both_used_for_both_splits(tmp_path: Path) -> None:
    for number in "ab":
        put_boxes(tmp_path, f"annotations/{number}/result.json", *(f"{number}{image}.jpg" for image in range(9)))
    manifest = run(tmp_path)
    assert [[part.annotations[12] for part in parts] for parts in manifest.splits.values()] == [["a", "b"]] * 2
    assert all(part.only for parts in manifest.splits.values() for part in parts)


def test_one_image_alone_is_not_enough(tmp_path: Path) -> None:
    put(tmp_path, "annotations.json", "", "a.jpg")
    with pytest.raises(InputError, match=r"annotations\.json: no images for val; train and val need at least one each"):
        run(tmp_path)


def test_two_annotation_files_for_a_split_are_both_named(tmp_path: Path) -> None:
    put_coco(tmp_path)
    put(tmp_path, "train.json", "", "c.jpg")
    with pytest.raises(InputError, match=r"2 annotation files for train; .*found annotations/instances_train2017"):
        run(tmp_path)


def test_two_image_folders_for_a_split_are_both_named(tmp_path: Path) -> None:
    put_coco(tmp_path)
    put(tmp_path, "annotations/instances_train2017.json", "images", "a.jpg", "b.jpg")
    with pytest.raises(InputError, match=r"2 folders with the images of .*found train2017/, images/\. "):
        run(tmp_path)


def test_images_that_are_nowhere_are_named(tmp_path: Path) -> None:
    put_coco(tmp_path)
    for number, image in enumerate(sorted((tmp_path / "val2017").iterdir())):
        image.rename(image.with_name(f"other-{number}.jpg"))
    with pytest.raises(InputError, match=r"no folders with the images of .*/instances_val2017\.json \(such as 'a"):
        run(tmp_path)


@pytest.mark.parametrize("folder", ["/data/local-files/?d=sub/", "../project/upload/1/", "/home/me/images/"])
def test_paths_of_another_machine_are_matched_by_the_name_of_the_image(tmp_path: Path, folder: str) -> None:
    images = [{"id": at, "file_name": f"{folder}{name}.jpg"} for at, name in enumerate("abcd")]
    content = json.dumps({"images": images, "annotations": [], "categories": []})
    plant(tmp_path, *(f"photos/{name}.jpg" for name in "abcd"), texts={"result.json": content})
    manifest = run(tmp_path)
    assert sorted(name for part in manifest.splits["train"] for name in part.names.values())[0].endswith("photos/a.jpg")
    assert [(count.kind, count.count) for count in manifest.counts] == [("matched", 4)]


@pytest.mark.parametrize("name", ["/etc/hostname", "../train2017/a.jpg"])
def test_a_file_name_that_leaves_its_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    put_coco(tmp_path)
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps({"images": [{"file_name": name}]}))
    with pytest.raises(InputError, match=r"no folders with the images of annotations/instances_val2017\.json"):
        run(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": [{}]}', '{"images": 3}', "\x00", "[" * 100_000,
                                  '{"images": [], "x": ' + "[" * 100_000])
def test_what_is_no_coco_file_is_named(tmp_path: Path, text: str) -> None:
    put_coco(tmp_path)
    (tmp_path / "annotations/instances_train2017.json").write_text(text)
    with pytest.raises(InputError, match=r"instances_train2017\.json: not an annotation file in COCO format"):
        run(tmp_path)


@pytest.mark.parametrize(("content", "cause"), [
    (b'{"dataset": {"images": []}}', "no list 'images' at its top, but 'dataset'"),
    (b'{"images": [{"file_name": "a"}, null]}', r"images\[1\] is None, without a file_name"),
    (b'{"images": [{"fileName": "a"}]}', r"images\[0\] is {'fileName': 'a'}, without a file_name"),
    (b'{"images": [{"file_name": "\xe9"}]}', "byte 27 is not UTF-8; .* Save it as UTF-8"),
    (b'{"id": 1}\n{"id": 2}', "not JSON at line 2, column 1: Extra data"),
])
def test_what_is_wrong_with_it_is_said(tmp_path: Path, content: bytes, cause: str) -> None:
    put_coco(tmp_path)
    (tmp_path / "annotations/instances_train2017.json").write_bytes(content)
    with pytest.raises(InputError, match=cause):
        run(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_nan_or_in_another_encoding_still_tells_its_images(tmp_path: Path, encoding: str) -> None:
    put_coco(tmp_path)
    text = '{"images": [{"file_name": "a.jpg"}], "annotations": [{"bbox": [NaN, 0, 1, 1]}]}'
    (tmp_path / "annotations/instances_train2017.json").write_text(text, encoding=encoding)
    assert run(tmp_path).splits["train"][0].images == "train2017"


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["images", "file_name", "x"]), inner, max_size=3), max_leaves=8).map(json.dumps).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    put_coco(tmp_path)
    (tmp_path / "annotations/instances_train2017.json").write_bytes(content)
    with pytest.raises(InputError, match="instances_train2017"):
        run(tmp_path)
