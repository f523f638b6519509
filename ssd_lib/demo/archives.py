"""Pack generated images as the official COCO 2017 archives, with COCO's habits, so that demo and COCO take the same path.

The backgrounds are photographs that scikit-image ships; train and val have different ones. Box coordinates are COCO's: pixel i
covers [i, i + 1), so a box from 0 to the width spans the image. Segmentations are left out: the pipeline never reads them.
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
from skimage.measure import find_contours

from ssd_lib.demo.scenes import Kind, Layer, Scene, make_scene
from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write
from ssd_lib.processes import available_cores, die_with_parent

DEMO_VERSION: int = 1  # seeds the images; raise it when they change
PHOTOGRAPHS = {
    "train": ("astronaut.png", "rocket.jpg", "brick.png", "grass.png", "hubble_deep_field.jpg", "ihc.png", "coins.png"),
    "val": ("chelsea.png", "gravel.png", "camera.png", "retina.jpg", "moon.png"),
}
EMPTY_EVERY, CROWD_EVERY, GRAY_EVERY = 24, 20, 16  # one image in so many
JPEG_QUALITY = 90
WORTH_A_PROCESS, CHUNK = 100, 16  # images; starting a process takes as long as drawing 40
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can hold

CATEGORIES = {  # name: (id, supercategory); ids have holes, as COCO's do
    "ball": (3, "toy"),
    "butterfly": (17, "animal"),
    "dice": (18, "toy"),
    "mug": (44, "kitchen"),
    "ring": (62, "ornament"),
    "star": (87, "ornament"),
}
SPECK_PX = 4.0  # a visible fragment of a smaller area is left out
ID_STEP, ID_SPAN = 104_729, 15_485_863  # two primes: steps of one around the other never collide and look shuffled

DemoImage = tuple[dict[str, Any], list[dict[str, Any]], bytes]  # COCO's image record, its annotations, the JPEG file


def make_archives(folder: Path, train_images: int, val_images: int) -> None:
    """Write the demo as three archives, at COCO's official paths below `folder`.

    Guarantees: the same numbers give the same bytes, with the same libraries on the same machine; image k of a split does
    not depend on how many there are. Boxes and areas are of the visible pixels, as COCO's are; an object of which less than
    30 % is visible is in the image but has no annotation.

    Args:
        folder: where zips/train2017.zip, zips/val2017.zip and annotations/annotations_trainval2017.zip are written.
        train_images: how many images to generate for training; with 4 or more, every habit of COCO occurs.
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


def annotate(scene: Scene, image_id: int) -> list[dict[str, Any]]:
    """Return the COCO annotations of an image; boxes and areas are of the visible pixels.

    Outlines have no holes, as in COCO: the area of a ring is that of its outline.
    """
    found = [_annotate_object(layer, image_id) for layer in scene.objects]
    numbered = [{"id": (image_id * 32 + number) * ID_STEP % ID_SPAN, **one} for number, one in enumerate(found)]
    return [*numbered, _annotate_crowd(scene.crowd, image_id)] if scene.crowd else numbered


