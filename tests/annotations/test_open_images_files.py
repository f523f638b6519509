"""The files of an Open Images dataset: the CSV files of boxes, the folders of images and the class names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import png
from support.folders import class_names, plant, run

from ssd_lib.annotations.open_images_files import label_of_toolkit
from ssd_lib.annotations.read import read_splits
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
TABLES = ("train-annotations-bbox.csv", "validation-annotations-bbox.csv")
CLASSES = "class-descriptions-boxable.csv"


def put(root: Path, *tables: str, head: str = HEAD, classes: str | bytes | None = "/m/01,Cat\n/m/02,Dog\n") -> Path:
    """Write tables and an image in each of the three folders."""
    texts: dict[str, str | bytes] = dict.fromkeys(tables, head)
    texts |= {} if classes is None else {CLASSES: classes}
    return plant(root, "train/a.jpg", "validation/b.jpg", "test/c.jpg", texts=texts)


def sources(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the table and the image folder of train and of val."""
    return [(part.annotations, part.images) for parts in manifest.splits.values() for part in parts]


def test_the_real_images_are_listed(shared_data: Path) -> None:
    manifest = run(shared_data / "open-images-mini")
    assert sources(manifest) == [("train-annotations-bbox.csv", "train"), ("validation-annotations-bbox.csv", "validation")]
    assert {split: len(manifest.images(split)) for split in manifest.splits} == {"train": 10, "val": 4}
    assert class_names(manifest)["/m/01g317"] == "Person"
    assert len(manifest.files) == 10 + 4 + 3


@pytest.mark.parametrize(("tables", "expected"), [
    (("train-annotations-bbox.csv", "validation-annotations-bbox.csv", "test-annotations-bbox.csv"), "validation"),
    (("oidv6-train-annotations-bbox.csv", "validation-annotations-bbox.csv"), "validation"),
    (("sub-train-annotations-bbox.csv", "sub-validation-annotations-bbox.csv"), "validation"),
    (("train-annotations-bbox.csv", "test-annotations-bbox.csv"), "test"),
])
def test_tables_are_found_and_test_stands_in_for_validation(tmp_path: Path, tables: tuple[str, ...], expected: str) -> None:
    manifest = run(put(tmp_path, *tables))
    assert sources(manifest) == [(tables[0], "train"), (tables[1], expected)]
    assert sorted(manifest.files) == sorted([CLASSES, tables[0], tables[1], "train/a.jpg", next(iter(manifest.images("val")))])


def test_the_predecessors_tables_precede_those_they_were_made_from(tmp_path: Path) -> None:
    put(tmp_path, *TABLES, *(f"sub-{table}" for table in TABLES))
    assert sources(run(tmp_path)) == [(f"sub-{TABLES[0]}", "train"), (f"sub-{TABLES[1]}", "validation")]


@pytest.mark.parametrize("depictions", [True, False])
def test_depictions_are_as_the_parameter_says(tmp_path: Path, depictions: bool) -> None:
    manifest = run(put(tmp_path, "train-annotations-bbox.csv", "test-annotations-bbox.csv"), depictions=depictions)
    assert [part.depictions for parts in manifest.splits.values() for part in parts] == [depictions, depictions]


@pytest.mark.parametrize("text", ["LabelName,DisplayName\n/m/01,Cat\n/m/02,Dog\n", "\ufeff/m/01,Cat\r\n\r\n/m/02,Dog",
                                  '/m/01,"Cat"\n/m/01,Cat\n"/m/02",Dog\n'])
def test_names_of_classes_are_read_as_they_are_published(tmp_path: Path, text: str) -> None:
    manifest = run(put(tmp_path, *TABLES, classes=text))
    assert list(class_names(manifest).items()) == [("/m/01", "Cat"), ("/m/02", "Dog")]
    assert CLASSES in manifest.files


def test_a_name_with_a_comma_stays_one(tmp_path: Path) -> None:
    assert class_names(run(put(tmp_path, *TABLES, classes='/m/01,"Saucer, flying"'))) == {"/m/01": "Saucer, flying"}


