"""Write annotations as a dataset in COCO, YOLO or VOC format: the inverse of read.py, in layouts that labelling tools import.

    coco  images/a.jpg      annotations/instances_default.json
    yolo  images/a.jpg      labels/a.txt       data.yaml, classes.txt
    voc   JPEGImages/a.jpg  Annotations/a.xml  ImageSets/Main/default.txt, labelmap.txt
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import yaml

from ssd_lib.annotations.coco import write_annotations
from ssd_lib.annotations.table import Annotations, Box, box_rows
from ssd_lib.files import link_or_copy, write_text

LabelFormat = Literal["coco", "yolo", "voc"]
BOX_DIGITS = 2  # hundredths of a pixel
YOLO_DIGITS = 8  # of fractions: below a thousandth of a pixel for any image


def write_dataset(folder: Path, form: LabelFormat, annotations: Annotations, files: Sequence[Path]) -> None:
    """Write the images and their labels.

    Guarantees: read.py reads the same images, classes and boxes, to `BOX_DIGITS`; `data.paths` accepts the folder. Images are
    hard links where the file system has them, else copies.

    Args:
        folder: new or empty.
        form: the format.
        annotations: names of images are their names in the dataset, without folders and, apart from their suffixes, different.
        files: the image files, in the order of `annotations.images`.

    Raises:
        StateError: a file cannot be written.
    """
    for name, file in zip(annotations.images.file_names, files, strict=True):
        link_or_copy(file, folder / ("JPEGImages" if form == "voc" else "images") / name)
    WRITERS[form](folder, annotations)


def _write_coco(folder: Path, annotations: Annotations) -> None:
    write_annotations(folder / "annotations" / "instances_default.json", annotations)


def _write_yolo(folder: Path, annotations: Annotations) -> None:
    names = [category.name for category in annotations.categories]
    number_of = {category.id: number for number, category in enumerate(annotations.categories)}
    for (name, (width, height)), boxes in _by_image(annotations):
        lines = [" ".join([str(number_of[box.category_id]), *(f"{value:.{YOLO_DIGITS}f}" for value in (
            (box.x + box.width / 2) / width, (box.y + box.height / 2) / height, box.width / width, box.height / height))])
            for box in boxes]
        write_text(folder / "labels" / Path(name).with_suffix(".txt"), "".join(f"{line}\n" for line in lines))
    write_text(folder / "classes.txt", "".join(f"{name}\n" for name in names))  # for Label Studio
    write_text(folder / "data.yaml", yaml.safe_dump({"path": ".", "train": "images", "names": dict(enumerate(names))},
                                                    sort_keys=False, allow_unicode=True))


def _write_voc(folder: Path, annotations: Annotations) -> None:
    class_names = {category.id: category.name for category in annotations.categories}
    for (name, (width, height)), boxes in _by_image(annotations):
        root = Element("annotation")
        _add(root, {"folder": "JPEGImages", "filename": name})
        _add(SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
        for box in boxes:
            element = SubElement(root, "object")
            _add(element, {"name": class_names[box.category_id], "truncated": 0, "difficult": int(box.is_crowd)})
            corners = {"xmin": box.x + 1, "ymin": box.y + 1, "xmax": box.x + box.width, "ymax": box.y + box.height}
            _add(SubElement(element, "bndbox"), {key: f"{value:.{BOX_DIGITS}f}" for key, value in corners.items()})
        indent(root)
        write_text(folder / "Annotations" / Path(name).with_suffix(".xml"), tostring(root, encoding="unicode") + "\n")
    write_text(folder / "ImageSets" / "Main" / "default.txt",
               "".join(f"{Path(name).stem}\n" for name in annotations.images.file_names))
    write_text(folder / "labelmap.txt",  # CVAT's
               "# label:color_rgb:parts:actions\n" + "".join(f"{name}:::\n" for name in class_names.values()))


WRITERS: Mapping[LabelFormat, Callable[[Path, Annotations], None]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "voc": _write_voc,
}


def _by_image(annotations: Annotations) -> list[tuple[tuple[str, tuple[int, int]], list[Box]]]:
    """Return name, (width, height) and boxes of each image."""
    images = annotations.images
    boxes: dict[int, list[Box]] = {number: [] for number in images.ids.tolist()}
    for box in box_rows(annotations.boxes):
        boxes[box.image_id].append(box)
    return list(zip(zip(images.file_names, map(tuple, images.sizes.tolist()), strict=True), boxes.values(), strict=True))


def _add(parent: Element, texts: Mapping[str, object]) -> None:
    for tag, text in texts.items():
        SubElement(parent, tag).text = str(text)
