"""The files of a VOC dataset: lists or folders decide the splits; each image is paired with its XML file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.folders import class_names, pairs, plant, run

from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest

MAIN = "ImageSets/Main"


def put(root: Path, names: str, **lists: str | bytes) -> Path:
    """Write images and XML files of these letters, and lists."""
    return plant(root, *(f"JPEGImages/{name}.jpg" for name in names), *(f"Annotations/{name}.xml" for name in names),
                 texts={f"{MAIN}/{word}.txt": text for word, text in lists.items()})


def letters(manifest: Manifest) -> tuple[str, str]:
    """Return the stems of the images of train and val."""
    train, val = ("".join(Path(image).stem for image in images) for images in pairs(manifest).values())
    return train, val


@pytest.mark.parametrize(("lists", "expected"), [
    ({"train": "a\nb\n", "val": "c\n", "trainval": "a\nb\nc\n", "test": "d\n"}, ("ab", "c")),
    ({"trainval": "a\nb\n", "test": "d"}, ("ab", "d")),
    ({"trainval": "a\nb\nc\n", "val": "c"}, ("ab", "c")),
    ({"training": "a\nb\n", "dev": "c", "test": "d"}, ("ab", "c")),
    ({"training": "a\nb\n", "test_val": "c\nd"}, ("ab", "cd")),
    ({"default": "a\nb\n", "val": "c"}, ("ab", "c")),
    ({"Train": "a\nb\n", "Validation": "c", "VAL": "d"}, ("ab", "d")),
    ({"train": "a\nb\n", "val": "", "test": "d"}, ("ab", "d")),
    ({"train": "a\na\nb\n", "val": "c\n"}, ("ab", "c")),
    ({"train": "a\nb", "val": "c", "cat_train": "a  1\nb -1", "cat_val": "nowhere -1"}, ("ab", "c")),
])
def test_lists_tell_the_splits(tmp_path: Path, lists: dict[str, str], expected: tuple[str, str]) -> None:
    manifest = run(put(tmp_path, "abcd", **lists))
    assert letters(manifest) == expected
    assert all(text == f"Annotations/{Path(image).stem}.xml" for images in pairs(manifest).values()
               for image, text in images.items())


@pytest.mark.parametrize("rows", [
    "a\r\n\r\nb\r\n", "\ufeffa\nb", "  a \n\n\tb\n\n", "a.jpg\nb.xml", "JPEGImages/a.jpg\nJPEGImages/b", "a 1\nb -1",
    "a\t0\nb  1", "/home/me/set/JPEGImages/a.jpg\nC:\\set\\JPEGImages\\b.jpg", "../x/a.jpg\n/elsewhere/b.jpg", "a\rb",
])
def test_rows_of_a_list_are_understood_as_tools_write_them(tmp_path: Path, rows: str) -> None:
    assert letters(run(put(tmp_path, "abc", train=rows, val="c"))) == ("ab", "c")


def test_a_list_in_utf_16_is_read(tmp_path: Path) -> None:
    assert letters(run(put(tmp_path, "abc", train="a\nb".encode("utf-16"), val="c"))) == ("ab", "c")


def test_names_may_have_spaces_dots_and_folders(tmp_path: Path) -> None:
    names = ("holiday 1", "holiday 0", "v1.5", "cam 2/x y", "ein Bär")
    plant(tmp_path, *(f"JPEGImages/{name}.JPEG" for name in names), *(f"Annotations/{name}.xml" for name in names),
          texts={f"{MAIN}/default.txt": "\n".join(names[:2]), f"{MAIN}/test.txt": "\n".join(names[2:])})
    found = pairs(run(tmp_path))
    assert found["train"] == {f"JPEGImages/{name}.JPEG": f"Annotations/{name}.xml" for name in sorted(names[:2])}
    assert found["val"] == {f"JPEGImages/{name}.JPEG": f"Annotations/{name}.xml" for name in sorted(names[2:])}


@pytest.mark.parametrize("image", ["JPEGImages/{}.PNG", "images/{}.jpeg", "Annotations/{}.jpg", "jpegimages/{}.bmp"])
def test_the_image_of_an_xml_file_is_found(tmp_path: Path, image: str) -> None:
    plant(tmp_path, "Annotations/a.xml", "Annotations/b.xml", image.format("a"), image.format("b"),
          texts={f"{MAIN}/train.txt": "a", f"{MAIN}/val.txt": "b"})
    assert pairs(run(tmp_path)) == {"train": {image.format("a"): "Annotations/a.xml"},
                                    "val": {image.format("b"): "Annotations/b.xml"}}


def test_without_lists_a_share_becomes_val(tmp_path: Path) -> None:
    put(tmp_path, "abcdefghijklmnopqrst")
    train, val = letters(run(tmp_path, val_fraction=0.3))
    assert sorted(train + val) == list("abcdefghijklmnopqrst")
    assert 1 <= len(val) <= 12
    put(tmp_path, "uvwxyz")
    assert set(letters(run(tmp_path, val_fraction=0.3))[1]) >= set(val)


def test_a_list_for_train_alone_is_split(tmp_path: Path) -> None:
    train, val = letters(run(put(tmp_path, "abcdefgh", train="a\nb\nc\nd\n")))
    assert sorted(train + val) == list("abcd")
    assert train
    assert val


def test_masks_are_no_images_of_xml_files(tmp_path: Path) -> None:
    put(tmp_path, "ab", train="a", val="b")
    plant(tmp_path, "SegmentationClass/a.png", "ImageSets/Segmentation/train.txt")
    assert letters(run(tmp_path)) == ("a", "b")


def test_two_years_beside_each_other_are_both_used(tmp_path: Path) -> None:
    for year, names in (("2007", "abc"), ("2012", "def")):
        put(tmp_path / f"VOCdevkit/VOC{year}", names, train="\n".join(names[:2]), val=names[2])
    manifest = run(tmp_path)
    assert letters(manifest) == ("abde", "cf")
    assert len(manifest.splits["train"]) == 2
    assert all(manifest.path(name).is_file() for name in manifest.files)
    assert pairs(run(tmp_path / "VOCdevkit"))["val"]["VOC2012/JPEGImages/f.jpg"] == "VOC2012/Annotations/f.xml"


def test_the_real_blood_cells_are_listed(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    manifest = run(shared_data / "voc-bccd.zip")
    assert {split: len(manifest.images(split)) for split in manifest.splits} == {"train": 205, "val": 87}
    assert len(manifest.files) == 364 + 292  # all images of the folder, and the XML files of two splits
    assert class_names(manifest) == {}


@pytest.mark.parametrize("last", ["valid", "test"])
def test_roboflow_s_folders_tell_the_splits(tmp_path: Path, last: str) -> None:
    plant(tmp_path, "README.roboflow.txt", "train/a.jpg", "train/a.xml", "train/b.jpg", "train/b.xml", f"{last}/c.jpg",
          f"{last}/c.xml")
    assert pairs(run(tmp_path)) == {"train": {"train/a.jpg": "train/a.xml", "train/b.jpg": "train/b.xml"},
                                    "val": {f"{last}/c.jpg": f"{last}/c.xml"}}


def test_test_is_left_where_there_is_val(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{split}/{kind}" for split in ("train", "val", "test") for kind in ("a.jpg", "a.xml")))
    manifest = run(tmp_path)
    assert list(pairs(manifest)["val"]) == ["val/a.jpg"]
    assert "test/a.jpg" not in manifest.files


@pytest.mark.parametrize(("image", "text"), [("JPEGImages/{}/1.jpg", "Annotations/{}/1.xml"), ("images/{}/1.jpg",
                                             "annotations/{}/1.xml"), ("{}/JPEGImages/1.jpg", "{}/Annotations/1.xml"),
                                             ("{}/images/1.png", "{}/annotations/1.xml")])
def test_folders_of_splits_may_be_on_either_side(tmp_path: Path, image: str, text: str) -> None:
    plant(tmp_path, *(place.format(word) for place in (image, text) for word in ("train", "val")))
    assert pairs(run(tmp_path)) == {word: {image.format(word): text.format(word)} for word in ("train", "val")}


def test_images_with_their_xml_files_in_one_folder_are_split(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "1.xml", "2.jpg", "2.xml", "unlabelled.jpg", "build.xml")
    assert sorted(image for images in pairs(run(tmp_path)).values() for image in images) == ["1.jpg", "2.jpg"]


def test_an_image_outside_all_splits_is_named(tmp_path: Path) -> None:
    plant(tmp_path, "train/a.jpg", "train/a.xml", "val/b.jpg", "val/b.xml", "more/c.jpg", "more/c.xml")
    with pytest.raises(InputError, match=r"1 image in no split, such as 'more/c\.jpg'; others are in folders"):
        run(tmp_path)


def test_splits_without_train_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "val/a.jpg", "val/a.xml", "test/b.jpg", "test/b.xml")
    with pytest.raises(InputError, match=r"no folder train/, but test, val; train is needed"):
        run(tmp_path)


def test_an_image_without_an_xml_file_is_left_out_unless_a_list_names_it(tmp_path: Path) -> None:
    put(tmp_path, "abc", train="a\nb\nx", val="c")
    plant(tmp_path, "JPEGImages/x.jpg", "JPEGImages/y.jpg")
    manifest = run(tmp_path)
    assert letters(manifest) == ("abx", "c")
    assert manifest.splits["train"][0].pairs["JPEGImages/x.jpg"] == "Annotations/x.xml"  # validate tells that it is gone
    assert "JPEGImages/y.jpg" in manifest.files


@pytest.mark.parametrize("home", ["JPEGImages", "images"])
def test_an_xml_file_without_an_image_is_kept_for_validate(tmp_path: Path, home: str) -> None:
    plant(tmp_path, f"{home}/a.jpg", f"{home}/b.jpg", "Annotations/a.xml", "Annotations/b.xml", "Annotations/x.xml",
          texts={f"{MAIN}/train.txt": "a\nx", f"{MAIN}/val.txt": "b"})
    manifest = run(tmp_path)
    assert pairs(manifest)["train"] == {f"{home}/a.jpg": "Annotations/a.xml", f"{home}/x.jpg": "Annotations/x.xml"}
    assert f"{home}/x.jpg" not in manifest.files
    assert "Annotations/x.xml" in manifest.files


def test_an_xml_file_without_an_image_in_the_folder_of_a_split_is_kept_for_validate_too(tmp_path: Path) -> None:
    plant(tmp_path, *(f"{split}/{file}" for split in ("train", "valid") for file in ("a.jpg", "a.xml")), "train/x.xml",
          "x/y.xml")
    assert pairs(run(tmp_path))["train"] == {"train/a.jpg": "train/a.xml", "train/x.jpg": "train/x.xml"}


def test_listed_names_without_any_file_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "abc", train="a\nb\nx\ny z", val="c")
    with pytest.raises(InputError, match=r"train\.txt: 2 names without an image and an XML file, the first is 'x'"):
        run(tmp_path)


def test_a_listed_name_is_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    plant(tmp_path, "secret.jpg", "secret.xml")
    put(tmp_path / "set", "ab", train="a\n../../secret", val="b")
    with pytest.raises(InputError, match=r"the first is '\.\./\.\./secret'"):
        run(tmp_path / "set")


def test_two_images_with_one_name_are_both_named(tmp_path: Path) -> None:
    plant(put(tmp_path, "ab", train="a", val="b"), "JPEGImages/a.png")
    with pytest.raises(InputError, match=r"'JPEGImages/a\.jpg' and 'JPEGImages/a\.png' have the same name"):
        run(tmp_path)


def test_lists_of_single_classes_alone_are_not_enough(tmp_path: Path) -> None:
    put(tmp_path, "ab", cat_train="a 1\nb -1")
    with pytest.raises(InputError, match=r"no list of the images for train, .*; there are ImageSets/Main/cat_train\.txt\. Add"):
        run(tmp_path)


def test_xml_files_without_any_image_are_named(tmp_path: Path) -> None:
    plant(tmp_path, "Annotations/a.xml", "images/b.jpg")
    with pytest.raises(InputError, match=r"none of 1 XML files has an image \(such as 'Annotations/a\.xml'\)"):
        run(tmp_path)


@pytest.mark.parametrize("lists", [{}, {"train": "a"}])
def test_a_split_without_images_is_named(tmp_path: Path, lists: dict[str, str]) -> None:
    put(tmp_path, "ab" if lists else "a", **lists)
    with pytest.raises(InputError, match=r"no images for val; train and val need at least one each"):
        run(tmp_path)


@pytest.mark.parametrize(("file", "text"), [
    ("labels.txt", "dog\nBACKGROUND\ncat \n\n"), ("labels.txt", "BACKGROUND, dog, cat"), ("labels.txt", "\ufeffdog\r\ncat\r\n"),
    ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:1,2,3::\ncat:4,5,6::\n")])
def test_class_names_come_in_the_order_of_their_file(tmp_path: Path, file: str, text: str) -> None:
    plant(put(tmp_path, "ab", train="a", val="b"), texts={file: text})
    manifest = run(tmp_path)
    assert list(class_names(manifest).items()) == [("dog", "dog"), ("cat", "cat")]
    assert file in manifest.files


def test_class_names_further_up_are_those_of_all_sets_without_their_own(tmp_path: Path) -> None:
    for year in ("VOC2007", "VOC2012"):
        put(tmp_path / year, "ab", train="a", val="b")
    plant(tmp_path, texts={"labels.txt": "dog\ncat", "VOC2012/labels.txt": "cow"})
    assert [list(part.class_names) for part in run(tmp_path).splits["val"]] == [["dog", "cat"], ["cow"]]


@pytest.mark.parametrize(("text", "fault"), [("dog\ncat\ndog", "classes 0 and 2 are both called 'dog'"),
                                             ("BACKGROUND\n", "no class names"), (b"\xff\xfe\xff", "is not UTF-16"),
                                             (b"d\xf6g", "byte 1 is not UTF-8")])
def test_a_fault_in_the_class_names_is_named(tmp_path: Path, text: str | bytes, fault: str) -> None:
    plant(put(tmp_path, "ab", train="a", val="b"), texts={"labels.txt": text})
    with pytest.raises(InputError, match=rf"labels\.txt: .*{fault}"):
        run(tmp_path)


@given(st.binary(max_size=40) | st.text("ab./\\:-01 \n\r\t", max_size=40).map(str.encode))
def test_any_list_and_any_class_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    plant(put(tmp_path, "ab", train=content, val="b"), texts={"labels.txt": content})
    try:
        found = "".join(letters(run(tmp_path)))
    except InputError as error:
        found = str(error)
    assert found in ("ab", "abb", "bb") or str(tmp_path.resolve()) in found


@pytest.mark.parametrize(("image", "xml"), [("img/{}.jpg", "xml/{}.xml"), ("images/{}.jpg", "{}.xml"),
                                            ("JPEGImages/{}.jpg", "Annotations/{}.jpg.xml")])
def test_labels_of_another_place_or_spelling_are_matched_by_their_name(tmp_path: Path, image: str, xml: str) -> None:
    found = pairs(run(plant(tmp_path, *(form.format(name) for form in (image, xml) for name in "abcdef"))))
    assert len(found["train"]) + len(found["val"]) == 6
    assert all(Path(name).stem == Path(text).name.partition(".")[0] for side in found.values() for name, text in side.items())
