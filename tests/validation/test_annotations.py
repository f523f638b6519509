"""Each kind of fault in annotations and each duplicate image is found, once and by name; sound annotations have none."""

import math
from dataclasses import replace

import pytest
from support.rows import Rows, flat

from ssd_lib.annotations.faults import KINDS, Fault, count_bad, summarise
from ssd_lib.annotations.table import Annotations, Box, Category, Image, clean_name, from_rows
from ssd_lib.manifest import Manifest
from ssd_lib.validation.annotations import check_annotations, check_between, check_duplicates, check_names, find_duplicates

SOUND = Rows(
    (Image(1, "a.jpg", 100, 50), Image(2, "b.jpg", 20, 20)),
    (Box(10, 1, 3, 0.0, 0.0, 100.0, 50.0, 9.0, False), Box(11, 1, 3, 99.5, 49.5, 1.0, 1.0, 1.0, True)),
    (Category(3, "dog", 3),), {})
BOX = SOUND.boxes[0]
DOG = SOUND.categories[0]
OF_A = "annotation 10 of 'a.jpg'"


def faults(rows: Rows) -> list[Fault]:
    return list(check_annotations(flat(rows), "train"))


def kinds(rows: Rows) -> list[str]:
    return [fault.kind for fault in faults(rows)]


def test_sound_annotations_have_no_faults() -> None:
    assert kinds(SOUND) == []


@pytest.mark.parametrize(("box", "kind", "text"), [
    (BOX._replace(image_id=7), "unknown_image", "annotation 10 of image 7: no image has the id 7"),
    (BOX._replace(category_id=4), "unknown_category", "annotation 10 of 'a.jpg': no named category has the id 4"),
    (BOX._replace(x=math.nan), "non_finite", "annotation 10 of 'a.jpg': bbox [nan, 0.0, 100.0, 50.0]"),
    (BOX._replace(height=math.inf), "non_finite", "annotation 10 of 'a.jpg': bbox [0.0, 0.0, 100.0, inf]"),
    (BOX._replace(width=0.0), "zero_size", "annotation 10 of 'a.jpg': width 0.0"),
    (BOX._replace(height=-2.0), "inverted", "annotation 10 of 'a.jpg': height -2.0"),
    (BOX._replace(x=100.0), "outside", f"{OF_A}: bbox [100.0, 0.0, 100.0, 50.0] in an image of 100x50"),
    (BOX._replace(x=-100.0), "outside", f"{OF_A}: bbox [-100.0, 0.0, 100.0, 50.0] in an image of 100x50"),
    (BOX._replace(y=-50.0), "outside", f"{OF_A}: bbox [0.0, -50.0, 100.0, 50.0] in an image of 100x50"),
    (BOX._replace(x=-1.1), "partly_outside", f"{OF_A}: bbox [-1.1, 0.0, 100.0, 50.0] in an image of 100x50"),
    (BOX._replace(height=51.1), "partly_outside", f"{OF_A}: bbox [0.0, 0.0, 100.0, 51.1] in an image of 100x50"),
])
def test_a_faulty_box_is_named_with_its_image_and_its_value(box: Box, kind: str, text: str) -> None:
    fault, = faults(SOUND._replace(boxes=(box, SOUND.boxes[1])))
    assert fault[:3] == (kind, ("train", 0), f"train: {text}")
    assert fault.image == ("" if kind == "unknown_image" else "a.jpg")
    assert repr(fault.xywh) == repr(box[3:7])


def test_a_class_that_has_no_number_is_called_by_its_name_with_the_nearest_one() -> None:
    stray = replace(flat(SOUND._replace(boxes=(BOX._replace(category_id=-1),))), unknown_classes={0: "dgo"})
    assert [fault.text for fault in check_annotations(stray, "train")] == [
        f"train: {OF_A}: its class 'dgo' is not among dog; did you mean 'dog'?"]


def test_a_box_one_pixel_over_the_edge_is_no_fault() -> None:
    assert kinds(SOUND._replace(boxes=(BOX._replace(x=-1.0, width=102.0),))) == []


def test_of_two_boxes_with_one_id_the_second_is_the_fault() -> None:
    found = faults(SOUND._replace(boxes=(BOX, BOX, BOX)))
    assert [(fault.kind, fault.subject[1]) for fault in found] == [("duplicate_box_id", 1), ("duplicate_box_id", 2)]


def test_images_listed_twice_are_found_by_id_and_by_name() -> None:
    first = SOUND.images[0]
    assert kinds(SOUND._replace(images=(first, first._replace(file_name="c.jpg")))) == ["duplicate_image_id"]
    assert kinds(SOUND._replace(images=(first, first._replace(id=5)))) == ["duplicate_file_name"]


