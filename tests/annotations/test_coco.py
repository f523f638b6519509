"""COCO files: read exactly, refused with the place, written the same every time."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import damaged, fault_of
from support.rows import Rows, flat, rows_of

from ssd_lib.annotations.coco import format_annotations, parse_annotations, read_annotations, read_coco, write_annotations
from ssd_lib.annotations.coco_rows import parse_rows
from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Part

SMALL = Rows(
    (Image(9, "ä b.jpg", 64, 48), Image(4, "b.jpg", 10, 10)),
    (Box(70, 9, 18, 1.5, 2.0, 30.25, 40.1, 1000.5, False), Box(8, 9, 1, 0.0, 0.0, 64.0, 48.0, 12.0, True)),
    (Category(1, "person", 1), Category(18, "dog", 18)), {"source": "test"})

BOX_ROW = {"id": 70, "image_id": 9, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}


def tree(**changes: Any) -> dict[str, Any]:
    """A small valid file, as json.loads gives it, with some lists replaced."""
    return {"images": [{"id": 9, "file_name": "a.jpg", "width": 64, "height": 48}],
            "annotations": [BOX_ROW],
            "categories": [{"id": 18, "name": "dog"}], **changes}


def box_row(**changes: Any) -> dict[str, Any]:
    row = {**BOX_ROW, **changes}
    return {key: value for key, value in row.items() if value is not None}


def parse(content: Any) -> Annotations:
    return parse_annotations(json.dumps(content).encode(), "train.json")


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
    box, = parse_annotations(content.replace("[1, 2,", f"[{text}, 2,").encode(), "train.json").boxes.xywh.tolist()
    assert box == [value, 2, 3, 4]
    with pytest.raises(InputError, match=r"^train\.json: annotations\[0\].* has id .*; it must be a whole number of at most"):
        parse_annotations(content.replace('"id": 70', f'"id": {text}').encode(), "train.json")


def test_a_list_of_images_alone_is_accepted_only_when_asked() -> None:
    text = json.dumps({"images": tree()["images"], "categories": tree()["categories"]}).encode()
    assert len(parse_annotations(text, "test.json", boxes=False).images) == 1
    with pytest.raises(InputError, match=r"test\.json: no 'annotations' among images, categories"):
        parse_annotations(text, "test.json")


@pytest.mark.parametrize(("content", "message"), [
    ([box_row(score=0.9)], r"train\.json: holds a list; .* Is it a file of detection results\?"),
    ({}, r"no 'images' among no keys"),
    (tree(images={}), r"'images' is \{\}"),
    (tree(images=[7]), r"images\[0\] is 7; it must be an object"),
    (tree(images=[{"id": 9, "width": 64}]), r"images\[0\] \(id 9\) has no 'file_name'; its keys are id, width"),
    (tree(images=[{"id": "9", "file_name": "a", "width": 1, "height": 1}]), r"has id '9'; it must be a whole number"),
    (tree(images=[{"id": True, "file_name": "a", "width": 1, "height": 1}]), r"has id True; it must be a whole number"),
    (tree(images=[{"id": 2**70, "file_name": "a", "width": 1, "height": 1}]), r"of at most 64 bits"),
    (tree(images=[{"id": 9, "file_name": 3, "width": 1, "height": 1}]), r"has file_name 3; it must be a string"),
    (tree(images=[{"id": 9, "file_name": "\ud800", "width": 1, "height": 1}]), r"must be a string of whole characters"),
    (tree(annotations=[box_row(), box_row(bbox=[1, 2, 3])]), r"annotations\[1\] \(id 70\) has bbox \[1, 2, 3\]; it"),
    (tree(annotations=[box_row(bbox=[1, 2, None, 4])]), r"has None in its bbox; it must be a number"),
    (tree(annotations=[box_row(bbox=None)]), r"annotations\[0\] \(id 70\) has no 'bbox'"),
    (tree(annotations=[{"id": 1, "image_id": 9, "caption": "a dog"}]), r"holds captions; .* Take the instances_"),
    (tree(categories=[{"id": 18}]), r"categories\[0\] \(id 18\) has no 'name'"),
])
def test_another_form_is_refused_with_the_place(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(content)


def test_a_file_cut_short_is_refused_at_every_length() -> None:
    text = json.dumps(tree())
    for length in range(0, len(text) - 1, 7):
        with pytest.raises(InputError, match=r"train\.json: not JSON at line 1"):
            parse_annotations(text[:length].encode(), "train.json")


def test_a_key_that_stands_twice_is_refused_with_the_id_of_its_object() -> None:
    text = json.dumps(tree()).replace('"area": 12', '"bbox": [5, 6, 7, 8]')
    with pytest.raises(InputError, match=r"key 'bbox' stands twice in one object \(of id 70\)"):
        parse_annotations(text.encode(), "train.json")


def test_absurd_nesting_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.json: .*recursion"):
        parse_annotations(b"[" * 200_000, "train.json")


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
    assert read_coco(manifest)["train", 0].annotations.images.file_names == (name,)


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
def test_the_fast_way_and_the_careful_one_agree(content: dict[str, Any]) -> None:
    text = json.dumps(content)
    assert outcome(lambda: parse_annotations(text.encode(), "a")) == outcome(lambda: parse_rows(text, "a", True))


@given(damaged(json.dumps(tree(info={"source": "test"})).encode()) | st.binary(max_size=60), st.booleans())
def test_no_bytes_make_the_parser_itself_fail(data: bytes, boxes: bool) -> None:
    assert not fault_of(lambda data, where: parse_annotations(data, where, boxes=boxes), data)


@pytest.mark.parametrize(("old", "new"), [
    ('"id": 9,', '"id": 9, "id": 8,'), ('"width": 64', '"width": 64, "width": 64'), ('"id": 70', '"id": 70, "iscrowd": 1'),
    ('"image_id": 9', '"image_id": 9, "image_id": 8'), ('"id": 18', '"id": 18, "id": 17'),
    ('"categories"', '"categories": [{"id": 3, "name": "cow"}], "categories"'),
    ('"images"', '"images": [{"id": 3, "file_name": "z", "width": 1, "height": 1}], "images"'),
])
def test_no_key_that_stands_twice_passes_unseen(old: str, new: str) -> None:
    text = json.dumps(tree())
    assert old in text
    with pytest.raises(InputError, match="stands twice in one object"):
        parse_annotations(text.replace(old, new).encode(), "train.json")


def test_keys_are_counted_wherever_the_images_stand() -> None:
    content = {"annotations": [box_row()], **tree(images=[{**tree()["images"][0], "note": "annotations"}, {
        "id": 3, "file_name": "b.jpg", "width": 1, "height": 1}])}
    for text in (json.dumps(content), json.dumps({"images": content["images"], **content})):
        assert len(parse_annotations(text.encode(), "a").images) == 2
        with pytest.raises(InputError, match="key 'width' stands twice"):
            parse_annotations(text.replace('"width": 1', '"width": 1, "width": 1').encode(), "a")


def test_the_same_words_in_other_places_are_no_keys() -> None:
    content = tree(licenses=[{"id": 1}], videos=[{"id": 2, "width": 3}], info={"id": "7", "area": "all"})
    content["annotations"][0] = box_row(attributes={"id": 5, "bbox": "none"})
    assert len(parse(content).boxes) == 1


def test_a_part_has_the_boxes_of_its_own_images_alone_and_strays_are_nobody_s(tmp_path: Path) -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 9, "height": 9} for number in (1, 2)]
    boxes = [box_row(id=number, image_id=number) for number in (1, 2, 3)]
    (tmp_path / "a.json").write_text(json.dumps(tree(images=images, annotations=boxes)), encoding="utf-8")
    part = Part(images="all", annotations="a.json", only=("2.jpg",))
    manifest = Manifest(source="local", root=str(tmp_path), files={}, splits={"val": (part,)})
    found = rows_of(read_coco(manifest)["val", 0].annotations)
    assert [image.file_name for image in found.images] == ["all/2.jpg"]
    assert [box.id for box in found.boxes] == [2, 3]