def test_another_file_of_classes_will_do(tmp_path: Path) -> None:
    put(tmp_path, *TABLES, classes=None)
    plant(tmp_path, texts={"oidv7-class-descriptions.csv": "/m/01,Cat"})
    assert class_names(run(tmp_path)) == {"/m/01": "Cat"}
    plant(tmp_path, texts={"class-descriptions.csv": "/m/01,Cow"})
    with pytest.raises(InputError, match=r"2 files with the names of classes; one is needed; found class-d.*, oidv7-class-"):
        run(tmp_path)
    assert class_names(run(put(tmp_path, *TABLES))) == {"/m/01": "Cat", "/m/02": "Dog"}


ROWS = "a,0.1,0.5,0.1,0.5,Cat\nb,0.1,0.5,0.1,0.5,Dog\n"  # a is an image of train, b of validation


def test_tables_may_hold_the_names_themselves(tmp_path: Path) -> None:
    head = "ImageID,XMin,XMax,YMin,YMax,ClassName\r\n"
    assert class_names(run(put(tmp_path, *TABLES, head=head + ROWS, classes=None))) == {"Cat": "Cat", "Dog": "Dog"}


def test_names_in_tables_go_by_the_labels_beside_them(tmp_path: Path) -> None:
    rows = "LabelName,ClassName\n/m/01,Cat\n/m/02,Dog\n/m/01,Cat\n"
    assert class_names(run(put(tmp_path, *TABLES, head=rows, classes=None))) == {"/m/01": "Cat", "/m/02": "Dog"}
    with pytest.raises(InputError, match=r"train-annotations-bbox\.csv: line 3 calls '/m/01' 'Dog', a line before it 'Cat'"):
        run(put(tmp_path, *TABLES, head="LabelName,ClassName\n/m/01,Cat\n/m/01,Dog\n", classes=None))


def test_objects_of_tables_that_hold_the_names_are_read(tmp_path: Path) -> None:
    manifest = run(put(tmp_path, *TABLES, head="ImageID,XMin,XMax,YMin,YMax,ClassName\n" + ROWS, classes=None))
    (reading,) = read_splits(manifest)["train"]
    assert [category.name for category in reading.annotations.categories] == ["Cat", "Dog"]


@pytest.mark.parametrize("text", [b"ClassName\n\xff\n", "ClassName\n" + "x" * 200_000])
def test_tables_that_cannot_be_read_for_names_are_named(tmp_path: Path, text: str | bytes) -> None:
    put(tmp_path, *TABLES, classes=None)
    plant(tmp_path, texts={TABLES[0]: text})
    with pytest.raises(InputError, match=r"annotations-bbox\.csv: not CSV in UTF-8"):
        run(tmp_path)


def test_no_names_of_classes_at_all_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no class-descriptions-boxable\.csv, and train-annotations-bbox\.csv has no column"):
        run(put(tmp_path, *TABLES, classes=None))


@pytest.mark.parametrize(("text", "fault"), [
    ("/m/01,Cat\n/m/02\n", r"line 2 is '/m/02'; a line has an id and a name"), ("/m/01, ", "line 1 is"), ("", "no class names"),
    ("/m/01,Cat\n/m/01,Dog\n", r"line 2 calls '/m/01' 'Dog', a line before it 'Cat'"), (b"/m/01,\xff", "byte 6 is not UTF-8"),
    ("/m/01," + "x" * 200_000, "line 1 is not CSV")])
def test_a_fault_in_the_names_of_classes_is_named(tmp_path: Path, text: str | bytes, fault: str) -> None:
    with pytest.raises(InputError, match=rf"class-descriptions-boxable\.csv: {fault}"):
        run(put(tmp_path, *TABLES, classes=text))


