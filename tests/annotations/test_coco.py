"""The COCO format: read exactly, refused with the place of the error, and written the same every time."""

import json
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import damaged, fault_of
from support.label_sets import add_image
from support.rows import Rows, flat, rows_of

from ssd_lib.annotations.coco import format_annotations, parse_file, read_annotations, read_parts, write_annotations
from ssd_lib.annotations.coco_json import normalise
from ssd_lib.annotations.table import Annotations, Box, Category, Image, ParsedPart, from_rows
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Part
from ssd_lib.validation.annotations import check_annotations

SMALL = Rows(
    (Image(9, "ä b.jpg", 64, 48), Image(4, "b.jpg", 10, 10)),
    (Box(70, 9, 18, 1.5, 2.0, 30.25, 40.1, 1000.5, False), Box(8, 9, 1, 0.0, 0.0, 64.0, 48.0, 12.0, True)),
    (Category(1, "person", 1), Category(18, "dog", 18)), {"source": "test"})

BOX_ROW = {"id": 70, "image_id": 9, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}


def tree(**changes: Any) -> dict[str, Any]:
    """Return a small valid file, as json.loads gives it, with some lists replaced."""
    return {"images": [{"id": 9, "file_name": "a.jpg", "width": 64, "height": 48}],
            "annotations": [BOX_ROW],
            "categories": [{"id": 18, "name": "dog"}], **changes}


def box_row(**changes: Any) -> dict[str, Any]:
    row = {**BOX_ROW, **changes}
    return {key: value for key, value in row.items() if value is not None}


def parse(content: Any) -> Annotations:
    return parse_file(json.dumps(content).encode(), "train.json")


def read_one(root: Path, content: Any) -> ParsedPart:
    """Read a file as the annotations of train, beside its images."""
    (root / "a.json").write_text(json.dumps(content), encoding="utf-8")
    manifest = Manifest(source="local", root=str(root), files={}, splits={"train": (Part(annotations="a.json"),)})
    return read_parts(manifest)["train", 0]


def first_box(content: Any) -> Box:
    return rows_of(parse(content)).boxes[0]


