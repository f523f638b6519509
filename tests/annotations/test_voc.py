"""The VOC format: boxes become pixels that count from 0, broken or harmful XML is refused with its place."""

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import damaged, fault_of
from support.label_sets import add_image, add_text, manifest_of, named_boxes

from ssd_lib.annotations.table import Annotations, Category
from ssd_lib.annotations.voc import VocRow, parse_file, read_parts
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Part


def an_object(name: str, corners: tuple[object, ...], rest: str = "") -> str:
    sides = "".join(f"<{side}>{at}</{side}>" for side, at in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name>{rest}<bndbox>{sides}</bndbox></object>"


def a_file(*objects: str, size: str = "<size><width>100</width><height>50</height><depth>3</depth></size>") -> str:
    return f"<annotation><filename>other.jpg</filename>{size}{''.join(objects)}</annotation>"


DOG = an_object("dog", (11, 21, 30, 40))
SOUND = a_file(DOG, an_object(" traffic  light ", (1, 1.5, 100, 50), "<difficult>1</difficult>")).encode()


def parse(text: str | bytes) -> tuple[VocRow, ...]:
    return parse_file(text if isinstance(text, bytes) else text.encode(), "a.xml").rows


def a_part(root: Path, folder: str, names: dict[str, str] | None = None, /, **labels: str | None) -> Part:
    """Return a part of images of 100 x 50 pixels with these labels; None is no label file."""
    for name, text in labels.items():
        add_image(root, f"{folder}/{name}.png", (100, 50))
        if text is not None:
            add_text(root, f"{folder}/{name}.xml", text)
    return Part(format="voc", class_names=names or {}, pairs={
        f"{folder}/{name}.png": "" if text is None else f"{folder}/{name}.xml" for name, text in labels.items()})


def read(manifest: Manifest, split: str = "train") -> Annotations:
    found = read_parts(manifest)[split, 0]
    assert found.faults == ()
    return found.annotations


def test_an_object_is_a_name_and_four_corners() -> None:
    assert parse_file(SOUND, "a.xml").size == (100, 50)
    assert parse(SOUND) == (VocRow("dog", 11, 21, 30, 40, False), VocRow("traffic  light", 1, 1.5, 100, 50, True))


def test_of_a_person_with_parts_the_person_counts() -> None:
    head = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>"
    assert parse(a_file(an_object("person", (11, 21, 30, 40), head))) == (VocRow("person", 11, 21, 30, 40, False),)


@pytest.mark.parametrize(("text", "is_difficult"), [
    ("<difficult>1</difficult>", True), ("<difficult> True\n</difficult>", True),
    ("", False), ("<difficult/>", False), ("<difficult>0</difficult>", False), ("<difficult>Unspecified</difficult>", False)])
def test_difficult_is_what_says_so(text: str, is_difficult: bool) -> None:
    assert parse(a_file(an_object("dog", (1, 2, 3, 4), text)))[0].is_difficult is is_difficult


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>0</height></size>",
                                  "<size><width>100</width></size>"])
def test_a_file_need_not_know_the_size_of_its_image(size: str) -> None:
    assert parse_file(a_file(size=size).encode(), "a.xml").size is None


def test_what_is_not_finite_passes_for_the_checks_to_name() -> None:
    row, = parse(a_file(an_object("dog", ("nan", "-inf", "1e400", "9" * 400))))
    assert math.isnan(row.xmin)
    assert row[2:5] == (-math.inf, math.inf, math.inf)


@pytest.mark.parametrize("data", [
    SOUND, b"\xef\xbb\xbf" + SOUND, SOUND.decode().encode("utf-16"), SOUND.replace(b"><", b">\r\n\t<"),
    SOUND.replace(b"><", b">\r<"), b'<?xml version="1.0" encoding="utf-8"?>\n<!-- by hand -->' + SOUND,
    b'<?xml version="1.0" encoding="windows-1252"?>' + SOUND])
def test_encodings_byte_order_marks_and_line_ends_make_no_difference(data: bytes) -> None:
    assert parse_file(data, "a.xml") == parse_file(SOUND, "a.xml")


