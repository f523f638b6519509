"""Copies are found by their bytes, in a split and from train into val; nothing else is called a copy."""

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations, Image, from_rows
from ssd_lib.manifest import Manifest
from ssd_lib.validation.duplicates import check_copies, find_copies


def a_split(*names: str) -> Annotations:
    return from_rows([Image(at, name, 60, 40) for at, name in enumerate(names)], [], [])


def a_manifest(**contents: str) -> Manifest:
    """One whose files have the given contents; "" is an empty file."""
    return Manifest(source="local", root="", splits={}, files={
        name: (len(content), f"hash of {content}") for name, content in contents.items()})


def test_the_same_bytes_under_two_names_of_a_split_are_one_fault() -> None:
    splits = {"train": a_split("a", "b", "c")}
    assert list(check_copies(a_manifest(a="x", b="y", c="x"), splits)) == [
        Fault("duplicate_content", ("train", "c"), "train: 'c' is the same bytes as 'a'", "c")]


def test_an_image_of_val_that_training_knows_is_a_leak_under_any_name() -> None:
    splits = {"train": a_split("a", "b"), "val": a_split("v", "b", "w")}
    assert list(check_copies(a_manifest(a="x", b="y", v="x", w="z"), splits)) == [
        Fault("train_val_leak", ("val", "v"), "val: 'v' is the same bytes as 'a' of train", "v"),
        Fault("train_val_leak", ("val", "b"), "val: 'b' is also an image of train", "b")]


def test_a_copy_within_val_of_a_leak_is_both() -> None:
    splits = {"train": a_split("a"), "val": a_split("v", "w")}
    found = [fault[:2] for fault in check_copies(a_manifest(a="x", v="x", w="x"), splits)]
    assert found == [("train_val_leak", ("val", "v")), ("train_val_leak", ("val", "w")), ("duplicate_content", ("val", "w"))]


def test_empty_and_unknown_files_are_no_copies_and_a_name_that_is_listed_twice_is_one_image() -> None:
    splits = {"train": a_split("a", "b", "gone", "lost", "c", "c")}
    assert find_copies(a_manifest(a="", b="", c="x"), splits) == []


def test_train_may_share_images_with_test() -> None:
    assert find_copies(a_manifest(a="x", t="x"), {"train": a_split("a"), "test": a_split("t")}) == []


def test_order_of_the_splits_does_not_matter() -> None:
    splits = {"val": a_split("v"), "train": a_split("a")}
    assert [fault.kind for fault in check_copies(a_manifest(a="x", v="x"), splits)] == ["train_val_leak"]