def test_categories_listed_twice_or_without_a_name_are_found() -> None:
    for second, kind in ((Category(3, "cat", 3), "duplicate_category_id"),
                         (Category(4, " dog", 4), "duplicate_category_name"),
                         (Category(4, " ", 4), "empty_category_name"), (Category(5, "", 5), "empty_category_name")):
        assert kinds(SOUND._replace(categories=(DOG, second))) == [kind]


def test_names_that_are_nearly_the_same_are_found_once() -> None:
    names = ["dog", "Dog", " dog", "d-o_g", "++", "--", "dogs", " ", "Dog"]
    assert [fault.text for fault in check_names(Category(at, name, at) for at, name in enumerate(names))] == [
        f"classes 'dog' and '{name}' differ only in capitals, spaces or punctuation" for name in ("Dog", "d-o_g")]


def test_boxes_of_a_category_without_a_name_are_of_an_unknown_category() -> None:
    nameless = SOUND._replace(categories=(Category(3, " ", 3),))
    assert kinds(nameless) == ["empty_category_name", "unknown_category", "unknown_category"]


def test_a_class_with_boxes_in_val_alone_is_named() -> None:
    val = SOUND._replace(categories=(DOG, Category(4, "cat", 4)), boxes=(BOX._replace(category_id=4), BOX))
    assert [fault.text for fault in check_between(flat(SOUND), flat(val))] == [
        "val: category 4 'cat' has boxes in val and none in train"]
    assert list(check_between(flat(val), flat(val))) == []


def test_names_are_made_to_fit_a_line() -> None:
    assert clean_name("  traffic \n light ") == "traffic light"


def test_an_image_with_two_faults_is_one_bad_image_and_one_with_warnings_is_not_bad() -> None:
    found = [Fault("changed", ("train", "a.jpg"), ""), Fault("truncated", ("train", "a.jpg"), ""),
             Fault("orphan", ("train", "b.jpg"), ""), Fault("zero_size", ("train", 3), "")]
    assert (count_bad(found, "images"), count_bad(found, "boxes")) == (1, 1)


def test_the_summary_counts_all_and_writes_out_the_first() -> None:
    found = summarise(Fault("zero_size", ("train", at), f"box {at}") for at in range(50))
    assert len(found) == 1
    assert (found[0]["kind"], found[0]["count"], found[0]["bad"], len(found[0]["first"])) == ("zero_size", 50, True, 20)
    assert found[0]["first"][0] == "box 0"


def test_what_leaves_an_image_out_counts_as_bad() -> None:
    assert all(kind.is_bad and kind.of == "images" for kind in KINDS.values() if kind.leaves_out)


def a_split(*names: str) -> Annotations:
    return from_rows([Image(at, name, 60, 40) for at, name in enumerate(names)], [], [])


def a_manifest(**contents: str) -> Manifest:
    """Return a manifest of files with the given contents; "" is an empty file."""
    return Manifest(source="local", root="", splits={}, files={
        name: (len(content), f"hash of {content}") for name, content in contents.items()})


def test_the_same_bytes_under_two_names_of_a_split_are_one_fault() -> None:
    splits = {"train": a_split("a", "b", "c")}
    assert list(check_duplicates(a_manifest(a="x", b="y", c="x"), splits)) == [
        Fault("duplicate_content", ("train", "c"), "train: 'c' is the same bytes as 'a'", "c")]


def test_an_image_of_val_that_training_knows_is_a_leak_under_any_name() -> None:
    splits = {"train": a_split("a", "b"), "val": a_split("v", "b", "w")}
    assert list(check_duplicates(a_manifest(a="x", b="y", v="x", w="z"), splits)) == [
        Fault("train_val_leak", ("val", "v"), "val: 'v' is the same bytes as 'a' of train", "v"),
        Fault("train_val_leak", ("val", "b"), "val: 'b' is also an image of train", "b")]


def test_a_duplicate_within_val_of_a_leak_is_both() -> None:
    splits = {"train": a_split("a"), "val": a_split("v", "w")}
    found = [fault[:2] for fault in check_duplicates(a_manifest(a="x", v="x", w="x"), splits)]
    assert found == [("train_val_leak", ("val", "v")), ("train_val_leak", ("val", "w")), ("duplicate_content", ("val", "w"))]


def test_empty_and_unknown_files_are_no_duplicates_and_a_name_that_is_listed_twice_is_one_image() -> None:
    splits = {"train": a_split("a", "b", "gone", "lost", "c", "c")}
    assert find_duplicates(a_manifest(a="", b="", c="x"), splits) == []


def test_train_may_share_images_with_test() -> None:
    assert find_duplicates(a_manifest(a="x", t="x"), {"train": a_split("a"), "test": a_split("t")}) == []


def test_the_order_of_the_splits_does_not_matter() -> None:
    splits = {"val": a_split("v"), "train": a_split("a")}
    assert [fault.kind for fault in check_duplicates(a_manifest(a="x", v="x"), splits)] == ["train_val_leak"]
