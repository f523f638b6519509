"""One data set in four formats is one data set; several are one by the names of their classes."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import data_params
from rows import Rows, flat, rows_of

from ssd_lib.annotations.fixed import fix_annotations
from ssd_lib.annotations.form import Annotations, Box, Category, Image
from ssd_lib.annotations.reading import join_parts, only_classes, read_splits
from ssd_lib.annotations.validation import validate
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest
from ssd_lib.params import FixParams, RuntimeParams
from ssd_lib.sources.local import local

COUNTS = {"train": 16, "validation": 8}  # 24 photographs
COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsOccluded", "IsTruncated",
           "IsGroupOf", "IsDepiction", "IsInside")
RUNTIME = RuntimeParams.model_construct(workers=0)
Row = dict[str, Any]  # name, width, height, and boxes: (class name, x, y, width, height, crowd)


@pytest.fixture(scope="session")
def photos(mirror: Manifest) -> dict[str, list[Row]]:
    """Real photographs with their boxes on whole pixels, and the file of each."""
    content = json.loads(mirror.path("annotations/instances_val2017.json").read_bytes())
    names = {category["id"]: category["name"] for category in content["categories"]}
    rows: list[Row] = []
    for image in sorted(content["images"], key=lambda row: row["file_name"]):
        boxes = []
        for box in (row for row in content["annotations"] if row["image_id"] == image["id"]):
            x, y = int(box["bbox"][0]), int(box["bbox"][1])
            width, height = min(int(box["bbox"][2]) + 1, image["width"] - x), min(int(box["bbox"][3]) + 1, image["height"] - y)
            boxes.append((names[box["category_id"]], x, y, width, height, bool(box["iscrowd"])))
        rows.append({"name": image["file_name"], "width": image["width"], "height": image["height"], "boxes": boxes,
                     "file": mirror.path(f"val2017/{image['file_name']}")})
    rows.sort(key=lambda row: -sum(box[5] for box in row["boxes"]))  # some crowds are among them
    parts = (rows[:16], rows[16:24])
    return {split: sorted(part, key=lambda row: row["name"]) for split, part in zip(COUNTS, parts, strict=True)}


def write_coco(root: Path, split: str, rows: list[Row], classes: list[str]) -> None:
    boxes = [(at, box) for at, row in enumerate(rows, 1) for box in row["boxes"]]
    (root / f"{split}.json").write_text(json.dumps({
        "images": [{"id": at, "file_name": row["name"], "width": row["width"], "height": row["height"]}
                   for at, row in enumerate(rows, 1)],
        "annotations": [{"id": number, "image_id": at, "category_id": 1 + classes.index(box[0]), "bbox": box[1:5],
                         "area": box[3] * box[4], "iscrowd": int(box[5])} for number, (at, box) in enumerate(boxes, 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)]}))


def write_voc(root: Path, split: str, rows: list[Row], classes: list[str]) -> None:
    for row in rows:
        things = "".join(
            f"<object><name>{name}</name><difficult>{int(crowd)}</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>"
            for name, x, y, width, height, crowd in row["boxes"])
        size = f"<size><width>{row['width']}</width><height>{row['height']}</height><depth>3</depth></size>"
        (root / split / row["name"]).with_suffix(".xml").write_text(f"<annotation>{size}{things}</annotation>")


def write_yolo(root: Path, split: str, rows: list[Row], classes: list[str]) -> None:
    (root / "data.yaml").write_text(json.dumps({"train": "train", "val": "validation", "names": classes}))
    for row in rows:
        lines = [f"{classes.index(name)} {(x + width / 2) / row['width']} {(y + height / 2) / row['height']} "
                 f"{width / row['width']} {height / row['height']}\n" for name, x, y, width, height, _ in row["boxes"]]
        (root / split / row["name"]).with_suffix(".txt").write_text("".join(lines))


def write_open_images(root: Path, split: str, rows: list[Row], classes: list[str]) -> None:
    (root / "class-descriptions-boxable.csv").write_text("".join(f"/m/{at},{name}\n" for at, name in enumerate(classes)))
    with (root / f"{split}-annotations-bbox.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            for name, x, y, width, height, crowd in row["boxes"]:
                sides = (x / row["width"], (x + width) / row["width"], y / row["height"], (y + height) / row["height"])
                writer.writerow([row["name"][:-4], "xclick", f"/m/{classes.index(name)}", 1, *sides, 0, 0, int(crowd), 0, 0])


WRITERS: dict[str, Callable[[Path, str, list[Row], list[str]], None]] = {
    "coco": write_coco, "voc": write_voc, "yolo": write_yolo, "open_images": write_open_images}


def write_set(root: Path, form: str, photos: dict[str, list[Row]], crowds: bool = True) -> Manifest:
    """The photographs in a format, each under the same name in all of them."""
    kept = {split: [{**row, "boxes": [box for box in row["boxes"] if crowds or not box[5]]} for row in rows]
            for split, rows in photos.items()}
    classes = sorted({box[0] for rows in kept.values() for row in rows for box in row["boxes"]})
    for split, rows in kept.items():
        (root / split).mkdir(parents=True)
        for row in rows:
            (root / split / row["name"]).write_bytes(row["file"].read_bytes())
        WRITERS[form](root, split, rows, classes)
    return local(data_params(source="local", paths=[str(root)]), RUNTIME)


def fixed_bytes(manifest: Manifest, folder: Path) -> dict[str, bytes]:
    """What validate and fix_annotations make of it."""
    report = validate(manifest, data_params(max_bad_fraction=0), RUNTIME, folder / "report.json")
    assert report["bad_images"] == report["bad_boxes"] == 0
    fix_annotations(manifest, report, FixParams(min_box_px=1.0), folder / "fixed")
    return {path.name: path.read_bytes() for path in (folder / "fixed").iterdir()}


@pytest.mark.parametrize("form", ["voc", "open_images"])
def test_the_same_photographs_give_the_same_bytes_in_every_format(
        photos: dict[str, list[Row]], tmp_path: Path, form: str) -> None:
    coco = write_set(tmp_path / "a", "coco", photos)
    other = write_set(tmp_path / "b", form, photos)
    assert other.splits["train"][0].format == form
    assert fixed_bytes(coco, tmp_path / "a_out") == fixed_bytes(other, tmp_path / "b_out")


def test_yolo_gives_the_same_bytes_but_for_crowds_which_it_cannot_say_and_classes_that_it_counts_from_0(
        photos: dict[str, list[Row]], tmp_path: Path) -> None:
    coco = fixed_bytes(write_set(tmp_path / "a", "coco", photos, crowds=False), tmp_path / "a_out")
    yolo = fixed_bytes(write_set(tmp_path / "b", "yolo", photos, crowds=False), tmp_path / "b_out")
    assert coco["labels.txt"] == yolo["labels.txt"]
    for name in ("train.json", "val.json"):
        counted_from_0 = re.sub(r'(?<="source_id":)\d+', lambda number: str(int(number[0]) - 1), coco[name].decode())
        assert counted_from_0 == yolo[name].decode()


def test_sets_of_several_formats_become_one_by_class_name(photos: dict[str, list[Row]], tmp_path: Path) -> None:
    for form in WRITERS:
        write_set(tmp_path / form, form, photos, crowds=False)
    paths = [str(tmp_path / form) for form in WRITERS]
    joined = join_parts(read_splits(local(data_params(source="local", paths=paths), RUNTIME)))
    one = join_parts(read_splits(local(data_params(source="local", paths=paths[:1]), RUNTIME)))
    for split in ("train", "val"):
        single, whole = rows_of(one[split]), rows_of(joined[split])
        assert len(whole.images) == len({image.id for image in whole.images}) == 4 * len(single.images)
        assert [category.name for category in whole.categories] == [category.name for category in single.categories]
        assert [box[2:7] for box in whole.boxes] == [box[2:7] for box in single.boxes] * 4
        assert len({box.id for box in whole.boxes}) == len(whole.boxes)


PETS = Rows(
    (Image(1, "a.jpg", 9, 9), Image(2, "b.jpg", 9, 9), Image(3, "c.jpg", 9, 9)),
    (Box(1, 1, 3, 0, 0, 2, 2, 4, False), Box(2, 1, 5, 0, 0, 3, 3, 9, False), Box(3, 2, 5, 0, 0, 4, 4, 16, False)),
    (Category(3, "cat", 3), Category(5, "dog", 5)), {})


def pets(names: list[str]) -> Annotations:
    return only_classes(flat(PETS), names)


def test_with_some_classes_alone_images_of_others_go_and_images_of_nothing_stay() -> None:
    cats = rows_of(pets(["cat"]))
    assert cats == PETS._replace(images=(PETS.images[0], PETS.images[2]), boxes=PETS.boxes[:1], categories=PETS.categories[:1])
    assert rows_of(pets(["cat", "dog"])) == PETS


@pytest.mark.parametrize("form", WRITERS)
def test_with_some_classes_alone_the_same_images_stay_in_every_format(
        photos: dict[str, list[Row]], tmp_path: Path, form: str) -> None:
    whole = write_set(tmp_path, form, photos, crowds=False)
    seen = validate(whole.model_copy(update={"classes": ("person",)}), data_params(max_bad_fraction=0), RUNTIME,
                    tmp_path / "out" / "report.json")
    classes = [{box[0] for box in row["boxes"] if not box[5]} for rows in photos.values() for row in rows]
    expected = sum(not names or "person" in names for names in classes)
    assert (seen["images"], seen["warnings"]) == (expected, 0)
    assert expected < 24


def test_an_unknown_class_lists_the_known_ones_and_the_nearest(photos: dict[str, list[Row]], tmp_path: Path) -> None:
    manifest = write_set(tmp_path, "voc", photos)
    assert read_splits(manifest.model_copy(update={"classes": ("person",)}))["val"][0].annotations.categories == (
        *(category for category in read_splits(manifest)["val"][0].annotations.categories if category.name == "person"),)
    with pytest.raises(InputError, match=r"the data have no class 'Person'; did you mean 'person'\? They have "):
        read_splits(manifest.model_copy(update={"classes": ("Person",)}))