def test_written_annotations_are_read_back_equal(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", flat(SMALL))
    assert rows_of(read_annotations(tmp_path / "a.json")) == SMALL


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    write_annotations(tmp_path / "a.json", flat(SMALL))
    write_annotations(tmp_path / "b.json", read_annotations(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_an_empty_set_is_valid_json() -> None:
    text = b"".join(format_annotations(from_rows((), (), ())))
    assert json.loads(text) == {"info": {}, "images": [], "annotations": [], "categories": []}


def test_segmentations_are_dropped_and_missing_options_have_defaults() -> None:
    found = first_box(tree(annotations=[box_row(segmentation=[[1, 2, 3]], iscrowd=None, area=None)]))
    assert found[:8][:-1] == (70, 9, 18, 1.0, 2.0, 3.0, 4.0)
    assert math.isnan(found.area)
    assert found.is_crowd is False


def test_a_source_id_is_kept() -> None:
    assert parse(tree(categories=[{"id": 2, "name": "dog", "source_id": 18}])).categories == (Category(2, "dog", 18),)


def test_a_byte_order_mark_is_tolerated(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(tree()), encoding="utf-8-sig")
    assert len(read_annotations(tmp_path / "a.json").boxes) == 1


def test_nan_and_infinity_pass_the_parser() -> None:
    found = first_box(tree(annotations=[box_row(bbox=[math.nan, math.inf, -math.inf, 4])]))
    assert (math.isnan(found.x), found.y, found.width) == (True, math.inf, -math.inf)


@pytest.mark.parametrize(("text", "value"), [("1" + 30 * "0", 1e30), ("-1" + 400 * "0", -math.inf), (5000 * "9", math.inf)])
def test_whole_numbers_of_any_length_pass_in_a_box_and_none_above_64_bits_in_an_id(text: str, value: float) -> None:
    content = json.dumps(tree())
    box, = parse_file(content.replace("[1, 2,", f"[{text}, 2,").encode(), "train.json").boxes.xywh.tolist()
    assert box == [value, 2, 3, 4]
    with pytest.raises(InputError, match=r"^train\.json: Expected `int`.* - at `\$\.annotations\[0\]\.id`, .* at most 64 bits"):
        parse_file(content.replace('"id": 70', f'"id": {text}').encode(), "train.json")


def test_a_list_of_images_alone_is_accepted_only_when_asked() -> None:
    text = json.dumps({"images": tree()["images"], "categories": tree()["categories"]}).encode()
    assert len(parse_file(text, "test.json", boxes=False).images) == 1
    with pytest.raises(InputError, match=r"test\.json: Object missing required field `annotations`, where the file has "):
        parse_file(text, "test.json")


@pytest.mark.parametrize(("content", "message"), [
    ([box_row(score=0.9)], r"train\.json: Expected `object`, got `array`, .* Is it a file of detection results\?"),
    ({}, r"Object missing required field `images`, where the file has \{\}\. An instances file is an object with images"),
    (tree(images={}), r"Expected `array`, got `object` - at `\$\.images`"),
    (tree(images=[7]), r"Expected `object`, got `int` - at `\$\.images\[0\]`, where the file has 7\."),
    (tree(images=[{"id": 9, "width": 64}]),
     r"missing required field `file_name` - at `\$\.images\[0\]`, where the file has \{'id': 9, 'width': 64\}"),
    (tree(images=[{"id": True, "file_name": "a", "width": 1, "height": 1}]),
     r"Expected `int`, got `bool` - at `\$\.images\[0\]\.id`, where the file has True"),
    (tree(images=[{"id": 2**70, "file_name": "a", "width": 1, "height": 1}]), r"of at most 64 bits"),
    (tree(images=[{"id": 9, "file_name": 3, "width": 1, "height": 1}]),
     r"Expected `str`, got `int` - at `\$\.images\[0\]\.file_name`, where the file has 3"),
    (tree(images=[{"id": 9, "file_name": "\ud800", "width": 1, "height": 1}]),
     r"the name '\\ud800' contains a lone surrogate; names must be Unicode"),
    (tree(annotations=[box_row(bbox=None), box_row(bbox=[1, 2, 3], id=71)]),
     r"train\.json: 2 annotations, none of them with a bbox of four numbers; objects need a box\. Export it with boxes"),
    (tree(annotations=[{"id": 1, "image_id": 9, "caption": "a dog"}]),
     r"missing required field .* It holds captions: take the instances_"),
    (tree(categories=[{"id": 18}]), r"missing required field `name` - at `\$\.categories\[0\]`"),
])
def test_another_form_is_refused_with_the_place(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(content)


@pytest.mark.parametrize(("key", "value", "read"), [
    ("id", "70", 70), ("id", 70.0, 70), ("id", " 70 ", 70), ("image_id", "9", 9), ("image_id", "0009", 9),
    ("image_id", "9.0", 9),
    ("category_id", 18.0, 18), ("category_id", "18", 18), ("category_id", "dog", 18), ("iscrowd", "0", False),
    ("iscrowd", "1", True), ("iscrowd", "false", False), ("iscrowd", "True", True), ("iscrowd", "0.0", False),
    ("area", "12", 12.0),
])
def test_a_number_that_is_text_or_ends_in_0_is_read_and_told_once(tmp_path: Path, key: str, value: Any, read: object) -> None:
    sound = box_row(id=71, bbox=[0, 0, 5, 5])
    found = read_one(tmp_path, tree(annotations=[box_row(**{key: value}), sound]))
    row = rows_of(found.annotations).boxes[0]
    assert getattr(row, {"iscrowd": "is_crowd"}.get(key, key)) == read
    (fault,) = found.faults
    assert fault.kind == "inexact_numbers"
    assert fault.text == (f"a.json: 1 numbers are written as text or with a fraction of 0, the first is "
                          f"annotations[0].{key}: {value!r}")


def test_a_box_of_texts_is_read(tmp_path: Path) -> None:
    found = read_one(tmp_path, tree(annotations=[box_row(bbox=["1", "2.5", "3", " 4e0 "])]))
    assert found.annotations.boxes.xywh.tolist() == [[1, 2.5, 3, 4]]


def test_every_number_as_text_gives_one_warning_and_the_same_boxes(tmp_path: Path) -> None:
    text = json.loads(json.dumps(tree()), parse_int=str)
    found = read_one(tmp_path, text)
    plain = read_one(tmp_path, tree())
    assert (rows_of(found.annotations), len(found.faults)) == (rows_of(plain.annotations), 1)
    assert plain.faults == ()


@pytest.mark.parametrize("ids", [("a", "b"), ("1", "01"), ("7", 7), ("9c", "12")])
def test_ids_that_are_texts_are_numbered(tmp_path: Path, ids: tuple[Any, Any]) -> None:
    images = [{"id": one, "file_name": f"{at}.jpg", "width": 64, "height": 48} for at, one in enumerate(ids)]
    found = read_one(tmp_path, tree(images=images, annotations=[box_row(image_id=ids[1])])).annotations
    assert found.images.ids.tolist() == [1, 2]
    assert found.image_indices().tolist() == [1]


def test_an_area_of_null_is_no_area() -> None:
    assert math.isnan(first_box(tree(annotations=[{**BOX_ROW, "area": None}])).area)


@pytest.mark.parametrize("bbox", [None, [], [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, None, 4], [1, 2, "x", 4], "1 2 3 4", {"x": 1},
                                  [1, 2, True, 4]])
def test_an_annotation_without_a_box_is_a_fault_of_that_annotation(bbox: Any) -> None:
    odd = {key: value for key, value in {**BOX_ROW, "bbox": bbox, "id": 71}.items() if value is not None}
    found = parse(tree(annotations=[BOX_ROW, odd]))
    assert [(fault.kind, fault.text) for fault in check_annotations(found, "train")] == [
        ("no_box", "train: annotation 71 of 'a.jpg': its bbox is not a list of four numbers [x, y, width, height]")]


@pytest.mark.parametrize(("key", "value", "kind"), [
    ("image_id", None, "unknown_image"), ("image_id", "x", "unknown_image"), ("category_id", None, "unknown_category"),
    ("category_id", 18.5, "unknown_category"), ("category_id", "cow", "unknown_category")])
def test_an_annotation_of_no_image_or_class_is_a_fault_of_that_annotation(key: str, value: Any, kind: str) -> None:
    found = parse(tree(annotations=[BOX_ROW, {**BOX_ROW, "id": 71, key: value}]))
    assert [fault.kind for fault in check_annotations(found, "train")] == [kind]


@pytest.mark.parametrize("size",
                         [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"width": 64}, {"height": ""}])
def test_sizes_that_are_not_given_are_those_of_the_image_files(tmp_path: Path, size: dict[str, Any]) -> None:
    if size == {"height": ""}:
        size = {"width": "64", "height": "48"}  # given, as text
    add_image(tmp_path, "a.jpg", (64, 48))
    found = read_one(tmp_path, tree(images=[{"id": 9, "file_name": "a.jpg", **size}]))
    assert found.annotations.images.sizes.tolist() == [[64, 48]]
    kinds = [fault.kind for fault in found.faults]
    assert kinds == (["inexact_numbers"] if size.get("width") == "64" else ["sizes_of_images"])


def test_annotation_ids_that_are_unique_within_an_image_only_are_numbered_anew(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48} for number in (1, 2, 3)]
    boxes = [box_row(id=number, image_id=image) for image in (1, 2, 3) for number in (1, 2)]
    found = read_one(tmp_path, tree(images=images, annotations=boxes))
    assert found.annotations.boxes.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert [(fault.kind, fault.text) for fault in found.faults] == [
        ("renumbered_boxes", "a.json: 4 of 6 annotations have the id of one of another image; all are numbered from 1 in "
                             "their order")]
    twice = read_one(tmp_path, tree(images=images, annotations=[*boxes, boxes[-1] | {"bbox": [9, 9, 9, 9]}]))
    assert twice.annotations.boxes.ids.tolist() == [1, 2, 3, 4, 5, 6, 6]  # within an image it stays a fault


def test_one_id_for_all_annotations_is_no_id(tmp_path: Path) -> None:
    found = read_one(tmp_path, tree(images=[{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
                                    annotations=[box_row(id=0, image_id=image) for image in (1, 1, 2)]))
    assert found.annotations.boxes.ids.tolist() == [1, 2, 3]


def test_annotation_ids_that_are_texts_are_numbered(tmp_path: Path) -> None:
    found = read_one(tmp_path, tree(annotations=[box_row(id="5f1c"), box_row(id="07aa")]))
    assert found.annotations.boxes.ids.tolist() == [1, 2]
    assert "renumbered_boxes" in {fault.kind for fault in found.faults}


@pytest.mark.parametrize("missing", [(0,), (0, 1)])
def test_annotations_without_ids_are_numbered(tmp_path: Path, missing: tuple[int, ...]) -> None:
    boxes = [{key: value for key, value in BOX_ROW.items() if key != "id" or at not in missing} for at in (0, 1)]
    found = read_one(tmp_path, tree(annotations=boxes))
    assert (found.annotations.boxes.ids.tolist(), [fault.kind for fault in found.faults]) == ([1, 2], ["renumbered_boxes"])


def test_a_file_cut_short_is_refused_at_every_length() -> None:
    text = json.dumps(tree())
    for length in range(0, len(text) - 1, 7):
        with pytest.raises(InputError, match=r"train\.json: not JSON at line 1"):
            parse_file(text[:length].encode(), "train.json")


def test_odd_values_of_iscrowd_and_keys_that_occur_twice_are_read() -> None:
    for value, is_crowd in ((True, True), (None, False), (1.0, True), ("", False), ("1", True)):
        assert first_box(tree(annotations=[{**BOX_ROW, "iscrowd": value}])).is_crowd is is_crowd
    text = json.dumps(tree()).replace('"area": 12', '"bbox": [5, 6, 7, 8]')
    assert parse_file(text.encode(), "train.json").boxes.xywh.tolist() == [[5, 6, 7, 8]]


@pytest.mark.parametrize("value", [2, -1, "7"])
def test_an_iscrowd_that_is_neither_0_nor_1_is_told(tmp_path: Path, value: int | str) -> None:
    rows = [{**BOX_ROW, "id": number, "iscrowd": one} for number, one in enumerate((0, 1, value, None), 5)]
    (tmp_path / "train.json").write_text(json.dumps(tree(annotations=rows)))
    manifest = Manifest(source="local", root=str(tmp_path), splits={"train": (Part(annotations="train.json"),)}, files={})
    (part,) = read_parts(manifest).values()
    assert part.annotations.boxes.is_crowd.tolist() == [False, True, True, False]
    (told,) = [fault.text for fault in part.faults if fault.kind == "odd_crowd"]
    assert told.endswith(f"1 annotations have an iscrowd that is neither 0 nor 1; the first is annotation 7 with {value}")


def test_absurd_nesting_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.json: .*recursion"):
        parse_file(b"[" * 200_000, "train.json")


def test_a_missing_file_and_a_binary_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: cannot be read: No such file"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(InputError, match=r"a\.json: byte 4 is not UTF-8"):
        read_annotations(tmp_path / "a.json")


@pytest.mark.parametrize(("folder", "name"), [("train2017", "train2017/a.jpg"), ("", "a.jpg")])
def test_images_of_a_split_have_their_names_in_the_manifest(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(tree()), encoding="utf-8")
    manifest = Manifest(source="local", root=str(tmp_path), files={},
                        splits={"train": (Part(images=folder, annotations="a.json"),)})
    assert read_parts(manifest)["train", 0].annotations.images.file_names == (name,)


def test_roboflow_s_category_0_is_no_class_unless_something_is_of_it() -> None:
    rows = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 18, "name": "dog", "supercategory": "pets"}]
    assert parse(tree(categories=rows)).categories == (Category(18, "dog", 18),)
    used = parse(tree(categories=rows, annotations=[box_row(category_id=0)]))
    assert [category.id for category in used.categories] == [0, 18]
    assert [category.id for category in parse(tree(categories=rows[:1])).categories] == [0]


VALUES = st.one_of(st.integers(-2, 5), st.floats(), st.text(max_size=2), st.none(), st.booleans(), st.just([1, 2.5, 3, 4]))
KEYS = st.sampled_from([*BOX_ROW, "file_name", "width", "height", "name", "x"])
RECORDS = st.lists(st.dictionaries(KEYS, VALUES, max_size=9), max_size=2)


def outcome(parser: Callable[[], Annotations]) -> str:
    try:
        return repr(rows_of(parser()))
    except InputError as error:
        return str(error)


@given(st.builds(lambda images, boxes, categories: tree(
    images=[{**tree()["images"][0], **row} for row in images], annotations=[box_row(**row) for row in boxes],
    categories=[{**tree()["categories"][0], **row} for row in categories]), RECORDS, RECORDS, RECORDS))
def test_msgspec_and_python_s_parser_read_the_same(content: dict[str, Any]) -> None:
    text = json.dumps(content)
    with_nan = text.replace('{"images"', '{"x": NaN, "images"')  # which msgspec refuses
    assert outcome(lambda: parse_file(text.encode(), "a")) == outcome(lambda: parse_file(with_nan.encode(), "a"))


@given(damaged(json.dumps(tree(info={"source": "test"})).encode()) | st.binary(max_size=60), st.booleans())
def test_no_bytes_make_the_parser_itself_fail(data: bytes, boxes: bool) -> None:
    assert not fault_of(lambda data, where: parse_file(data, where, boxes=boxes), data)


def test_the_keys_of_records_may_occur_in_other_places() -> None:
    content = tree(licenses=[{"id": 1}], videos=[{"id": 2, "width": 3}], info={"id": "7", "area": "all"})
    content["annotations"][0] = box_row(attributes={"id": 5, "bbox": "none"})
    assert len(parse(content).boxes) == 1


def test_a_part_has_the_boxes_of_its_own_images_and_those_of_unknown_images(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 9, "height": 9} for number in (1, 2)]
    boxes = [box_row(id=number, image_id=number) for number in (1, 2, 3)]
    (tmp_path / "a.json").write_text(json.dumps(tree(images=images, annotations=boxes)), encoding="utf-8")
    part = Part(images="all", annotations="a.json", only=("2.jpg",))
    manifest = Manifest(source="local", root=str(tmp_path), files={}, splits={"val": (part,)})
    found = rows_of(read_parts(manifest)["val", 0].annotations)
    assert [image.file_name for image in found.images] == ["all/2.jpg"]
    assert [box.id for box in found.boxes] == [2, 3]


def test_normalising_changes_a_copy() -> None:
    tree = {"images": [{"id": "1"}], "categories": [{"id": 1.0, "name": 7}],
            "annotations": [{"image_id": "1", "category_id": 1.0, "bbox": ["0", 0, 1, 1], "iscrowd": "0"}]}
    before = deepcopy(tree)
    normalised, notes = normalise(tree)
    assert tree == before
    assert normalised["annotations"] == [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0.0, 0, 1, 1], "iscrowd": 0}]
    assert notes.keys() == {"inexact_numbers", "renumbered_boxes"}
