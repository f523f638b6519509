"""The content of each section of the report: numbers that a reader can check by hand."""

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from support.project import data_params
from support.report_data import ReportInput, check_files, png_bytes

from ssd_lib.annotations.account import FILE_KINDS
from ssd_lib.annotations.faults import KINDS, Fault
from ssd_lib.annotations.fixed_set import load_fixed, write_fixed
from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.report.elements import Bars, Listing, Section, Table, Text, Thumbnails
from ssd_lib.train.setup import report_priors
from ssd_lib.validation.report.classes import FEW_BOXES, classes_section, scarce_classes
from ssd_lib.validation.report.objects import (
    image_sizes_section,
    object_shapes_section,
    object_sizes_section,
    objects_per_image_section,
)
from ssd_lib.validation.report.sections import (
    FAULT_TILES,
    PAIRS,
    SHOWN_AS_PAIRS,
    duplicate_images_section,
    faults_section,
    files_section,
    random_images_section,
    summary_section,
)
from ssd_lib.validation.report.statistics import ClassCounts, good_prior_shares, trainable

B = TypeVar("B")


def only(section: Section, kind: type[B]) -> B:
    """Return the section's one element of a kind."""
    found, = (element for element in section.elements if isinstance(element, kind))
    return found


def words(section: Section) -> str:
    return " ".join(element.text for element in section.elements if isinstance(element, Text))


def a_report(**changes: Any) -> dict[str, Any]:
    return {"images": 1200, "boxes": 5000, "bad_images": 0, "bad_boxes": 0, "warnings": 0, "splits": [
        {"split": "train", "images": 1200, "boxes": 5000, "crowds": 3, "images_without_boxes": 7}]} | changes