@pytest.mark.parametrize(("tables", "split"), [(TABLES[:1], "val; that is validation"), (TABLES[1:], "train; that is train")])
def test_a_missing_table_is_named(tmp_path: Path, tables: tuple[str, ...], split: str) -> None:
    with pytest.raises(InputError, match=rf"no CSV file of boxes for {split}-annotations-bbox\.csv; .*this format is not"):
        run(put(tmp_path, *tables))


def test_two_tables_for_a_split_are_both_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 CSV files of boxes for train; .*found oidv6-train-annotations-bbox\.csv, train-"):
        run(put(tmp_path, *TABLES, "oidv6-train-annotations-bbox.csv"))


def test_a_folder_without_images_is_ignored(tmp_path: Path) -> None:
    (put(tmp_path, *TABLES) / "validation/b.jpg").rename(tmp_path / "validation/b.txt")
    with pytest.raises(InputError, match=r"no folders with the images of validation-.*looked for val or valid or validation;"):
        run(tmp_path)


OBJECT = "{},xclick,{},1,0.1,0.5,0.1,0.5,0,0,0,0,0\n"
CAT, DOG = "/m/01", "/m/02"


def read(manifest: Manifest) -> dict[str, list[str]]:
    """Return the image and the class of each box, such as "a Cat", by split, sorted."""
    found: dict[str, list[str]] = {}
    for split, readings in read_splits(manifest).items():
        for annotations in (reading.annotations for reading in readings):
            images = dict(zip(annotations.images.ids.tolist(), annotations.images.file_names, strict=True))
            classes = {category.id: category.name for category in annotations.categories}
            ids = zip(annotations.boxes.image_ids.tolist(), annotations.boxes.category_ids.tolist(), strict=True)
            found[split] = sorted(f"{Path(images[image]).stem} {classes[one]}" for image, one in ids)
    return found


def table(*objects: tuple[str, str]) -> str:
    return HEAD + "".join(OBJECT.format(*one) for one in objects)


CLASS_TEXT = f"{CAT},Cat\n{DOG},Dog\n/m/03,Cow\n"
FIFTYONE = {
    "o/info.json": "{}", **{f"o/{split}/metadata/classes.csv": CLASS_TEXT for split in ("train", "validation")},
    "o/train/metadata/hierarchy.json": "{}", "o/train/labels/relationships.csv": "ImageID,LabelName1,LabelName2,XMin1\n",
    "o/train/labels/segmentations.csv": "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax\n",
    "o/train/labels/classifications.csv": "ImageID,Source,LabelName,Confidence\n",
    "o/train/labels/detections.csv": table(("a", CAT), ("b", DOG), ("elsewhere", DOG)),
    "o/validation/labels/detections.csv": table(("c", CAT), ("elsewhere", DOG))}
TOOLKIT = {f"OID/csv_folder/{name}": text for name, text in {
    TABLES[0]: table(("a", CAT), ("b", DOG), ("b", CAT)), TABLES[1]: table(("c", CAT)), CLASSES: CLASS_TEXT}.items()}
TOOLKIT_LABELS = {"OID/Dataset/train/Cat/Label/a.txt": "Cat 1.0 2.0 4.0 5.0\n", "OID/Dataset/train/Cat/Label/b.txt": ""}
V6 = {"boxes/oidv6-train-annotations-bbox.csv": table(("a", CAT)), "boxes/validation-annotations-bbox.csv": table(("c", CAT)),
      f"metadata/{CLASSES}": CLASS_TEXT, "metadata/class-descriptions.csv": "/m/04,Tree\n",
      "multidata/train/labels/a.txt": "cat 1 2 4 5\n"}
EACH_CLASS = {"csv_folder/train/cat.csv": table(("a", CAT), ("b", CAT)),
              "csv_folder/train/dog.csv": table(("b", CAT), ("b", DOG)), "csv_folder/val/cat.csv": table(("c", CAT)),
              "meta/class-descriptions.csv": CLASS_TEXT}
ALL_IN_ONE = {"labels.csv": table(*((name, CAT) for name in "abc")), "classes.csv": CLASS_TEXT}


