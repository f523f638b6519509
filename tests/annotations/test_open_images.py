"""The Open Images format: boxes become pixels of the images that exist, a broken line is named."""

import io
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import damaged, fault_of
from support.label_sets import add_image, add_text, manifest_of, named_boxes

from ssd_lib.annotations.open_images import OpenImagesRow, parse_file, read_parts
from ssd_lib.annotations.table import Annotations, Category
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Part

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
NAMES = {"/m/dog": "Dog", "/m/cat": "Cat", "/m/car": "Car"}
SOUND = (HEADER + "a,xclick,/m/dog,1,0.1,0.5,0.2,1.0,0,0,1,0,0\nb,xclick,/m/cat,1,0,1,0,1,0,0,0,1,-1\n").encode()


def parse(text: str | bytes) -> list[OpenImagesRow | None]:
    return list(parse_file(io.BytesIO(text if isinstance(text, bytes) else text.encode()), "a.csv"))


def line(image: str, label: str, corners: str = "0,1,0,1", group: str = "0", depiction: str = "0") -> str:
    return f"{image},xclick,{label},1,{corners},0,0,{group},{depiction},0\n"


def a_part(root: Path, split: str, images: list[str], *lines: str, depictions: bool = True) -> Part:
    """Return a part of images of 100 x 50 pixels, below a folder of the name of the split."""
    for image in images:
        add_image(root, f"{split}/{image}", (100, 50))
    add_text(root, f"{split}.csv", HEADER + "".join(lines))
    return Part(format="open_images", images=split, annotations=f"{split}.csv", class_names=NAMES, depictions=depictions)


def read(manifest: Manifest, split: str = "train") -> Annotations:
    found = read_parts(manifest)[split, 0]
    assert found.faults == ()
    return found.annotations


def test_a_line_is_an_image_a_label_and_four_sides() -> None:
    assert parse(SOUND) == [OpenImagesRow(2, "a", "/m/dog", 0.1, 0.5, 0.2, 1.0, True, False),
                            OpenImagesRow(3, "b", "/m/cat", 0, 1, 0, 1, False, True)]


def test_columns_come_in_any_order_and_flags_may_be_absent() -> None:
    text = "YMax,ClassName,XMin,LabelName,YMin,ImageID,XMax\n1.0,\"Dog, hot\",0.1,/m/dog,0.2,a,0.5\n"
    assert parse(text) == [OpenImagesRow(2, "a", "/m/dog", 0.1, 0.5, 0.2, 1.0, False, False)]


def test_a_class_name_stands_in_for_a_label() -> None:
    assert parse(SOUND.replace(b"LabelName", b"ClassName")) == parse(SOUND)


@pytest.mark.parametrize(("flag", "is_group"), [("1", True), ("1.0", True), ("0", False), ("-1", False), ("", False),
                                                ("True", True),
                                                ("false", False)])
def test_a_flag_that_is_not_known_is_false(flag: str, is_group: bool) -> None:
    row, = parse(HEADER + line("a", "/m/dog", group=flag))
    assert row is not None
    assert row.is_group is is_group


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + SOUND, SOUND.replace(b"\n", b"\r\n"), SOUND.replace(b"\n", b"\r"),
                                  SOUND.rstrip(), SOUND.replace(b"xclick", b"\xff\xfe")])
def test_byte_order_marks_line_ends_and_strange_bytes_elsewhere_make_no_difference(data: bytes) -> None:
    assert parse(data) == parse(SOUND)


def test_empty_lines_are_counted_and_passed_over() -> None:
    rows = parse(HEADER + "\n" + line("a", "/m/dog") + "\n\n" + line("b", "/m/dog"))
    assert [row and (row.line, row.image_id) for row in rows] == [(3, "a"), (6, "b")]


def test_what_is_not_finite_passes_for_the_checks_to_name() -> None:
    row, = parse(HEADER + line("a", "/m/dog", "nan,-inf,1e400," + "9" * 400))
    assert row is not None
    assert math.isnan(row.xmin)
    assert row[4:7] == (-math.inf, math.inf, math.inf)


def test_rows_of_images_that_are_not_wanted_are_not_looked_at() -> None:
    text = HEADER + "a,broken\n" + line("b", "/m/dog")
    rows = list(parse_file(io.BytesIO(text.encode()), "a.csv", wanted={"b"}))
    assert [row and row.image_id for row in rows] == [None, "b"]


