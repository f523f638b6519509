"""The files of an Open Images dataset: the CSV files of boxes, the folders of images and the class names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.folders import class_names, plant, run

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
    with pytest.raises(InputError, match=r"2 files with the names of classes, class-descriptions\.csv, oidv7-class-"):
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
    with pytest.raises(InputError, match=r"2 CSV files of boxes for train, oidv6-train-annotations-bbox\.csv, train-"):
        run(put(tmp_path, *TABLES, "oidv6-train-annotations-bbox.csv"))


def test_a_folder_without_images_is_ignored(tmp_path: Path) -> None:
    (put(tmp_path, *TABLES) / "validation/b.jpg").rename(tmp_path / "validation/b.txt")
    with pytest.raises(InputError, match=r"no folders with the images of validation-.*called val or valid or validation;"):
        run(tmp_path)


@given(st.binary(max_size=40) | st.text('/m01,"\n\r\0', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, *TABLES, classes=content)
    try:
        found = class_names(run(tmp_path))
    except InputError as error:
        found = {CLASSES: str(error)}
    assert all(map(str.strip, found))
