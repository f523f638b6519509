"""One dataset of real images, written in each of the four formats; for tests that compare them, or break them."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssd_lib.manifest import Manifest

COLUMNS = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsOccluded", "IsTruncated",
           "IsGroupOf", "IsDepiction", "IsInside")
Row = dict[str, Any]  # name, width, height, file, and boxes: (class name, x, y, width, height, crowd)


def image_rows_of_val(mirror: Manifest) -> list[Row]:
    """Return the images of the mirror's val split, sorted by name, with their boxes on whole pixels, and the file of each."""
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
    return rows


def write_files(root: Path, form: str, images: dict[str, list[Row]]) -> None:
    """Write the images of both splits in a format, each under the same name in all of them."""
    classes = class_names(images)
    for split, rows in images.items():
        (root / split).mkdir(parents=True)
        for row in rows:
            (root / split / row["name"]).write_bytes(row["file"].read_bytes())
        WRITERS[form](root, split, rows, classes)


def class_names(images: dict[str, list[Row]]) -> list[str]:
    """Return the names of all classes that have a box, sorted."""
    return sorted({box[0] for rows in images.values() for row in rows for box in row["boxes"]})


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