def outlines_of(alpha: np.ndarray) -> list[np.ndarray]:
    """Return the outlines where alpha is above a half: closed polygons of (x, y), one for each fragment, without holes.

    Corners lie between pixels, where interpolated alpha is a half; at the image border they lie on it.
    """
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    top, left = rows[0], columns[0]
    padded = np.pad(alpha[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    outlines = [contour[:, ::-1] + (left - 0.5, top - 0.5) for contour in find_contours(padded, 0.5)]
    return [outline for outline in outlines if _signed_area(outline) >= SPECK_PX]


def _make_split(path: Path, split: str, count: int) -> dict[str, Any]:
    """Write the images of one split; return their annotations as a COCO document."""
    images, annotations = [], []
    with (
        atomic_write(path) as file,
        zipfile.ZipFile(file, "w") as archive,
        closing(_draw_all(split, count)) as drawn,
    ):
        for image, found, content in drawn:
            images.append(image)
            annotations += found
            _add(archive, f"{split}2017/{image['file_name']}", content, zipfile.ZIP_STORED)
    return _document(images, annotations)


def _draw_all(split: str, count: int) -> Generator[DemoImage, None, None]:
    """Yield the images of a split in order, drawn on all cores if there are many."""
    workers = min(available_cores(), count // WORTH_A_PROCESS)
    if workers < 2:
        yield from (_draw(split, number) for number in range(count))
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
    try:
        yield from pool.map(partial(_draw, split), range(count), chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise StateError("demo: a process that draws images was killed; memory usually ran out. Close other programs, "
                         "then run the same command again.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent process and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(signal.SIGTERM)


def _draw(split: str, number: int) -> DemoImage:
    rng = np.random.default_rng(np.random.SeedSequence([DEMO_VERSION, list(PHOTOGRAPHS).index(split), number]))
    scene = make_scene(_photographs(PHOTOGRAPHS[split]), _kind(number), rng)
    image = _describe(scene, _image_id(list(PHOTOGRAPHS).index(split), number))
    is_gray = number % GRAY_EVERY == 3
    return image, annotate(scene, image["id"]), _encode(scene.image, is_gray)


def _kind(number: int) -> Kind:
    if number % EMPTY_EVERY == 1:
        return "empty"
    return "crowd" if number % CROWD_EVERY == 2 else "objects"


def _image_id(split_number: int, number: int) -> int:
    """Return an id; ids have holes, and those of train and val are interleaved, as in COCO."""
    return 9 + 37 * number + number * number % 17 + 18 * split_number


def _describe(scene: Scene, image_id: int) -> dict[str, Any]:
    height, width = scene.image.shape[:2]
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
        "info": {"description": "Generated demo images", "version": str(DEMO_VERSION), "year": 2017},
        "licenses": [{"id": 1, "name": "Generated over scikit-image's sample photographs", "url": ""}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


@cache
def _photographs(names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    return tuple(_read_photograph(name) for name in names)


def _read_photograph(name: str) -> np.ndarray:
    """Read one of scikit-image's photographs (BGR) from its package; skimage.data might use the network."""
    path = Path(skimage.__file__).parent / "data" / name
    photograph = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if photograph is None:
        raise StateError(f"{path}: the demo's background photograph is missing or damaged; scikit-image ships it. "
                         "`pip install --force-reinstall scikit-image` brings it back.")
    return photograph


def _encode(image: np.ndarray, is_gray: bool) -> bytes:
    if is_gray:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    is_encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert is_encoded, image.shape
    return bytes(data)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, compression: int) -> None:
    """Add a member whose header does not depend on the clock or the machine."""
    member = zipfile.ZipInfo(name, ZIP_DATE)
    member.create_system, member.external_attr, member.compress_type = 3, 0o644 << 16, compression
    archive.writestr(member, content)


def _annotate_object(layer: Layer, image_id: int) -> dict[str, Any]:
    outlines = outlines_of(layer.visible)
    corners = np.concatenate(outlines)
    return {
        "image_id": image_id,
        "category_id": CATEGORIES[layer.class_name][0],
        "bbox": _box(corners.min(axis=0), corners.max(axis=0)),
        "area": round(sum(_signed_area(outline) for outline in outlines), 2),
        "iscrowd": 0,
    }


def _annotate_crowd(crowd: list[Layer], image_id: int) -> dict[str, Any]:
    """Return one box around a whole crowd; its id encodes category and image, as in COCO."""
    category = CATEGORIES[crowd[0].class_name][0]
    mask = np.maximum.reduce([layer.visible for layer in crowd]) > 0.5
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return {
        "id": 900_000_000_000 + category * 100_000_000 + image_id,
        "image_id": image_id,
        "category_id": category,
        "bbox": _box(np.array([columns[0], rows[0]]), np.array([columns[-1] + 1, rows[-1] + 1])),
        "area": int(mask.sum()),
        "iscrowd": 1,
    }


def _signed_area(outline: np.ndarray) -> float:
    """The area of a closed polygon; negative for a hole, whose corners scikit-image lists in the other direction."""
    x, y = (outline - outline[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def _box(low: np.ndarray, high: np.ndarray) -> list[float]:
    return _round(np.concatenate([low, high - low]))


def _round(numbers: np.ndarray) -> list[float]:
    return [round(float(number), 2) for number in numbers]
