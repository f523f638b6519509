"""The embedded data set: pictures that are generated, no network needed, packed as the official COCO 2017 archives are and with
COCO's habits, so that the demo and COCO go the same way through the pipeline. What a picture shows is in demo_scenes.py.

The backgrounds are photographs that scikit-image ships; train and val have different ones.
"""

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import skimage
from skimage.measure import approximate_polygon, find_contours

from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write
from ssd_lib.sources.demo_scenes import Kind, Layer, Scene, make_scene

DEMO_VERSION: int = 1  # raise it when the pictures change: it seeds them
PHOTOGRAPHS = {
    "train": ("astronaut.png", "coffee.png", "rocket.jpg", "brick.png", "grass.png", "hubble_deep_field.jpg", "ihc.png", "coins.png"),
    "val": ("chelsea.png", "gravel.png", "camera.png", "retina.jpg", "moon.png"),
}
CATEGORIES = {"ball": (3, "toy"), "butterfly": (17, "animal"), "dice": (18, "toy"), "mug": (44, "kitchen"),
              "ring": (62, "shape"), "star": (87, "shape")}  # name: (id, supercategory)
EMPTY_EVERY, GRAY_EVERY, CROWD_EVERY = 24, 16, 20  # one picture in so many
JPEG_QUALITY = 90
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can tell


def make_archives(folder: Path, train_images: int, val_images: int) -> None:
    """Write the demo as three archives, at COCO's official paths below `folder`.

    Law: the same numbers give the same bytes, with the same libraries on the same machine. Picture k of a split does not depend
    on how many there are. Boxes, areas and polygons are of the visible pixels, as COCO's are; an object of which less than
    30 % is visible is in the picture but has no annotation.

    Args:
        folder: where zips/train2017.zip, zips/val2017.zip and annotations/annotations_trainval2017.zip are written.
        train_images: how many pictures to generate for training; with 4 every habit of COCO's occurs.
        val_images: the same for validation.

    Raises:
        StateError: a background photograph is missing from scikit-image, or the disk is full.
    """
    instances = {}
    for split, count in (("train", train_images), ("val", val_images)):
        document = _make_split(folder / "zips" / f"{split}2017.zip", split, count)
        instances[f"annotations/instances_{split}2017.json"] = json.dumps(document, sort_keys=True).encode()
    with (
        atomic_write(folder / "annotations" / "annotations_trainval2017.zip") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        for name, content in instances.items():
            _add(archive, name, content, zipfile.ZIP_DEFLATED)


def _make_split(path: Path, split: str, count: int) -> dict[str, Any]:
    """Write the pictures of one split; returns its annotations, a COCO document."""
    photographs = [_load_photograph(name) for name in PHOTOGRAPHS[split]]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        for number in range(count):
            rng = np.random.default_rng(np.random.SeedSequence([DEMO_VERSION, len(split), number]))
            scene = make_scene(photographs, _kind(number), rng)
            image_id = _image_id(split, number)
            image = _describe(scene, image_id)
            images.append(image)
            annotations += _annotate(scene, image_id)
            _add(archive, f"{split}2017/{image['file_name']}", _encode(scene, number), zipfile.ZIP_STORED)
    return {
        "info": {"description": f"Demo pictures, version {DEMO_VERSION}", "version": str(DEMO_VERSION), "year": 2017},
        "licenses": [{"id": 1, "name": "Generated; backgrounds are scikit-image's sample photographs", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "supercategory": kind} for name, (number, kind) in CATEGORIES.items()],
    }
