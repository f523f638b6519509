"""The files of a YOLO dataset: the YAML file, lists or folders decide the splits; each image is paired with its label file."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.folders import class_names, pairs, plant, run

from ssd_lib.annotations.yolo_files import label_of, names_of_entry
from ssd_lib.errors import InputError

SET = ("images/train/a.jpg", "labels/train/a.txt", "images/val/b.png", "labels/val/b.txt")
EXPECTED = {"train": {SET[0]: SET[1]}, "val": {SET[2]: SET[3]}}
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


def put(root: Path, text: str | bytes | None = None, /, *, file: str = "data.yaml", **tree: Any) -> Path:
    """Write a dataset of two images, with a YAML file."""
    if text is None:
        text = yaml.safe_dump({"train": "images/train", "val": "images/val", "names": ["cat", "dog"]} | tree)
    return plant(root, *SET, texts={file: text})


def test_the_real_images_are_listed(shared_data: Path) -> None:
    manifest = run(shared_data / "yolo-coco36")
    found = pairs(manifest)
    assert {split: len(images) for split, images in found.items()} == {"train": 24, "val": 12}
    assert all(Path(text).stem == Path(image).stem for images in found.values() for image, text in images.items())
    assert list(class_names(manifest).items())[::79] == [("0", "person"), ("79", "toothbrush")]
    assert len(manifest.files) == 36 + 36 + 1  # images, texts, dataset.yaml


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}, {1: "dog", 0: "cat"}])
@pytest.mark.parametrize("file", ["data.yaml", "dataset.yaml", "coco8.yml", "data.yml"])
def test_names_are_a_list_or_have_their_numbers(tmp_path: Path, names: object, file: str) -> None:
    manifest = run(put(tmp_path, file=file, names=names, nc=2))
    assert list(class_names(manifest).items()) == [("0", "cat"), ("1", "dog")]
    assert pairs(manifest) == EXPECTED
    assert file in manifest.files


@pytest.mark.parametrize("tree", [
    {"path": "."}, {"path": "../datasets/coco8"}, {"path": "/home/me/datasets/coco8"}, {"path": "C:\\datasets\\coco8"},
    {"path": "coco8", "train": "./images/train"}, {"train": "../images/train", "val": "../images/val"},
    {"train": "/content/coco8/images/train", "val": "/content/coco8/images/val/"},
    {"train": "D:\\coco8\\images\\train", "val": "D:\\coco8\\images\\val"}, {"train": ["images/train"], "val": ["images/val"]},
    {"val": None, "valid": "images/val"}, {"path": None}, {"train": "x/../images/train"}, {"test": "images/nowhere"},
])
def test_paths_of_other_machines_end_below_the_root(tmp_path: Path, tree: dict[str, object]) -> None:
    assert pairs(run(put(tmp_path, **tree))) == EXPECTED


def test_path_precedes_the_root(tmp_path: Path) -> None:
    plant(put(tmp_path, path="old"), *(f"old/{name}" for name in SET))
    assert list(pairs(run(tmp_path))["train"]) == ["old/images/train/a.jpg"]


def test_several_folders_are_one_split(tmp_path: Path) -> None:
    plant(put(tmp_path, train=["images/train", "more/images"]), "more/images/c/d.jpg", "more/labels/c/d.txt")
    assert pairs(run(tmp_path))["train"] == EXPECTED["train"] | {"more/images/c/d.jpg": "more/labels/c/d.txt"}


@pytest.mark.parametrize("row", ["images/train/a.jpg", "./images/train/a.jpg", "/home/me/set/images/train/a.jpg",
                                 "C:\\set\\images\\train\\a.jpg", "../images/train/a.jpg\r\n", "\ufeffimages/train/a.jpg\n\n"])
def test_a_list_of_images_is_followed(tmp_path: Path, row: str) -> None:
    put(tmp_path, train="lists/train.txt", val=["images/val"])
    plant(tmp_path, "images/train/unlisted.jpg", texts={"lists/train.txt": row})
    manifest = run(tmp_path)
    assert pairs(manifest) == EXPECTED
    assert "images/train/unlisted.jpg" in manifest.files


def test_rows_of_a_list_may_be_relative_to_it(tmp_path: Path) -> None:
    put(tmp_path, train="images/train.txt")
    plant(tmp_path, texts={"images/train.txt": "./train/a.jpg\n"})
    assert pairs(run(tmp_path)) == EXPECTED


def test_listed_images_that_are_gone_are_counted(tmp_path: Path) -> None:
    put(tmp_path, train="train.txt")
    plant(tmp_path, texts={"train.txt": "images/train/a.jpg\nimages/x.jpg\n../../y.jpg\n"})
    with pytest.raises(InputError, match=r"train\.txt: 2 images that do not exist, the first is 'images/x\.jpg'"):
        run(tmp_path)


@pytest.mark.parametrize("entry", ["../outside", "/etc", "images/nowhere", "C:\\x"])
def test_a_folder_outside_or_nowhere_is_named(tmp_path: Path, entry: str) -> None:
    plant(tmp_path, "outside/a.jpg", "outside/a.txt")
    put(tmp_path / "set", train=entry)
    with pytest.raises(InputError, match=r"data\.yaml: train is .*, which is no folder with files and no \.txt list below"):
        run(tmp_path / "set")


@pytest.mark.parametrize("entry", ["..", "../..", ".", "/"])
def test_a_folder_above_is_the_root_at_most(entry: str) -> None:
    assert list(names_of_entry(entry)) == [""]


def test_two_folders_that_end_in_one_are_no_two_splits(tmp_path: Path) -> None:
    plant(tmp_path, "images/a.jpg", "labels/a.txt", texts={
        "data.yaml": yaml.safe_dump({"train": "/x/train/images", "val": "/x/valid/images", "names": ["cat"]})})
    with pytest.raises(InputError, match=r"/x/train/images for train and /x/valid/images for val are the same images below"):
        run(tmp_path)


def test_one_folder_for_both_splits_is_as_its_owner_wants(tmp_path: Path) -> None:
    found = pairs(run(put(tmp_path, val="images/train")))  # Ultralytics' coco128.yaml is so; validate tells of the leak
    assert found["train"] == found["val"] == EXPECTED["train"]


LAYOUTS = {
    "images/train, labels/train": ("images/{}/1.jpg", "labels/{}/1.txt"),
    "train/images, train/labels": ("{}/images/1.jpg", "{}/labels/1.txt"),
    "years": ("images/{}2017/1.jpg", "labels/{}2017/1.txt"),
    "texts beside images": ("{}/1.jpg", "{}/1.txt"),
    "texts beside images, in images/": ("images/{}/1.jpg", "images/{}/1.txt"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("val", ["val", "valid"])
@pytest.mark.parametrize("names", [{"classes.txt": "cat\ndog\n\n"}, {"obj.names": "cat\r\ndog"},
                                   {"data.yaml": "names: [cat, dog]"}])
def test_folders_tell_the_splits(tmp_path: Path, layout: str, val: str, names: dict[str, str]) -> None:
    image, text = LAYOUTS[layout]
    plant(tmp_path, *(place.format(word) for place in (image, text) for word in ("train", val, "test")), texts=names)
    manifest = run(tmp_path)
    assert pairs(manifest) == {"train": {image.format("train"): text.format("train")},
                               "val": {image.format(val): text.format(val)}}
    assert list(class_names(manifest).values()) == ["cat", "dog"]


def test_cvat_s_lists_tell_the_splits(tmp_path: Path) -> None:
    plant(tmp_path, *(f"obj_{word}_data/{word}{end}" for word in ("train", "valid") for end in (".jpg", ".txt")), texts={
        "obj.names": "cat\n", "obj.data": "classes = 1", "train.txt": "data/obj_train_data/train.jpg\n",
        "valid.txt": "data/obj_valid_data/valid.jpg\n"})
    assert pairs(run(tmp_path)) == {"train": {"obj_train_data/train.jpg": "obj_train_data/train.txt"},
                                    "val": {"obj_valid_data/valid.jpg": "obj_valid_data/valid.txt"}}


@pytest.mark.parametrize("place", ["images/{}.jpg labels/{}.txt", "{}.jpg {}.txt", "pictures/{}.JPG pictures/{}.txt"])
def test_without_splits_a_share_becomes_val(tmp_path: Path, place: str) -> None:
    names = [name for letter in "abcdefghij" for name in place.replace("{}", letter).split()]
    found = pairs(run(plant(tmp_path, *names, texts={"classes.txt": "cat"})))
    assert sorted([*found["train"], *found["val"]]) == [name for name in sorted(names) if name[-3:].lower() == "jpg"]
    assert found["train"]
    assert found["val"]
    assert all(text.endswith(".txt") for text in (found["train"] | found["val"]).values())


def test_a_yaml_without_val_gives_a_share_of_train(tmp_path: Path) -> None:
    plant(put(tmp_path, val=None), "images/train/c.jpg", "labels/train/c.txt")
    found = pairs(run(tmp_path))
    assert sorted([*found["train"], *found["val"]]) == ["images/train/a.jpg", "images/train/c.jpg"]
    assert len(found["val"]) == 1


def test_an_image_without_a_text_has_no_objects(tmp_path: Path) -> None:
    plant(put(tmp_path), "images/train/empty.jpg")
    assert pairs(run(tmp_path))["train"]["images/train/empty.jpg"] == ""


@pytest.mark.parametrize(("image", "text"), [
    ("images/a.jpg", "labels/a.txt"), ("x/images/images/a.b.jpg", "x/images/labels/a.b.txt"),
    ("images/t/a.jpg", "images/t/a.txt"), ("my images/a.jpg", "my images/a.txt"), ("a.jpg", "a.txt"), ("images/none.jpg", "")])
def test_the_last_images_in_a_path_becomes_labels(image: str, text: str) -> None:
    assert label_of(image, frozenset({text, "images.txt", "my labels/a.txt", "x/labels/images/a.b.txt"})) == text


def test_labels_in_place_of_images_precede_those_beside(tmp_path: Path) -> None:
    assert pairs(run(plant(put(tmp_path), "images/train/a.txt"))) == EXPECTED


def test_no_names_of_classes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no names of classes; label files have only.*; there are images/, labels/\. Write"):
        run(plant(tmp_path, *SET))


def test_lists_of_classes_deeper_down_must_agree(tmp_path: Path) -> None:
    plant(tmp_path, *SET, texts={"labels/train/classes.txt": "cat", "labels/val/classes.txt": "cat"})
    assert class_names(run(tmp_path)) == {"0": "cat"}
    plant(tmp_path, texts={"labels/val/classes.txt": "dog"})
    with pytest.raises(InputError, match=r"2 lists of classes that differ; .* labels/train/classes\.txt, labels/val/c"):
        run(tmp_path)
    plant(tmp_path, texts={"classes.txt": "cow"})
    assert class_names(run(tmp_path)) == {"0": "cow"}


def test_a_hole_in_a_list_of_classes_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes\.txt: the name of class 1 is empty"):
        run(plant(tmp_path, *SET, texts={"classes.txt": "cat\n\ndog"}))


def test_a_yaml_of_something_else_is_not_it(tmp_path: Path) -> None:
    plant(put(tmp_path, file="pets.yaml"), texts={"compose.yaml": "services: {}", "list.yml": "- 1"})
    assert class_names(run(tmp_path)) == {"0": "cat", "1": "dog"}


def test_two_yaml_files_with_names_are_both_named(tmp_path: Path) -> None:
    put(put(tmp_path, file="pets.yaml"), file="farm.yaml")
    with pytest.raises(InputError, match=r"2 YAML files with names of classes; one is needed; found farm\.yaml, pets\.yaml"):
        run(tmp_path)
    assert pairs(run(put(tmp_path))) == EXPECTED  # data.yaml is it, whatever else there is


@pytest.mark.parametrize(("tree", "fault"), [
    ({"names": ["cat", "cat"]}, r"names: classes 0 and 1 are both called 'cat'"),
    ({"names": ["cat", 1]}, r"names: the name of class 1 is of type int, not text; .*quotes"),
    ({"names": ["cat", True]}, r"names: the name of class 1 is of type bool, not text"),
    ({"names": ["cat", None]}, r"the name of class 1 is of type NoneType"),
    ({"names": ["cat", " "]}, r"the name of class 1 is empty"),
    ({"names": []}, r"names: no class names"), ({"names": None}, r"names: no class names"), ({"names": {}}, "no class names"),
    ({"names": "cat"}, r"names is 'cat'; it must be a list"),
    ({"names": {0: "cat", 2: "dog"}}, r"names has the keys 0, 2; they must be 0, 1, 2"),
    ({"names": {1: "cat", 2: "dog"}}, r"names has the keys 1, 2"),
    ({"names": {"a": "cat"}}, r"names has the keys 'a'"), ({"names": {0: "cat", True: "dog"}}, r"names has the keys"),
    ({"nc": 3}, r"nc is 3, but there are 2 names"), ({"nc": "two"}, r"nc is 'two', but"),
    ({"path": 7}, r"path is 7; it must be the name of a folder"),
    ({"train": 7}, r"train is 7; it must be a folder, a list of folders, or a \.txt"),
    ({"train": [[]]}, r"train is of type list; it"),
    ({"train": None}, r"images for val but none for train"), ({"train": "images/train/a.jpg"}, r"which is no folder"),
])
def test_a_fault_in_the_yaml_is_named(tmp_path: Path, tree: dict[str, object], fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        run(put(tmp_path, **tree))


@pytest.mark.parametrize("text", ["names: [cat", "\t- x: {", "a: b: c", b"\xff\x00", '!!int ""', "!!bool x", "!!timestamp x",
                                  "x: 2001-99-99", "x: !!python/object:os.system {}", "[" * 600, "x: *nothing",
                                  "x: 0001-01-01T00:00:00+23:59", "? [1]\n: 2"])
def test_what_is_no_yaml_is_named(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(InputError, match=r"data\.yaml: (not YAML: .*\. Correct it|names: no class names)"):
        run(put(tmp_path, text))


@pytest.mark.parametrize(("text", "fault"), [
    ("names: *a29", "the name of class 0 is of type list"), ("names: {0: *a29}", "the name of class 0 is of type list"),
    ("names: [cat]\ntrain: *a29", "train is of type list"), ("names: [cat]\npath: *a29", "path is of type list"),
    ("names: [cat]\nnc: *a29", "nc is of type list"),
    (f"names: [cat]\nnc: 0x{'f' * 5000}", "nc is of type int")])
@pytest.mark.timeout(20)
def test_yaml_that_would_grow_without_end_is_told_in_short(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        run(put(tmp_path, BOMB + text))
    assert len(str(caught.value)) < 1000


def test_images_without_any_labels_are_named(tmp_path: Path) -> None:
    plant(put(tmp_path, train="photos"), "photos/a.jpg", "photos/b.jpg")
    with pytest.raises(InputError, match=r"none of 2 images for train has a label file .*\(such as 'photos/a\.jpg'\)"):
        run(tmp_path)


def test_two_places_for_a_split_are_both_named(tmp_path: Path) -> None:
    plant(tmp_path, *SET, "train2/c.jpg", "train2/c.txt", texts={"classes.txt": "cat"})
    with pytest.raises(InputError, match=r"2 places with the images of train; one is needed; found images/train, train2"):
        run(tmp_path)


@pytest.mark.parametrize("shape", ["17", "[17]", "[0, 2]", "[17, 4]", "[a, 2]", "[17, 2, 1]", "[true, 2]", "[17.0, 2]"])
def test_a_wrong_kpt_shape_is_named(tmp_path: Path, shape: str) -> None:
    with pytest.raises(InputError, match=r"data\.yaml: kpt_shape is .*; it must be the number of points and 2 or 3, such as"):
        run(put(tmp_path, f"names: [cat]\ntrain: images/train\nval: images/val\nkpt_shape: {shape}"))


@given(st.binary(max_size=40) | st.text("names: [cat,dog]{}!&*\n-'\"#|>0", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, content)
    plant(tmp_path, texts={"train.txt": content})
    with pytest.raises(InputError) as caught:
        run(tmp_path)
    assert str(tmp_path.resolve()) in str(caught.value)


@pytest.mark.parametrize(("image", "label"), [
    ("photos/a.jpg", "annotations_yolo/a.txt"), ("images/day/a.jpg", "labels/a.txt"), ("train/a.jpg", "train/labelTxt/a.txt"),
    ("images/a.jpg", "labels/a.jpg.txt"), ("images/my a.jpg", "labels/my+a.txt"), ("images/my a.jpg", "labels/my%2520a.txt"),
])
def test_labels_of_another_place_or_spelling_are_matched_by_their_name(tmp_path: Path, image: str, label: str) -> None:
    files = [re.sub(r"a(?=\.jpg|\.txt)", letter, name) for name in (image, label) for letter in "abcdef"]
    found = pairs(run(plant(tmp_path, texts={"classes.txt": "cat\n"} | dict.fromkeys(files, "0 0.5 0.5 0.2 0.4\n"))))
    assert len(found["train"] | found["val"]) == 6
    assert all((found["train"] | found["val"]).values())


@pytest.mark.parametrize("row", ["images/FA\u00c7ADE 1.JPG", "images/fac\u0327ade 1.jpg", "images/fa%C3%A7ade%201.jpg"])
def test_rows_of_lists_may_be_written_differently_and_the_lists_are_no_other_files(tmp_path: Path, row: str) -> None:
    plant(tmp_path, "images/fa\u00e7ade 1.jpg", "labels/fa\u00e7ade 1.txt", "images/b.jpg", "labels/b.txt", texts={
        "data.yaml": "names: {'0': cat}\ntrain: train.txt\nval: val.txt\n", "train.txt": row + "\n", "val.txt": "images/b.jpg"})
    manifest = run(tmp_path)
    assert [Path(name).name for name in pairs(manifest)["train"]] == ["fa\u00e7ade 1.jpg"]
    assert "other_files" not in {count.kind for count in manifest.counts}


@pytest.mark.parametrize("folder", ["Train/Images", "trai\u0302n", "TRAIN"])
def test_a_folder_of_the_yaml_file_may_be_written_differently(tmp_path: Path, folder: str) -> None:
    said = unicodedata.normalize("NFC", folder).lower()
    plant(tmp_path, f"{folder}/a.jpg", f"{folder}/a.txt", "v/b.jpg", "v/b.txt", texts={
        "data.yaml": f"names: [cat]\ntrain: {said}\nval: v\n", "Classes.txt": "cat"})
    assert len(pairs(run(tmp_path))["train"]) == 1
