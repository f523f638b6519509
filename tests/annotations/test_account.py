"""Every file below data.paths is used, or counted and named; names that are written differently match one to one."""

import json
from cProfile import Profile
from pathlib import Path

import pytest
from support.folders import pairs, plant, run

from ssd_lib.annotations.names import fold, folded_stem, match_names
from ssd_lib.errors import InputError

ROW = "0 0.5 0.5 0.2 0.2\n"


def yolo(root: Path, *labels: str, images: tuple[str, ...]) -> Path:
    return plant(root, *images, texts={"classes.txt": "a\n"} | dict.fromkeys(labels, ROW))


@pytest.mark.parametrize(("image", "label"), [
    ("images/ü x.jpg", "labels/%C3%BC%20x.txt"), ("images/B.JPG", "labels/b.txt"), ("Images/b.jpg", "Labels/b.TXT"),
    ("images/u\u0308.jpg", "labels/\u00fc.txt"), ("images/deep/b.jpg", "labels/b.txt"),
    ("images/b.jpg", "labels/1f2e3d4c-b.txt"), ("images/1F2E3D4C-b.jpg", "labels/B.txt"),
    ("photos/b.jpg", "out/1f2e3d4c-b.txt"), ("images/b.jpg", f"labels/b_jpg.rf.{'0a' * 16}.txt")])
def test_a_label_file_with_a_differently_written_name_is_found(tmp_path: Path, image: str, label: str) -> None:
    folder = image.partition("/")[0]
    other = label.partition("/")[0]
    manifest = run(yolo(tmp_path, label, f"{other}/z.txt", images=(image, f"{folder}/z.jpg")))
    found = pairs(manifest)
    assert (found["train"] | found["val"])[image] == label


def test_two_images_for_one_label_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same label file"):
        run(yolo(tmp_path, "labels/a.txt", "labels/b.txt", images=("images/a.jpg", "images/a.png", "images/b.jpg")))


def test_label_files_without_an_image_and_images_without_one_are_counted(tmp_path: Path) -> None:
    manifest = run(yolo(tmp_path, "labels/a.txt", "labels/b.txt", "labels/photo_1.txt",
                        images=("images/a.jpg", "images/b.jpg", "images/photo-2.jpg", "images/c.jxl", "images/test/t.jpg")))
    counts = {count.kind: count for count in manifest.counts}
    assert (counts["unused_labels"].count, counts["unused_labels"].of) == (1, 3)
    assert "photo-2.jpg" in counts["unused_labels"].first[0]
    assert counts["unlabelled"].count == 2
    assert counts["unreadable_images"].first == ("images/c.jxl",)


def test_images_of_a_test_list_or_of_no_list_take_their_labels_along(tmp_path: Path) -> None:
    files = [file for name in "abcd" for file in (f"Annotations/{name}.xml", f"JPEGImages/{name}.jpg")]
    lists = {f"ImageSets/Main/{split}.txt": f"{name}\n" for split, name in (("train", "a"), ("val", "b"), ("test", "c"))}
    counts = {count.kind: count for count in run(plant(tmp_path, *files, "JPEGImages/e.jpg", texts=lists)).counts}
    assert "unused_labels" not in counts
    assert counts["test_split"].first == ("Annotations/c.xml", "JPEGImages/c.jpg")
    assert counts["unused_images"].first == ("Annotations/d.xml", "JPEGImages/d.jpg")
    assert counts["unlabelled_unused"].first == ("JPEGImages/e.jpg",)


def test_a_name_with_two_candidates_is_not_matched() -> None:
    assert match_names(["A.jpg"], ["x/a.txt", "y/a.txt"], fold, folded_stem) == {}


@pytest.mark.parametrize(("images", "labels"), [
    (["a.jpg"], ["11112222-a.txt", "33334444-a.txt"]), (["11112222-a.jpg", "33334444-a.jpg"], ["a.txt"]),
    (["20250101-a.jpg"], ["20250102-a.txt"]), (["a.jpg"], ["1f2e3d-a.txt"]), (["train/a.jpg"], ["val/11112222-a.txt"])])
def test_what_a_tool_added_to_a_name_is_left_out_only_where_one_name_has_it_and_one_fits(
        images: list[str], labels: list[str]) -> None:
    assert match_names(images, labels, fold, folded_stem) == {}
    assert match_names(["a.jpg", "b.jpg"], ["11112222-a.txt", "b.txt"], fold, folded_stem) == {
        "a.jpg": "11112222-a.txt", "b.jpg": "b.txt"}


def test_coco_of_any_name_is_found_by_its_content(tmp_path: Path) -> None:
    text = ('{"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}, {"id": 2, "file_name": "b.jpg", "width": 9, '
            '"height": 9}], "annotations": [], "categories": []}')
    manifest = run(plant(tmp_path, "data/A.JPG", "data/b.jpg", texts={"export.json": text}))
    assert manifest.splits["train"][0].names == {"a.jpg": "data/A.JPG", "b.jpg": "data/b.jpg"}


@pytest.mark.parametrize("listed", [["a.jpg", "a.jpg"], ["A.JPG", "b.jpg"]])
def test_a_coco_name_that_several_images_have_is_refused_with_their_names(tmp_path: Path, listed: list[str]) -> None:
    rows = [{"id": number, "file_name": name, "width": 9, "height": 9} for number, name in enumerate(listed)]
    text = json.dumps({"images": rows, "annotations": [], "categories": []})
    with pytest.raises(InputError, match=r"may be any of 2 images: images/x/a.jpg, images/y/a.jpg"):
        run(plant(tmp_path, "images/x/a.jpg", "images/y/a.jpg", "images/x/b.jpg", texts={"annotations/train.json": text}))


@pytest.mark.parametrize("word", ["valid", "Validation", "val"])
def test_a_voc_list_of_any_split_word_is_val(tmp_path: Path, word: str) -> None:
    manifest = run(plant(tmp_path, "Annotations/a.xml", "Annotations/b.xml", "JPEGImages/a.jpg", "JPEGImages/b.jpg",
                         texts={"ImageSets/Main/Train.txt": "a\n", f"ImageSets/Main/{word}.txt": "b\n"}))
    assert list(pairs(manifest)["val"]) == ["JPEGImages/b.jpg"]


class ComparedName(str):
    """A name whose comparison is a call of Python, which a profiler counts."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)


def test_no_name_is_compared_with_every_other() -> None:
    """The time of 118,000 names is measured in benchmarks; here the calls that ten times the names need are counted."""
    calls = []
    for count in (100, 1_000):
        images = [ComparedName(f"images/{n}.jpg") for n in range(count)]
        labels = [ComparedName(f"labels/{n}.txt") for n in range(1, count)]
        profile = Profile(builtins=True)
        profile.runcall(match_names, images, labels, folded_stem)
        calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[1] < 11 * calls[0]
