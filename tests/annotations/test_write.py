"""A dataset that is written is the one that the readers read, in every format, and labelling tools find what they need."""

from pathlib import Path
from typing import get_args
from xml.etree.ElementTree import parse

import numpy as np
import pytest
import yaml
from PIL import Image as Pillow
from support.folders import run

from ssd_lib.annotations.read import read_splits
from ssd_lib.annotations.table import Box, Category, Image, box_rows, from_rows
from ssd_lib.annotations.write import LabelFormat, write_dataset

SIZES = {"a b.png": (64, 48), "Bär.jpg": (40, 50), "empty.png": (33, 21)}
CLASSES = ("cat & <dog>", "Bär", "never seen")
BOXES = [("a b.png", "Bär", 2.0, 1.5, 62.0, 46.5), ("a b.png", "cat & <dog>", 10.25, 7.33, 21.99, 40.67),
         ("Bär.jpg", "Bär", 39.5, 1.01, 0.5, 48.99)]  # (image, class, x, y, width, height)


@pytest.fixture(params=get_args(LabelFormat))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write the dataset in a format; return its folder."""
    files = []
    for number, size in enumerate(SIZES.values()):
        files.append(tmp_path / str(number))  # the names in the dataset are others than those of the files
        Pillow.fromarray(np.full((*size[::-1], 3), 90, np.uint8)).save(files[-1], "png")
    images = [Image(number, name, *size) for number, (name, size) in enumerate(SIZES.items(), 1)]
    ids = {name: number for number, name in enumerate(CLASSES, 17)}
    boxes = [Box(number, 1 + list(SIZES).index(image), ids[name], *xywh, xywh[2] * xywh[3], False)
             for number, (image, name, *xywh) in enumerate(BOXES, 1)]
    categories = [Category(number, name, number) for name, number in ids.items()]
    write_dataset(tmp_path / request.param, request.param, from_rows(images, boxes, categories), files)
    return tmp_path / request.param


def test_what_is_written_is_read_again(written: Path) -> None:
    manifest = run(written)
    parts = [part for split in read_splits(manifest).values() for part in split]
    sizes, boxes = {}, []
    for part in parts:
        assert part.faults == ()
        annotations = part.annotations
        names = {category.id: category.name for category in annotations.categories}
        assert list(names.values()) == list(CLASSES)
        files = [Path(name).name for name in annotations.images.file_names]
        sizes |= dict(zip(files, map(tuple, annotations.images.sizes.tolist()), strict=True))
        boxes += [(files[image], names[box.category_id], *np.round(box[3:7], 6).tolist())
                  for image, box in zip(annotations.image_indices(), box_rows(annotations.boxes), strict=True)]
    assert sizes == SIZES
    assert sorted(boxes) == sorted(BOXES)


def test_tools_find_the_lists_that_they_need(written: Path) -> None:
    files = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    folder = "JPEGImages" if written.name == "voc" else "images"
    assert {f"{folder}/{name}" for name in SIZES} < files
    if written.name == "yolo":
        assert (written / "classes.txt").read_text().splitlines() == list(CLASSES)
        assert yaml.safe_load((written / "data.yaml").read_text())["names"] == dict(enumerate(CLASSES))
        assert (written / "labels/empty.txt").read_text() == "", "an image without objects has a file, too"
    elif written.name == "voc":
        root = parse(written / "Annotations/Bär.xml").getroot()
        assert [root.findtext(tag) for tag in ("filename", "size/width", "size/height")] == ["Bär.jpg", "40", "50"]
        assert (written / "labelmap.txt").read_text().splitlines()[1:] == [f"{name}:::" for name in CLASSES]
        assert (written / "ImageSets/Main/default.txt").read_text().splitlines() == ["a b", "Bär", "empty"]
    else:
        assert "annotations/instances_default.json" in files
