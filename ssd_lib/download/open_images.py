"""Open Images: the boxes of the classes that you name, and their images. The annotation file of the training images, 2.2 GB for
600 classes, passes by and leaves the rows of the chosen ones."""

import hashlib
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ssd_lib.download.coco2017 import root_name
from ssd_lib.download.http import fetch, fetch_lines
from ssd_lib.download.image_files import collect_photos
from ssd_lib.download.line_filter import LineFilter
from ssd_lib.download.open_images_csv import (
    LIST_FILES_HINT,
    Row,
    choose_classes,
    choose_images,
    copy_rows,
    keep_labels,
    read_class_names,
    read_rows,
)
from ssd_lib.download.progress import transfer_bar
from ssd_lib.download.retries import RETRY_POLICY, RetryPolicy
from ssd_lib.errors import InputError
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part, raw_folder
from ssd_lib.params import DataParams, RuntimeParams

ANNOTATIONS_URL = "https://storage.googleapis.com/openimages"
IMAGES_URL = "https://open-images-dataset.s3.amazonaws.com"
CLASSES = "class-descriptions-boxable.csv"
SPLITS = {"train": ("train", "v6/oidv6-train-annotations-bbox.csv"),  # our name: the server's name, the annotations
          "val": ("validation", "v5/validation-annotations-bbox.csv")}
ROWS = ".rows"  # the rows of a set of classes, before the limits
THREADS = 8  # for each of runtime.downloads: a photo is small, and most of its time is waiting


@dataclass(frozen=True)
class Place:
    """Where the files come from, and the folder where they go."""

    root: Path
    annotations_url: str
    images_url: str
    patience: RetryPolicy


def open_images(data: DataParams, runtime: RuntimeParams, patience: RetryPolicy = RETRY_POLICY) -> Manifest:
    """Have the images of the chosen classes on the disk, with the rows of their boxes.

    Guarantees: which images are taken depends on the classes, the limits and the server's files alone. What is there is not fetched
    again: other limits fetch the images that are new, other classes stream the annotations once more. When nothing is missing
    no server is asked anything.

    Raises:
        InputError: no or unknown classes, a server without these files or with other ones.
        StateError: a server that is away, a full disk.
    """
    place = place_of(data, patience)
    classes = choose_classes(class_names(place), data.classes)
    if not classes:
        raise InputError("params.yaml: data.classes is empty; source: open_images downloads the classes that are named, e.g. "
                         f"[Cat, Dog]. {LIST_FILES_HINT}.")
    rows = {split: class_rows(place, split, classes) for split in SPLITS}
    files = {CLASSES: _row(place.root / CLASSES)}
    splits: dict[str, tuple[Part, ...]] = {}
    for split, (folder, _) in SPLITS.items():
        files |= _have(place, folder, rows[split], images_of(data, rows[split]), runtime.downloads * THREADS)
        splits[split] = (Part(format="open_images", images=folder, annotations=_annotations(folder), class_names=classes,
                              depictions=data.depictions),)
    return Manifest(source="open_images", root=place.root.name, splits=splits, classes=tuple(classes.values()), files=files)


def place_of(data: DataParams, patience: RetryPolicy) -> Place:
    """The official servers, or a mirror and its own folder."""
    if data.base_url == "auto":
        return Place(raw_folder() / "open_images", ANNOTATIONS_URL, IMAGES_URL, patience)
    base_url = data.base_url.rstrip("/")
    return Place(raw_folder() / root_name("open_images", base_url, official=False), base_url, base_url, patience)


def class_names(place: Place) -> dict[str, str]:
    """Label -> name of all classes that there are."""
    path = place.root / CLASSES
    with transfer_bar(CLASSES) as bar:
        fetch(f"{place.annotations_url}/v5/{CLASSES}", path, None, None, bar, patience=place.patience)
    try:
        return read_class_names(path)
    except InputError:
        path.unlink()  # so that it is fetched again
        raise


def class_rows(place: Place, split: str, classes: Collection[str]) -> Path:
    """The rows of some labels, in a file that is kept: neither the limits nor the images change it."""
    digest = hashlib.sha1(",".join(sorted(classes)).encode(), usedforsecurity=False).hexdigest()[:12]
    target = place.root / ROWS / f"{SPLITS[split][0]}-{digest}.csv"
    stream_rows(place, split, target, keep_labels(classes, annotations_url(place, split)))
    return target


def annotations_url(place: Place, split: str) -> str:
    """Where all boxes of a split are."""
    return f"{place.annotations_url}/{SPLITS[split][1]}"


def stream_rows(place: Place, split: str, target: Path, sift: LineFilter) -> None:
    """Put what `sift` keeps of the annotations of a split under `target`, unless it is there."""
    url = annotations_url(place, split)
    with transfer_bar(url.rpartition("/")[2]) as bar:
        fetch_lines(url, target, sift, bar, patience=place.patience)


def images_of(data: DataParams, rows: Path) -> list[str]:
    """The images that the limits take. An image with nothing but drawings counts only where they count as objects."""
    objects: Iterable[Row] = (row for row in read_rows(rows) if data.depictions or not row.is_depiction)
    return choose_images(objects, data.max_images, data.max_boxes_per_class)


def _have(place: Place, folder: str, rows: Path, images: list[str], threads: int) -> dict[str, tuple[int, str]]:
    """Fetch the images of a split, and copy the rows of those that the server has; both as the manifest names them."""
    if not images:
        raise InputError(f"data.classes: none of these classes is on an image of {folder}; each split needs some. Name a class "
                         "that is more common; `python -m stages.download --stats-only` counts them.")
    names = [f"{image}.jpg" for image in images]
    photos = collect_photos(place.root / folder, f"{place.images_url}/{folder}", names, threads, place.patience)
    if len(photos) < len(names):
        tqdm.write(f"{folder}: {len(names) - len(photos)} of {len(names)} images are not on the server; they are left out, "
                   f"and named in {place.root / folder}-missing.txt", file=sys.stderr)
    copy = place.root / _annotations(folder)
    copy_rows(rows, copy, {name.removesuffix(".jpg") for name in photos})
    return {f"{folder}/{name}": row for name, row in photos.items()} | {copy.name: _row(copy)}


def _annotations(folder: str) -> str:
    return f"sub-{folder}-annotations-bbox.csv"


def _row(path: Path) -> tuple[int, str]:
    return path.stat().st_size, sha256(path)