@pytest.mark.parametrize(("texts", "images", "boxes"), [
    (FIFTYONE, "o/train/data/a o/train/data/b o/validation/data/c", "a Cat, b Dog"),
    (TOOLKIT | TOOLKIT_LABELS, "OID/Dataset/train/Cat/a OID/Dataset/train/Cat/b OID/Dataset/train/Dog/b OID/Dataset/test/Cat/x "
     "OID/Dataset/validation/Cat/c", "a Cat, b Cat, b Dog"),
    (V6, "multidata/train/a multidata/validation/c", "a Cat"),
    (EACH_CLASS, "images/train/a images/train/b images/val/c", "a Cat, b Cat, b Dog"),
    (EACH_CLASS, "photos/a photos/b photos/c photos/of-no-table", "a Cat, b Cat, b Dog"),
    (ALL_IN_ONE, "train/a train/b test/c", "a Cat, b Cat"),
], ids=["FiftyOne", "OIDv4 ToolKit", "OIDv6", "a table for each class", "images in one folder", "one table"])
def test_tables_of_any_name_are_found_by_their_columns(tmp_path: Path, texts: dict[str, str], images: str, boxes: str) -> None:
    plant(tmp_path, texts=texts | {f"{name}.png": png(8, 8) for name in images.split()})
    assert {split: ", ".join(rows) for split, rows in read(run(tmp_path)).items()} == {"train": boxes, "val": "c Cat"}


@pytest.mark.parametrize("texts", [ALL_IN_ONE, {f"train/labels/{name}": text for name, text in ALL_IN_ONE.items()}])
def test_images_of_one_split_are_divided(tmp_path: Path, texts: dict[str, str]) -> None:
    plant(tmp_path, texts=texts | {f"train/data/{name}.png": png(8, 8) for name in "abc"})
    found = read(run(tmp_path))
    assert sorted(found["train"] + found["val"]) == ["a Cat", "b Cat", "c Cat"]
    assert all(found.values())


def test_copies_of_an_image_and_folders_of_some_classes_are_counted(tmp_path: Path) -> None:
    images = [f"OID/Dataset/{name}.png" for name in ("train/Cat/a", "train/Cat/b", "train/Dog/b", "validation/Cat/c")]
    plant(tmp_path, texts=TOOLKIT | {image: png(8, 8) for image in images})
    counts = {count.kind: count for count in run(tmp_path).counts}
    assert counts["copies"].first == (images[2],)
    assert counts["class_folders"].first == ("Cat", "Dog")
    assert "unused_images" not in counts
    assert "class_folders" not in {count.kind for count in run(tmp_path, classes=["Cat"]).counts}


@pytest.mark.parametrize("form", ["auto", "yolo"])
@pytest.mark.parametrize("label", ["train/Cat/Label/a.txt", "multidata/train/labels/a.txt"])
def test_labels_of_the_toolkits_without_their_tables_say_which_folder_is_needed(tmp_path: Path, label: str, form: str) -> None:
    plant(tmp_path, f"{label.rpartition('/')[0].rpartition('/')[0]}/a.jpg", texts={label: "Sports car 10.0 20.5 110.0 98.25\n"})
    with pytest.raises(InputError, match=r"a\.txt: has a class name and corners in pixels, .*csv_folder/ of OIDv4"):
        run(tmp_path, format=form)


@pytest.mark.parametrize("row", ["0 0.5 0.5 0.2 0.2", "cat 0.5 0.5 0.2 0.2", "Car 0.0 0 -1.58 587.01 173.33 614.12 200.12 1.6"])
def test_other_rows_are_not_taken_for_those_of_the_toolkits(tmp_path: Path, row: str) -> None:
    plant(tmp_path, texts={"labels/a.txt": row})
    assert label_of_toolkit(tmp_path, ["labels/a.txt"]) == ""


@given(st.binary(max_size=40) | st.text('/m01,"\n\r\0', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, *TABLES, classes=content)
    try:
        found = class_names(run(tmp_path))
    except InputError as error:
        found = {CLASSES: str(error)}
    assert all(map(str.strip, found))