@pytest.mark.parametrize(("text", "error"), [
    ("", "line 1 names no column ImageID, LabelName, XMin, XMax, YMin, YMax, but 'none'; needed are"),
    (HEADER.replace("XMax", "xmax"), "line 1 names no column XMax, but 'ImageID, Source, LabelName, "),
    (HEADER.replace("LabelName", "Label"), "line 1 names no column LabelName"),
    (SOUND.decode().encode("utf-16"), "line 1 names no column ImageID"),
    (b"PK\x03\x04\0\0\xff", "line 1 names no column ImageID"),
    (HEADER + line("a", "/m/dog") + "b,xclick,/m/dog,1,0.1,0.5", "line 3 has 6 fields; the columns of line 1 need 12"),
    (HEADER + line("a", "/m/dog", "0,half,0,1"), "line 2 has XMax 'half'; it must be a number"),
    (HEADER + line("a", "/m/dog", "0,1,,1"), "line 2 has YMin ''; it must be a number"),
    (HEADER + line("a", "/m/dog", "0,1,0,1_0"), "line 2 has YMax '1_0'"),
    (HEADER + "\n" + line("a", "/m/dog", group="yes"), "line 3 has IsGroupOf 'yes'; it must be a number"),
    (HEADER + "a" * 200_000, "line 2: not CSV: field larger than field limit"),
    (HEADER + '"' + line("a", "/m/dog") * 5000, r"line \d+: not CSV: field larger than field limit"),
])
def test_a_broken_line_is_named_with_what_it_has(text: str | bytes, error: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.csv: {error}"):
        parse(text)


@given(damaged(SOUND) | st.binary(max_size=60).map(HEADER.encode().__add__) | st.binary(max_size=60))
def test_no_bytes_make_the_parser_itself_fail(data: bytes) -> None:
    assert not fault_of(lambda data, where: list(parse_file(io.BytesIO(data), where)), data)


def test_shares_become_pixels_and_groups_crowds(tmp_path: Path) -> None:
    part = a_part(tmp_path, "train", ["b.png", "a.png"], line("b", "/m/dog", "0.1,0.5,0.2,1.0"),
                  line("a", "/m/cat", "0.333333,1,0,1", group="1"), line("b", "/m/dog"))
    found = read(manifest_of(tmp_path, train=part))
    assert named_boxes(found) == [("train/b.png", "Dog", [10, 10, 40, 40], False),
                                  ("train/a.png", "Cat", [33.333, 0, 66.667, 50], True),
                                  ("train/b.png", "Dog", [0, 0, 100, 50], False)]
    assert (found.images.file_names, found.images.ids.tolist()) == (("train/a.png", "train/b.png"), [1, 2])
    assert found.images.sizes.tolist() == [[100, 50], [100, 50]]
    assert found.name_box(2, found.image_indices()[2]) == "'train.csv': line 4"


def test_rows_of_absent_images_are_counted_and_images_without_rows_have_no_objects(tmp_path: Path) -> None:
    lines = [line("elsewhere", "/m/dog"), line("b", "/m/dog"), line("x", "/m/cat")]
    part = a_part(tmp_path, "train", ["a.JPG", "sub/b.png"], *lines)
    add_text(tmp_path, "train/notes.txt", "no image")
    add_image(tmp_path, "training/x.png", (5, 5))
    found = read(manifest_of(tmp_path, train=part))
    assert found.images.file_names == ("train/a.JPG", "train/sub/b.png")
    assert found.info == {"rows_of_absent_images": "2"}
    assert named_boxes(found) == [("train/sub/b.png", "Dog", [0, 0, 100, 50], False)]


def test_image_ids_may_have_the_suffix_of_the_image_but_must_be_of_some_image(tmp_path: Path) -> None:
    part = a_part(tmp_path, "train", ["a.JPG"], line("a.JPG", "/m/dog"), line("x", "/m/dog"))
    assert named_boxes(read(manifest_of(tmp_path, train=part))) == [("train/a.JPG", "Dog", [0, 0, 100, 50], False)]
    part = a_part(tmp_path, "train", ["a.JPG"], line("A-1", "/m/dog"), line("x", "/m/dog"))
    with pytest.raises(InputError, match=r"train\.csv: none of its 2 rows is of an image in train/; .* such as 'a'"):
        read(manifest_of(tmp_path, train=part))


def test_depictions_are_dropped_where_they_do_not_count(tmp_path: Path) -> None:
    lines = [line("a", "/m/dog", depiction=flag) for flag in ("0", "1", "-1")]
    for depictions, lines_kept in ((True, [2, 3, 4]), (False, [2, 4])):
        found = read(manifest_of(tmp_path, train=a_part(tmp_path, "train", ["a.png"], *lines, depictions=depictions)))
        assert found.source_lines is not None
        assert found.source_lines.tolist() == lines_kept


def test_classes_are_those_with_an_object_in_any_split(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, train=a_part(tmp_path, "train", ["a.png"], line("a", "/m/dog"), line("absent", "/m/car")),
                           val=a_part(tmp_path, "val", ["b.png"], line("b", "/m/cat"), line("b", "/m/dog")))
    for split, names in (("train", ["Dog"]), ("val", ["Cat", "Dog"])):
        found = read(manifest, split)
        assert found.categories == (Category(1, "Cat", 1), Category(2, "Dog", 2))
        assert [name for _, name, *_ in named_boxes(found)] == names


def test_classes_that_are_asked_for_are_there_without_an_object(tmp_path: Path) -> None:
    part = a_part(tmp_path, "train", ["a.png"], line("a", "/m/dog"), line("a", "/m/cat"))
    found = read(manifest_of(tmp_path, classes=("Dog", "Car", "Zebra"), train=part))
    assert [category.name for category in found.categories] == ["Car", "Cat", "Dog"]  # `reading` takes the cat away


def test_an_unknown_label_has_no_class(tmp_path: Path) -> None:
    part = a_part(tmp_path, "train", ["a.png"], line("a", "/m/zebra"), line("a", "/m/dog"), line("a", "Cat"))
    assert read(manifest_of(tmp_path, train=part)).boxes.category_ids.tolist() == [-1, 2, 1]


def test_two_images_of_one_id_share_it_for_the_checks_to_name(tmp_path: Path) -> None:
    found = read(manifest_of(tmp_path, train=a_part(tmp_path, "train", ["a.jpg", "a.png", "b.png"], line("a", "/m/dog"))))
    assert found.images.ids.tolist() == [1, 1, 3]
    assert named_boxes(found) == [("train/a.jpg", "Dog", [0, 0, 100, 50], False)]


def test_an_image_without_a_size_has_no_boxes(tmp_path: Path) -> None:
    part = a_part(tmp_path, "train", ["a.png"], line("b", "/m/dog"), line("a", "/m/dog"))
    add_text(tmp_path, "train/b.jpg", "no image")
    found = read(manifest_of(tmp_path, train=part))
    assert (found.images.sizes.tolist(), found.boxes.image_ids.tolist()) == ([[100, 50], [0, 0]], [1])


def test_a_broken_file_stops_the_reading_and_is_named(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, train=a_part(tmp_path, "train", ["a.png"], line("a", "/m/dog", "0,0,0,x")),
                           val=a_part(tmp_path, "val", ["b.png"]))
    for split in ("train", "val"):  # val's classes are train's, too
        with pytest.raises(InputError, match=r"train\.csv: line 2 has YMax 'x'"):
            read(manifest, split)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(InputError, match=r"train\.csv: cannot be read: No such file"):
        read(manifest)


def test_a_split_without_images_or_rows_is_empty(tmp_path: Path) -> None:
    found = read(manifest_of(tmp_path, train=a_part(tmp_path, "train", [])))
    assert (len(found.images), len(found.boxes), found.categories) == (0, 0, ())


def test_real_images_have_the_boxes_that_their_file_counts(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "open-images-mini", tmp_path / "set")
    lines = (tmp_path / "set/class-descriptions-boxable.csv").read_text().splitlines()
    names = {label: name for label, _, name in (row.partition(",") for row in lines)}
    manifest = manifest_of(tmp_path / "set", **{split: Part(
        format="open_images", images=split, annotations=f"{split}-annotations-bbox.csv", class_names=names)
        for split in ("train", "validation", "test")})
    found = {split: read(manifest, split) for split in manifest.splits}
    assert [(len(part.images), len(part.boxes), int(part.boxes.is_crowd.sum())) for part in found.values()] == [
        (10, 80, 1), (4, 26, 0), (4, 42, 2)]
    assert len({part.categories for part in found.values()}) == 1
    # 640 x 480 pixels; XMin, XMax, YMin, YMax of the first line are 0.016859, 0.107859, 0.067979, 0.420792
    assert named_boxes(found["train"])[0] == ("train/0000000000001389.jpg", "Person", [10.79, 32.63, 58.24, 169.35], False)
