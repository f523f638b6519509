"""The embedded data set: generated pictures, packed as the official COCO 2017 archives are and with COCO's habits, so
that the demo and COCO go the same way through the pipeline. What a picture shows is known in demo_scenes.py.

The backgrounds are photographs that scikit-image ships; train and val have different ones.
"""

import json
import signal
import zipfile
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage

from ssd_lib.demo.annotations import CATEGORIES, annotate
from ssd_lib.demo.scenes import Kind, Scene, make_scene
from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write
from ssd_lib.processes import available_cores, die_with_parent

DEMO_VERSION: int = 1  # it seeds the pictures; raise it when they change
PHOTOGRAPHS = {
    "train": ("astronaut.png", "rocket.jpg", "brick.png", "grass.png", "hubble_deep_field.jpg", "ihc.png", "coins.png"),
    "val": ("chelsea.png", "gravel.png", "camera.png", "retina.jpg", "moon.png"),
}
EMPTY_EVERY, CROWD_EVERY, GRAY_EVERY = 24, 20, 16  # one picture in so many
JPEG_QUALITY = 90
WORTH_A_PROCESS, CHUNK = 100, 16  # pictures; a process takes as long to start as some 40 pictures take to draw
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can hold

Picture = tuple[dict[str, Any], list[dict[str, Any]], bytes]  # what COCO says of the image, its annotations, its file


def make_archives(folder: Path, train_images: int, val_images: int) -> None:
    """Write the demo as three archives, at COCO's official paths below `folder`.

    Guarantees: the same numbers give the same bytes, with the same libraries on the same machine; picture k of a split does
    not depend on how many there are. Boxes, areas and polygons are of the visible pixels, as COCO's are; an object of
    which less than 30 % is visible is in the picture but has no annotation.

    Args:
        folder: where zips/train2017.zip, zips/val2017.zip and annotations/annotations_trainval2017.zip are written.
        train_images: how many pictures to generate for training; from 4 on, every habit of COCO's occurs.
        val_images: the same for validation.

    Raises:
        StateError: scikit-image lacks one of the photographs, or the disk is full.
    """
    documents = {
        f"annotations/instances_{split}2017.json": _make_split(folder / "zips" / f"{split}2017.zip", split, count)
        for split, count in (("train", train_images), ("val", val_images))
    }
    with (
        atomic_write(folder / "annotations" / "annotations_trainval2017.zip") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        for name, document in documents.items():
            _add(archive, name, json.dumps(document, sort_keys=True).encode(), zipfile.ZIP_DEFLATED)


def _make_split(path: Path, split: str, count: int) -> dict[str, Any]:
    """Write the pictures of one split; returns their annotations as a COCO document."""
    images, annotations = [], []
    with (
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w") as archive,
        closing(_draw_all(split, count)) as pictures,
    ):
        for image, found, content in pictures:
            images.append(image)
            annotations += found
            _add(archive, f"{split}2017/{image['file_name']}", content, zipfile.ZIP_STORED)
    return _document(images, annotations)


def _draw_all(split: str, count: int) -> Generator[Picture, None, None]:
    """The pictures of a split in order, drawn on all cores where there are many of them."""
    workers = min(available_cores(), count // WORTH_A_PROCESS)
    if workers < 2:
        yield from (_draw(split, number) for number in range(count))
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
    try:
        yield from pool.map(partial(_draw, split), range(count), chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise StateError("demo: a process that draws pictures was killed; most often memory ran out. Close other programs, "
                         "then run the same command again.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(signal.SIGTERM)


def _draw(split: str, number: int) -> Picture:
    rng = np.random.default_rng(np.random.SeedSequence([DEMO_VERSION, list(PHOTOGRAPHS).index(split), number]))
    scene = make_scene(_photographs(PHOTOGRAPHS[split]), _kind(number), rng)
    image = _describe(scene, _image_id(list(PHOTOGRAPHS).index(split), number))
    is_gray = number % GRAY_EVERY == 3
    return image, annotate(scene, image["id"]), _encode(scene.picture, is_gray)


def _kind(number: int) -> Kind:
    if number % EMPTY_EVERY == 1:
        return "empty"
    return "crowd" if number % CROWD_EVERY == 2 else "objects"


def _image_id(split_number: int, number: int) -> int:
    """An id with holes between it and the next; those of train and val lie among each other, as COCO's do."""
    return 9 + 37 * number + number * number % 17 + 18 * split_number


def _describe(scene: Scene, image_id: int) -> dict[str, Any]:
    height, width = scene.picture.shape[:2]
    return {
        "id": image_id,
        "file_name": f"{image_id:012d}.jpg",
        "height": height,
        "width": width,
        "license": 1,
        "date_captured": "2017-01-01 00:00:00",
    }


def _document(images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    categories = [{"id": number, "name": name, "supercategory": kind} for name, (number, kind) in CATEGORIES.items()]
    return {
        "info": {"description": "Generated demo pictures", "version": str(DEMO_VERSION), "year": 2017},
        "licenses": [{"id": 1, "name": "Generated over scikit-image's sample photographs", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


@cache
def _photographs(names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    return tuple(_read_photograph(name) for name in names)


def _read_photograph(name: str) -> np.ndarray:
    """Read one of scikit-image's photographs, BGR, from its package; skimage.data may ask the network."""
    path = Path(skimage.__file__).parent / "data" / name
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if picture is None:
        raise StateError(f"{path}: the demo's background photograph is missing or damaged; scikit-image ships it. "
                         "`pip install --force-reinstall scikit-image` brings it back.")
    return picture


def _encode(picture: np.ndarray, is_gray: bool) -> bytes:
    if is_gray:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    is_encoded, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert is_encoded, picture.shape
    return bytes(data)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    """Add a member whose header tells nothing of the clock or of the machine."""
    member = zipfile.ZipInfo(name, ZIP_DATE)
    member.create_system, member.external_attr, member.compress_type = 3, 0o644 << 16, compression
    archive.writestr(member, content)
