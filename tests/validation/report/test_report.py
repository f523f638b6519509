"""The HTML and Markdown files of validate: complete, the same bytes every time, and names are never markup."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from support.project import data_params
from support.report_data import MARKUP_NAME, ReportInput, boxes_on, check_files, png_bytes

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.errors import StateError
from ssd_lib.validation.report.report import write_report

LARGEST_BYTES = 3_000_000
SECTIONS = ["Faults", "Files", "Duplicate images", "Classes", "Objects per image", "Object sizes", "Object shapes",
            "Image sizes", "Random images of train"]


def write(folder: Path, given: ReportInput, **data: Any) -> tuple[str, str]:
    write_report(folder, given.manifest, given.splits, given.faults, given.report, data_params(**data))
    return tuple((folder / f"validation.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))  # type: ignore


def headings(markdown: str) -> list[str]:
    return [line[3:] for line in markdown.splitlines() if line.startswith("## ")]


def read_coco(folder: Path, split: str) -> Annotations:
    """Read a split of the mirror of COCO without the project's readers."""
    content = json.loads((folder / f"annotations/instances_{split}2017.json").read_bytes())
    return from_rows(
        [Image(row["id"], f"{split}2017/{row['file_name']}", row["width"], row["height"]) for row in content["images"]],
        [Box(row["id"], row["image_id"], row["category_id"], *row["bbox"], row["area"], bool(row["iscrowd"]))
         for row in content["annotations"]],
        [Category(row["id"], row["name"], row["id"]) for row in content["categories"]])


def test_both_files_have_all_sections_in_order_after_the_summary(tmp_path: Path, faulty: ReportInput) -> None:
    markdown, html = write(tmp_path / "reports", faulty)
    assert headings(markdown) == SECTIONS  # without a random image: every image of train has a fault
    assert [html.index(f"<h2>{title}</h2>") for title in SECTIONS] == sorted(html.index(f"<h2>{t}</h2>") for t in SECTIONS)
    assert markdown.splitlines()[2].startswith("**Stopped: 2 of 6 images are bad (33.3%)")
    assert "Without boxes in train: 1 class (owl)." in markdown
    assert html.index('class="bad"') < html.index("<h2>")


def test_images_without_annotations_are_not_counted(tmp_path: Path, sound: ReportInput) -> None:
    with_test = replace(sound, splits=sound.splits | {"test": sound.splits["val"]})
    assert write(tmp_path / "reports", with_test) == write(tmp_path / "without", sound)
    markdown, _ = write(tmp_path / "reports", replace(sound, splits={"test": sound.splits["val"]}))
    assert headings(markdown) == ["Faults", "Files"]


def test_files_that_are_not_used_are_in_both_files(tmp_path: Path, sound: ReportInput) -> None:
    files = [{"kind": "other_files", "count": 1, "of": 0, "first": ["notes.txt"]}]
    for content in write(tmp_path, replace(sound, report=sound.report | {"files": files})):
        assert "notes.txt" in content


def test_the_boxes_of_an_epoch_are_those_of_the_threshold_for_each_mode(tmp_path: Path) -> None:
    images = [Image(at, f"{at}.png", 60, 40) for at in range(1, 21)]
    owl = Box(21, 1, 2, 30.0, 6.0, 20.0, 10.0, 200.0, False)
    train = from_rows(images, [*boxes_on(20, 1), owl], [Category(1, "cat", 1), Category(2, "owl", 2)])
    contents = {image.file_name: png_bytes(at) for at, image in enumerate(images)}
    given = check_files(tmp_path / "raw", contents, {"train": train}, [])
    markdown, _ = write(tmp_path / "reports", given, balance_threshold=0.8)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()]
    assert [row for row in rows if row[:1] in (["class"], ["cat"], ["owl"])][-3:] == [
        ["class", "", "share", "train boxes", "train images", "boxes per epoch, downsample", "boxes per epoch, repeat"],
        ["cat", "", "95.2 %", "20", "20", "16", "23"],  # 1 + 19 * 0.8, 4 + 19: the image with the owl is used 1 or 4 times
        ["owl", "few", "4.8 %", "1", "1", "1", "4"]]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, faulty: ReportInput) -> None:
    assert write(tmp_path / "once", faulty) == write(tmp_path / "twice", faulty)


def test_names_never_become_markup_in_either_file(tmp_path: Path, faulty: ReportInput) -> None:
    markdown, html = write(tmp_path / "reports", faulty)
    assert "<b>bold" not in html
    assert "<script" not in html
    assert escape(MARKUP_NAME) in html
    assert "train/\\<b>bold\\<b> & \"a\" \\| \\`b\\` 図.png" in markdown


def test_unreadable_files_are_not_counted_as_training_data(tmp_path: Path, faulty: ReportInput) -> None:
    markdown, _ = write(tmp_path / "reports", faulty)
    assert "| cat \\<script> | few  | 100.0 % |           3 |            3 |         0 |          0 |" in markdown


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, faulty: ReportInput) -> None:
    (tmp_path / "reports").mkdir(mode=0o500)
    with pytest.raises(StateError, match=r"validation\.md: cannot be written"):
        write(tmp_path / "reports", faulty)


def test_a_report_on_real_images_with_all_thumbnails_is_small_enough_for_mail(unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked, tmp_path / "raw")
    splits = {split: read_coco(unpacked, split) for split in ("train", "val")}
    names = splits["train"].images.file_names
    for first, second in zip(names[:6], splits["val"].images.file_names, strict=False):
        shutil.copy(unpacked / first, tmp_path / "raw" / second)
    faults = [Fault(kind, ("train", at), "text", name, (-50, -50, 100, 100)) for at, name in enumerate(names[:40])
              for kind in ("zero_size", "inverted", "outside", "partly_outside", "duplicate_box_id", "unknown_category",
                           "wrong_format", "changed")]
    contents = {name: (tmp_path / "raw" / name).read_bytes() for annotations in splits.values()
                for name in annotations.images.file_names}
    _, html = write(tmp_path / "reports", check_files(tmp_path / "raw", contents, splits, faults))
    assert html.count("data:image/jpeg") > 80
    assert len(html.encode()) < LARGEST_BYTES


def test_real_images_without_faults_are_ready_for_training(unpacked: Path, tmp_path: Path) -> None:
    splits = {split: read_coco(unpacked, split) for split in ("train", "val")}
    contents = {name: (unpacked / name).read_bytes() for annotations in splits.values()
                for name in annotations.images.file_names}
    markdown, html = write(tmp_path / "reports", check_files(tmp_path / "raw", contents, splits, []))
    assert "**Ready for training: no bad images or boxes.**" in markdown
    assert re.search(r"\| person +\| +\| \d\d\.\d % +\| +\d\d\d \|", markdown)
    assert html.count("data:image/jpeg") == 12