def counts(**boxes: int) -> ClassCounts:
    numbers = np.array(list(boxes.values()))
    return ClassCounts(tuple(boxes), {"train": numbers}, {"train": (numbers + 1) // 2})


def on_one_image(*sides: tuple[float, float], width: int = 100, height: int = 100) -> dict[str, Annotations]:
    boxes = [Box(at, 1, 1, 0, 0, *wh, 1, False) for at, wh in enumerate(sides)]
    return {"train": trainable(from_rows([Image(1, "a", width, height)], boxes, [Category(1, "cat", 1)]), ())}


@pytest.mark.parametrize(("changes", "sentence"), [
    ({}, "Ready for training: no bad images or boxes."),
    ({"warnings": 1}, "Ready for training: no bad images or boxes; 1 warning."),
    ({"bad_images": 1, "bad_boxes": 2, "warnings": 3},
     "Ready for training: `fix_annotations` will repair or remove 1 bad image and 2 bad boxes; 3 warnings."),
    ({"bad_images": 12}, "Ready for training: `fix_annotations` will repair or remove 12 bad images."),
    ({"bad_images": 13}, "Stopped: 13 of 1,200 images are bad (1.1%); `data.max_bad_fraction` allows 1.0%. "
                         "Repair them, or set `data.max_bad_fraction` to 0.02 to train without them."),
    ({"bad_boxes": 51}, "Stopped: 51 of 5,000 boxes are bad (1.0%); `data.max_bad_fraction` allows 1.0%. "
                        "Repair them, or set `data.max_bad_fraction` to 0.02 to train without them."),
    ({"boxes": 50, "bad_boxes": 1}, "Ready for training: `fix_annotations` will repair or remove 1 bad box. That is more than "
                                    "`data.max_bad_fraction` (1.0 %), but 5 at most, and at most a tenth: so few stop nothing, "
                                    "unless it is 0."),
    ({"images": 50, "bad_images": 1}, "Ready for training: `fix_annotations` will repair or remove 1 bad image. That is more "
                                      "than `data.max_bad_fraction` (1.0 %), but 5 at most, and at most a tenth: so few stop "
                                      "nothing, unless it is 0."),
    ({"boxes": 50, "bad_boxes": 6}, "Stopped: 6 of 50 boxes are bad (12.0%); `data.max_bad_fraction` allows 1.0%. "
                                    "Repair them, or set `data.max_bad_fraction` to 0.13 to train without them."),
])
def test_the_summary_is_one_sentence(changes: dict[str, int], sentence: str) -> None:
    section = summary_section(a_report(**changes), data_params(max_bad_fraction=0.01), ())
    assert (words(section), only(section, Text).tone) == (sentence, "bad" if "Stopped" in sentence else "good")
    assert only(section, Table).rows == [("train", "1,200", "5,000", "3", "7")]


def test_files_that_should_have_been_used_are_the_first_lines_of_the_summary() -> None:
    files = [{"kind": "other_classes", "count": 3, "of": 9, "first": ("a", "b", "c")}]
    section = summary_section(a_report(files=files), data_params(), [Text("Rare classes.", "advice")])
    assert words(section) == (f"3 of 9 {FILE_KINDS['other_classes']}. The first: a, b, c. Ready for training: no bad images or "
                              "boxes. Rare classes.")


def test_kinds_of_faults_come_with_their_cure_the_bad_ones_first(faulty: ReportInput) -> None:
    table = only(faults_section(faulty.manifest, faulty.splits, faulty.faults), Table)
    assert [row[:3] for row in table.rows] == [
        ("missing", "1", "bad"), ("not_an_image", "1", "bad"), ("non_finite", "1", "bad"),
        ("duplicate_content", "1", "warning"),
        ("train_val_leak", "1", "warning"), ("partly_outside", "1", "warning"), ("untrained_category", "1", "warning")]
    assert table.rows[2][3] == "removes the box"


def test_each_kind_has_thumbnails_or_without_images_a_list(faulty: ReportInput) -> None:
    section = faults_section(faulty.manifest, faulty.splits, faulty.faults)
    thumbnails = {element.title: element.tiles for element in section.elements if isinstance(element, Thumbnails)}
    assert list(thumbnails) == ["missing: 1", "not_an_image: 1", "non_finite: 1", "partly_outside: 1"]
    assert only(section, Listing).lines == ["val: category 1 'owl' has boxes in val and none in train"]
    gone, = thumbnails["missing: 1"]
    assert (gone.name, gone.text) == ("train/gone.png", "cannot be read: No such file or directory")
    assert gone.thumbnails[0].reason == gone.text


def test_the_faulty_box_is_drawn_unless_its_coordinates_are_invalid(faulty: ReportInput) -> None:
    section = faults_section(faulty.manifest, faulty.splits, faulty.faults)
    tiles = {element.title: element.tiles[0] for element in section.elements if isinstance(element, Thumbnails)}
    mark, = tiles["partly_outside: 1"].thumbnails[0].marks
    assert (mark.xywh, mark.is_faulty) == ((50, 30, 20, 20), True)
    assert tiles["partly_outside: 1"].text == "train: annotation 5: too far right"
    assert (tiles["non_finite: 1"].thumbnails[0].marks, tiles["non_finite: 1"].thumbnails[0].jpeg != b"") == ((), True)


@pytest.mark.parametrize(("split", "name"), [("train", "train/3.png"), ("val", "val/a.png")])
def test_a_faulty_image_is_shown_with_all_its_boxes(sound: ReportInput, split: str, name: str) -> None:
    fault = Fault("exif_rotated", (split, name), f"{name}: its EXIF orientation is 6", name)
    tile, = only(faults_section(sound.manifest, sound.splits, [fault]), Thumbnails).tiles
    mark, = tile.thumbnails[0].marks
    assert (mark.xywh, mark.name, mark.is_faulty) == ((5, 6, 20, 10), "cat", False)


def test_a_limited_number_of_each_kind_is_shown_and_all_are_counted(sound: ReportInput) -> None:
    faults = [Fault("outside", ("train", at), "text", f"train/{at}.png", (70, 0, 5, 5)) for at in range(20)]
    section = faults_section(sound.manifest, sound.splits, faults)
    assert only(section, Table).rows[0][:2] == ("outside", "20")
    assert len(only(section, Thumbnails).tiles) == FAULT_TILES
    assert only(section, Thumbnails).title == "outside: 20, first 8 shown"
    section = faults_section(sound.manifest, sound.splits, faults[:FAULT_TILES])
    assert only(section, Thumbnails).title == "outside: 8"
    faults = [Fault("untrained_category", ("val", at), "text") for at in range(9)]
    section = faults_section(sound.manifest, sound.splits, faults)
    assert (only(section, Listing).title, len(only(section, Listing).lines)) == ("untrained_category: 9, first 8 shown", 8)


def test_the_more_kinds_of_faults_there_are_the_fewer_of_each_are_shown(sound: ReportInput) -> None:
    kinds = [kind for kind in KINDS if kind not in SHOWN_AS_PAIRS]
    for number, each in ((10, 6), (len(kinds), 2)):
        section = faults_section(sound.manifest, sound.splits, [
            Fault(kind, ("train", at), "text", f"train/{at}.png", (7, 0, 5, 5)) for kind in kinds[:number] for at in range(9)])
        shown = [element for element in section.elements if isinstance(element, Thumbnails)]
        assert [(element.title.partition(": ")[2], len(element.tiles)) for element in shown] == (
            [(f"9, first {each} shown", each)] * number)


def test_duplicates_alone_are_counted_and_shown_in_their_own_section(sound: ReportInput) -> None:
    section = faults_section(sound.manifest, sound.splits, [Fault("duplicate_content", ("train", "a"), "text", "train/1.png")])
    assert list(section.elements) == [only(section, Table)]


def test_a_sound_dataset_has_no_faults_and_no_duplicates(sound: ReportInput) -> None:
    assert words(faults_section(sound.manifest, sound.splits, sound.faults)) == "No faults found."
    section = duplicate_images_section(sound.manifest, sound.splits)
    assert words(section) == "No duplicate images, and no image of val is in train."


def test_duplicates_are_shown_side_by_side_leaks_first(faulty: ReportInput) -> None:
    section = duplicate_images_section(faulty.manifest, faulty.splits)
    leaks, same = section.elements
    assert isinstance(leaks, Thumbnails)
    assert isinstance(same, Thumbnails)
    assert (leaks.title, same.title) == ("In train and in val: 1", "Within a split: 1")
    assert [len(tile.thumbnails) for tile in (*leaks.tiles, *same.tiles)] == [2, 2]
    assert leaks.tiles[0].text == "in train, and in val as val/a.png"
    assert (same.tiles[0].name, same.tiles[0].text) == ("train/0.png", "in train, also as train/1.png")
    assert [image.marks[0].name for image in leaks.tiles[0].thumbnails] == ["cat <script>", "owl"]
    assert len(leaks.tiles) <= PAIRS


def test_a_limited_number_of_duplicates_is_shown_and_all_are_counted(tmp_path: Path) -> None:
    images = [Image(at, f"{at}.png", 60, 40) for at in range(9)]
    train, val = (from_rows(images[:number], [], []) for number in (9, 2))
    given = check_files(tmp_path, {image.file_name: png_bytes(0) for image in images}, {"train": train, "val": val}, [])
    leaks, same = duplicate_images_section(given.manifest, given.splits).elements
    assert isinstance(leaks, Thumbnails)
    assert isinstance(same, Thumbnails)
    assert (leaks.title, same.title, len(same.tiles)) == ("In train and in val: 2", "Within a split: 9", PAIRS)
    assert [(tile.name, tile.text) for tile in leaks.tiles] == [
        ("0.png", "in train, and in val"), ("0.png", "in train, and in val as 1.png")]


def test_classes_are_listed_by_number_with_their_shares_and_rare_ones_marked() -> None:
    section = classes_section(counts(cat=20, dog=60, owl=FEW_BOXES - 1, elk=0, bee=1, ape=FEW_BOXES), {})
    assert only(section, Table).rows == [
        ("dog", "", "60.0 %", "60", "30"), ("cat", "", "20.0 %", "20", "10"), ("ape", "", "10.0 %", "10", "5"),
        ("owl", "few", "9.0 %", "9", "5"),
        ("bee", "few", "1.0 %", "1", "1"), ("elk", "none", "0.0 %", "0", "0")]
    assert "The most frequent class, dog, has 60.0 times as many boxes as the least frequent, bee." in words(section)
    assert "`data.balance: repeat`" in words(section)


def test_the_summary_names_classes_that_are_too_rare_to_learn() -> None:
    scarce = scarce_classes(counts(cat=20, owl=FEW_BOXES - 1, elk=0, bee=1, ape=FEW_BOXES), "train")
    section = summary_section(a_report(), data_params(), scarce)
    assert "Without boxes in train: 1 class (elk). Not learned" in words(section)
    assert "With fewer than 10 boxes in train: 2 classes (owl, bee). Too few" in words(section)
    assert [text.tone for text in section.elements if isinstance(text, Text)] == ["good", "advice", "advice"]
    assert "1 class (a\\x1b)" in next(scarce_classes(counts(**{"a\x1b": 0}), "train")).text
    assert not list(scarce_classes(counts(cat=FEW_BOXES), "train"))
    assert " c6, c7 and others)" in next(scarce_classes(counts(**{f"c{at}": 0 for at in range(9)}), "train")).text
    assert " c6, c7)" in next(scarce_classes(counts(**{f"c{at}": 0 for at in range(8)}), "train")).text


def test_files_that_are_not_used_are_listed_and_a_cut_list_says_so() -> None:
    section = files_section([{"kind": "test_split", "count": 3, "of": 0, "first": ("a", "b")},
                             {"kind": "other_files", "count": 1, "of": 0, "first": ("c",)}])
    assert [element.lines for element in section.elements if isinstance(element, Listing)] == [["a", "b", "and others"], ["c"]]
    assert only(section, Table).rows == [("3", FILE_KINDS["test_split"]), ("1", FILE_KINDS["other_files"])]
    assert words(files_section([])) == "Every file is used."


def test_a_balanced_dataset_gets_no_advice() -> None:
    section = classes_section(counts(cat=30, dog=60), {})
    assert "data.balance" not in words(section)
    assert all(element.tone == "plain" for element in section.elements if isinstance(element, Text))
    assert only(section, Bars).title == "Boxes per class"
    assert "data.balance" not in words(classes_section(counts(cat=19, dog=1), {}))
    assert "data.balance" in words(classes_section(counts(cat=20, dog=1), {}))


def test_a_class_without_boxes_is_never_the_rarest() -> None:
    assert "The most frequent class, cat, has 1.5 times as many boxes as the least frequent, dog." in words(
        classes_section(counts(elk=0, cat=30, dog=20), {}))
    for even in (counts(elk=0, cat=30), counts(elk=0, cat=30, dog=30)):
        assert "least frequent" not in words(classes_section(even, {}))


def test_each_split_has_columns_for_boxes_and_images() -> None:
    numbers = ({split: np.array([number]) for split, number in (("train", 50 + at), ("val", 40 + at))} for at in (7, 3))
    table = only(classes_section(ClassCounts(("cat",), *numbers), {}), Table)
    assert table.head[3:] == ("train boxes", "train images", "val boxes", "val images")
    assert table.rows == [("cat", "", "100.0 %", "57", "53", "47", "43")]


def test_each_mode_of_balance_has_a_column() -> None:
    table = only(classes_section(counts(cat=30, dog=60), {"repeat": np.array([90.4, 61.0])}), Table)
    assert (table.head[-1], [row[-1] for row in table.rows]) == ("boxes per epoch, repeat", ["61", "90"])


def test_a_chart_of_many_classes_is_cut_and_its_shares_refer_to_all() -> None:
    section = classes_section(counts(**{f"c{at}": 1 for at in range(50)}), {})
    bars = only(section, Bars)
    assert (len(bars.labels), bars.title, bars.total("train")) == (40, "Boxes of the 40 most frequent classes", 50)
    assert len(only(section, Table).rows) == 50


def test_a_dataset_without_classes_or_boxes_has_a_classes_section() -> None:
    assert words(classes_section(counts(), {})) == "No classes."
    assert only(classes_section(counts(cat=0), {}), Table).rows == [("cat", "none", "–", "0", "0")]


def test_images_are_counted_by_their_objects() -> None:
    bars = only(objects_per_image_section(on_one_image(*[(5, 5 + at) for at in range(7)])), Bars)
    assert dict(zip(bars.labels, bars.series["train"], strict=True)) == {
        "0": 0, "1": 0, "2": 0, "3": 0, "4": 0, "5 to 9": 1, "10 to 19": 0, "20 to 49": 0, "50 to 99": 0, "100 or more": 0}


@pytest.mark.parametrize(("kind", "net"), [("mobile nets", "mb2-ssd-lite"), ("vgg16-ssd", "vgg16-ssd"),
                                           ("lite0-ssd-lite", "lite0-ssd-lite"), ("resnet nets", "resnet34-ssd")])
def test_the_share_of_good_priors_is_that_of_training(kind: str, net: str, tmp_path: Path) -> None:
    boxes = [Box(at, 1, 1, 5, 7, 4 + 9 * at, 40, 1, False) for at in range(30)]
    train = from_rows([Image(1, "a", 300, 200)], boxes, [Category(1, "cat", 1)])
    write_fixed(tmp_path / "train.npz", train)
    built = NetSpec(net, 300, 1.0, ("cat",), (1,)).build_shapes()
    report_priors(built, load_fixed("train", tmp_path), is_fitted=False, path=tmp_path / "priors.json")
    expected = json.loads((tmp_path / "priors.json").read_text())["recall"]
    assert good_prior_shares(trainable(train, ()))[kind] == pytest.approx(expected, abs=1e-4)
    assert 0.1 < expected < 0.95


def test_marks_stand_where_the_smallest_priors_do() -> None:
    bars = only(object_sizes_section(on_one_image((19.9, 19.9), (20, 20), (9, 9))), Bars)
    assert {bars.labels[at]: text for at, text in bars.marks.items()} == {
        "7 % to 10 %": "smallest prior of resnet nets, 7 %",
        "10 % to 14 %": "smallest prior of lite0-ssd-lite, 8 %; of vgg16-ssd, 10 %",
        "20 % to 28 %": "smallest prior of mobile nets, 20 %"}
    numbers = dict(zip(bars.labels, bars.series["train"], strict=True))
    assert (numbers["7 % to 10 %"], numbers["14 % to 20 %"], numbers["20 % to 28 %"]) == (1, 1, 1)


def test_objects_without_a_good_prior_give_advice() -> None:
    """A square of 9 px in 100 is smaller than 0.71 of the smallest prior of the mobile nets, and about that of the ResNets."""
    small = words(object_sizes_section(on_one_image((20, 20), (20, 21), (9, 9))))
    assert "67 % for mobile nets, 100 % for vgg16-ssd" in small
    assert "`model.priors: auto`" in small
    assert "model.priors" not in words(object_sizes_section(on_one_image((50, 50))))
    assert words(object_sizes_section(on_one_image())) == ""
    few = words(object_sizes_section(on_one_image(*[(50, 50 + at) for at in range(19)], (9, 9))))
    assert "95 % for mobile nets" in few
    assert "model.priors" not in few


def test_advice_is_on_the_objects_of_train() -> None:
    splits = {**on_one_image((50, 50)), "val": on_one_image((9, 90))["train"]}
    assert "model.priors" not in words(object_sizes_section(splits))
    assert words(object_shapes_section(splits)).startswith("0.0 % of the objects have an aspect ratio above 3:1")


def test_aspect_ratios_are_those_after_resizing_to_a_square() -> None:
    section = object_shapes_section(on_one_image((100, 10), (30, 30), (20, 100), width=200))  # 5:1, 1:2 and 1:10 when squeezed
    assert "66.7 % of the objects have an aspect ratio above 3:1 or below 1:3" in words(section)
    numbers = dict(zip(only(section, Bars).labels, only(section, Bars).series["train"], strict=True))
    assert {label: number for label, number in numbers.items() if number} == {"below 1:5": 1, "1:2 to 1:1.2": 1, "above 5:1": 1}


@pytest.mark.parametrize(("extreme", "share", "tone"), [(1, "10.0 %", "plain"), (2, "20.0 %", "advice")])
def test_many_objects_beyond_the_ratios_of_priors_give_advice(extreme: int, share: str, tone: str) -> None:
    fine = [(48, 16), (24, 8), (96, 32), (12, 4), (16, 48), (8, 24), (20, 20), (21, 21), (22, 22)]  # up to 3:1
    sides = [*fine[:10 - extreme], *[(64, 16), (16, 64)][:extreme]]
    text = only(object_shapes_section(on_one_image(*sides, width=128, height=128)), Text)
    assert (text.text.partition(" of the objects")[0], text.tone) == (share, tone)


def test_a_limited_number_of_image_sizes_is_listed() -> None:
    images = [Image(at, f"{at}", 30 + at, 30) for at in range(11)]
    _, sizes = image_sizes_section({"train": trainable(from_rows(images, [], []), ())}).elements
    assert isinstance(sizes, Table)
    assert len(sizes.rows) == 10


def test_sizes_of_images_are_listed_the_most_frequent_first() -> None:
    images = [Image(1, "a", 60, 40), Image(2, "b", 30, 30), Image(3, "c", 60, 40)]
    orientation, sizes = image_sizes_section({"train": trainable(from_rows(images, [], []), ())}).elements
    assert isinstance(orientation, Table)
    assert isinstance(sizes, Table)
    assert orientation.rows == [("train", "2", "0", "1", "2")]
    assert sizes.rows == [("60 × 40", "2", "66.7 %"), ("30 × 30", "1", "33.3 %")]


def test_the_sample_has_twelve_sound_images_with_all_their_boxes_and_is_reproducible(sound: ReportInput) -> None:
    train = trainable(sound.splits["train"], ())
    with_fault = {f"train/{at}.png" for at in range(5)}
    section = random_images_section(sound.manifest, "train", train, with_fault)
    tiles = only(section, Thumbnails).tiles
    names = [tile.name for tile in tiles]
    assert (len(set(names)), with_fault & set(names), section.title) == (12, set(), "12 random images of train")
    assert names != sorted(names)
    assert all((tile.text, [mark.xywh for mark in tile.thumbnails[0].marks]) == ("1 cat", [(5, 6, 20, 10)]) for tile in tiles)
    assert random_images_section(sound.manifest, "train", train, with_fault) == section


def test_the_sample_leaves_out_images_without_objects_and_takes_names_in_any_encoding(sound: ReportInput) -> None:
    images = [Image(1, "train/0.png", 60, 40), Image(2, "caf\udce9.png", 60, 40)]
    train = trainable(from_rows(images, [Box(1, 2, 1, 5, 6, 20, 10, 200, False)], [Category(1, "cat", 1)]), ())
    section = random_images_section(sound.manifest, "train", train, ())
    assert [tile.name for tile in only(section, Thumbnails).tiles] == ["caf\udce9.png"]


def test_a_caption_counts_the_four_most_frequent_classes_and_says_how_many_boxes_are_drawn(sound: ReportInput) -> None:
    boxes = [Box(at, 1, max(1, at - 55), at % 50, at // 50, 5, 5, 25, False) for at in range(61)]
    categories = [Category(at, name, at) for at, name in enumerate(("ape", "bee", "cat", "\x1b[2J", "elk"), start=1)]
    train = trainable(from_rows([Image(1, "train/0.png", 60, 40)], boxes, categories), ())
    tile, = only(random_images_section(sound.manifest, "train", train, ()), Thumbnails).tiles
    assert tile.text == "57 ape, 1 bee, 1 cat, 1 \\x1b[2J; the 60 largest of 61 are drawn"
    assert len(tile.thumbnails[0].marks) == 60


def test_a_dataset_without_sound_images_has_no_sample(sound: ReportInput) -> None:
    train = sound.splits["train"]
    section = random_images_section(sound.manifest, "train", trainable(train, ()), train.images.file_names)
    assert words(section) == "No image has objects and no faults."