def test_names_keep_their_characters() -> None:
    assert parse(a_file(an_object("Würfel &amp; Köpfe", (1, 2, 3, 4))))[0].name == "Würfel & Köpfe"
    latin = '<?xml version="1.0" encoding="latin-1"?>' + a_file(an_object("Würfel", (1, 2, 3, 4)))
    assert parse(latin.encode("latin-1"))[0].name == "Würfel"


@pytest.mark.parametrize(("data", "error"), [
    (b"", "line 1, column 1: not XML: no element found"),
    (b"<annotation>\n  <obje", "line 2, column 3: not XML: unclosed token"),
    (b"<annotation>\n<object></annotation>", "line 2, column 11: not XML: mismatched tag"),
    (b"<annotation>\n a\0b</annotation>", "line 2, column 3: not XML: not well-formed"),
    (b"<annotation>\xff</annotation>", "line 1, column 13: not XML: not well-formed"),
    (b"<annotation>&amp;&dog;</annotation>", "line 1, column 18: not XML: undefined entity"),
    (b'<?xml version="1.0" encoding="nonsense"?>' + SOUND, r"line 1, column 31: its encoding 'nonsense' cannot be read "
                                                           r"\(unknown enc"),
    (b'<?xml version="1.0" encoding="gbk"?>' + SOUND, r"line 1, column 31: its encoding .*\(multi-byte encodings are not"),
    (b'<?xml version="1.0" encoding="hex"?>' + SOUND, "line 1, column 31: its encoding 'hex' cannot be read"),
    (b"\x89PNG\r\n\x1a\n", "line 1, column 1: not XML"),
    (b"<html><body/></html>", "its root is <html>; VOC's is <annotation>"),
])
def test_what_is_not_voc_is_refused_with_its_place(data: bytes, error: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.xml: {error}"):
        parse(data)


@pytest.mark.parametrize(("text", "error"), [
    (a_file(DOG, an_object(" ", (1, 2, 3, 4))), "object 2 has no name; every object needs one"),
    (a_file(DOG, "<object/>"), "object 2 has no name"),
    (a_file(DOG, an_object("cat", (1, 2, "", 4))), "object 2 'cat': bndbox/xmax is ''; it must be a number of pixels"),
    (a_file(an_object("cat", (1, "two", 3, 4))), "object 1 'cat': bndbox/ymin is 'two'; it must be"),
    (a_file(an_object("cat", (1, "1_0", 3, 4))), "object 1 'cat': bndbox/ymin is '1_0'"),
    (a_file(DOG.replace("ymax", "ymin")), "object 1 'dog' has no bndbox/ymax; a box needs xmin, ymin, xmax, ymax"),
    (a_file("<object><name>dog</name><polygon><x1>1</x1></polygon></object>"),
     r"object 1 'dog' has no bndbox \(it has name, polygon\); objects need a box\. Export rectangles"),
    (a_file(size="<size><width>wide</width></size>"), "size/width is 'wide'; it must be a whole number of pixels, or 0"),
    (a_file(size=f"<size><width>1</width><height>{10**400}</height></size>"), "size/height is '10{58}; it must be"),
    (a_file(size="<size><width>-5</width></size>"), "size/width is '-5'"),
    (a_file(size="<size><width>1.5</width></size>"), "size/width is '1.5'"),
    (a_file(size="<size><width>nan</width></size>"), "size/width is 'nan'"),
])
def test_a_broken_object_is_named_with_what_it_has(text: str, error: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.xml: {error}"):
        parse(text)


@pytest.mark.parametrize("head", [
    "<!DOCTYPE annotation>",
    '<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/evil.dtd">',
    '<!DOCTYPE a [<!ENTITY a "dog"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
    '<!DOCTYPE a [<!ENTITY file SYSTEM "file:///etc/passwd">]>',
    '<!DOCTYPE a [<!ENTITY % outside SYSTEM "http://127.0.0.1:9/evil.dtd"> %outside;]>',
])
def test_bombs_and_entities_from_elsewhere_are_refused_before_they_are_read(head: str) -> None:
    with pytest.raises(InputError, match=r"^a\.xml: line 2, column \d+: has a document type; .* Remove its <!DOCTYPE"):
        parse(f'<?xml version="1.0"?>\n{head}\n' + a_file(an_object("&c;&file;", (1, 2, 3, 4))))


def test_deep_nesting_is_no_matter() -> None:
    deep = "<a>" * 10_000 + "</a>" * 10_000
    assert len(parse(a_file(DOG, deep))) == 1
    with pytest.raises(InputError, match="no element found"):
        parse("<annotation>" * 10_000)
    with pytest.raises(InputError, match="object 1 has no name"):
        parse(a_file("<object>" * 10_000 + "</object>" * 10_000))


@given(damaged(SOUND) | damaged(b'<?xml version="1.0" encoding="utf-8"?>' + SOUND) | st.binary(max_size=60))
def test_no_bytes_make_the_parser_itself_fail(data: bytes) -> None:
    assert not fault_of(parse_file, data)


def test_boxes_that_count_from_1_include_both_ends(tmp_path: Path) -> None:
    part = a_part(tmp_path, "p", a=a_file(an_object("dog", (1, 1, 100, 50)), an_object("cat", (11, 21, 11, 40.5))))
    found = read(manifest_of(tmp_path, train=part))
    assert found.info == {"voc_pixels_from": "1"}
    assert named_boxes(found) == [("p/a.png", "dog", [0, 0, 100, 50], False), ("p/a.png", "cat", [10, 20, 1, 20.5], False)]
    assert np.isnan(found.boxes.areas).all()


def test_one_corner_at_0_in_any_split_makes_all_count_from_0(tmp_path: Path) -> None:
    train, val = a_part(tmp_path, "train", a=a_file(DOG)), a_part(tmp_path, "val", b=a_file(an_object("dog", (5, 0, 9, 9))))
    manifest = manifest_of(tmp_path, train=train, val=val)
    for split, box in (("train", [11, 21, 19, 19]), ("val", [5, 0, 4, 9])):
        found = read(manifest, split)
        assert found.info == {"voc_pixels_from": "0"}
        assert found.boxes.xywh.tolist() == [box]


def test_a_corner_that_is_not_finite_does_not_decide(tmp_path: Path) -> None:
    part = a_part(tmp_path, "p", a=a_file(an_object("dog", ("-inf", "nan", 9, 9)), DOG))
    assert read(manifest_of(tmp_path, train=part)).info == {"voc_pixels_from": "1"}


def test_swapped_corners_pass_for_the_checks_to_name(tmp_path: Path) -> None:
    part = a_part(tmp_path, "p", a=a_file(an_object("dog", (30, 21, 11, 40))))
    assert read(manifest_of(tmp_path, train=part)).boxes.xywh.tolist() == [[29, 20, -18, 20]]


def test_classes_are_the_names_that_any_split_has(tmp_path: Path) -> None:
    train, val = a_part(tmp_path, "train", a=a_file(DOG)), a_part(tmp_path, "val", b=a_file(an_object("Cat", (1, 2, 3, 4))))
    manifest = manifest_of(tmp_path, train=train, val=val)
    for split in ("train", "val"):
        assert read(manifest, split).categories == (Category(1, "Cat", 1), Category(2, "dog", 2))


def test_names_of_parts_that_give_theirs_and_of_other_formats_are_not_mixed_in(tmp_path: Path) -> None:
    named = a_part(tmp_path, "named", {"cat": "cat"}, a=a_file(an_object("cat", (1, 2, 3, 4))))
    add_text(tmp_path, "other/c.txt", a_file(an_object("bird", (0, 0, 3, 4))))
    parts = {"train": a_part(tmp_path, "train", b=a_file(DOG)), "val": named,
             "test": Part(format="yolo", pairs={"other/c.png": "other/c.txt"}, class_names={"0": "bird"})}
    found = read(manifest_of(tmp_path, **parts))
    assert ([category.name for category in found.categories], found.info) == (["dog"], {"voc_pixels_from": "1"})


def test_classes_that_are_given_keep_their_order_and_others_have_none(tmp_path: Path) -> None:
    objects = [an_object(name, (1, 2, 3, 4)) for name in ("cat", "dog", "Dog")]
    part = a_part(tmp_path, "p", {"dog": "dog", "cat": "cat"}, a=a_file(*objects))
    found = read(manifest_of(tmp_path, train=part))
    assert found.categories == (Category(1, "dog", 1), Category(2, "cat", 2))
    assert found.boxes.category_ids.tolist() == [2, 1, -1]


def test_sizes_come_from_the_labels_or_else_from_the_images(tmp_path: Path) -> None:
    part = a_part(tmp_path, "p", a=a_file(size="<size><width>7</width><height>8</height></size>"), b=a_file(size=""), c=None)
    add_text(tmp_path, "p/d.png", "no image")
    manifest = manifest_of(tmp_path, train=part.model_copy(update={"pairs": part.pairs | {"p/d.png": ""}}))
    assert read(manifest).images.sizes.tolist() == [[7, 8], [100, 50], [100, 50], [0, 0]]


def test_an_object_is_found_by_its_file_and_number(tmp_path: Path) -> None:
    part = a_part(tmp_path, "p", b=a_file(DOG, DOG), a=a_file(DOG), c=None)
    found = read(manifest_of(tmp_path, train=part))
    owners = found.image_indices().tolist()
    assert found.images.file_names == ("p/a.png", "p/b.png", "p/c.png")
    assert [found.name_box(row, owners[row]) for row in range(3)] == [
        "'p/a.xml': object 1", "'p/b.xml': object 1", "'p/b.xml': object 2"]


def test_a_broken_file_is_a_fault_of_its_split_alone_and_the_others_are_read(tmp_path: Path) -> None:
    train, val = a_part(tmp_path, "train", a=a_file(DOG), b="<annotation>", c=None), a_part(tmp_path, "val", d=a_file(DOG))
    manifest = manifest_of(tmp_path, train=train, val=val)
    (tmp_path / "train/c.png").rename(tmp_path / "train/e.png")  # an image that is gone, too
    found = read_parts(manifest)["train", 0]
    assert [(fault.kind, fault.subject, fault.image) for fault in found.faults] == [
        ("broken_labels", ("train", "train/b.png"), "train/b.png")]
    assert found.faults[0].text.startswith("train/b.xml: line 1, column 13: not XML: no element found")
    assert found.annotations.images.sizes.tolist() == [[100, 50], [100, 50], [0, 0]]
    assert [image for image, *_ in named_boxes(found.annotations)] == ["train/a.png"]
    assert len(read(manifest, "val").boxes) == 1


def test_real_blood_cells_are_read_as_their_files_say(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "voc-bccd.zip") as archive:
        archive.extractall(tmp_path)
    parts = {}
    for split in ("train", "val", "test"):
        names = (tmp_path / f"BCCD/ImageSets/Main/{split}.txt").read_text().split()
        pairs = {f"BCCD/JPEGImages/{name}.jpg": f"BCCD/Annotations/{name}.xml" for name in names}
        parts[split] = Part(format="voc", pairs=pairs)
    manifest = manifest_of(tmp_path, **parts)
    found = {split: read(manifest, split) for split in parts}
    assert [(len(part.images), len(part.boxes)) for part in found.values()] == [(205, 2805), (87, 1138), (72, 945)]
    assert {part.categories for part in found.values()} == {tuple(
        Category(number, name, number) for number, name in enumerate(["Platelets", "RBC", "WBC"], 1))}
    assert {part.info["voc_pixels_from"] for part in found.values()} == {"1"}
    first = next(row for row in named_boxes(found["val"]) if row[0].endswith("_00002.jpg"))
    assert first[1:] == ("RBC", [384, 97, 139, 101], False)  # 385 98 523 198
