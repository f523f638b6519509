"""Download the chosen classes of Open Images: their boxes and their images; or only count them.

The annotation file of the training images (2.2 GB, 600 classes) is streamed, and only the rows of the chosen classes are kept.
"""

import hashlib
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssd_lib.download.coco2017 import root_name
from ssd_lib.download.connection import RETRY_POLICY, RetryPolicy
from ssd_lib.download.http import fetch, fetch_lines, transfer_bar, write_line
from ssd_lib.download.image_files import IMAGE_BYTES, download_images
from ssd_lib.download.open_images_rows import (
    LIST_CLASSES_HINT,
    Row,
    choose_classes,
    choose_images,
    copy_rows,
    keep_labels,
    parse_rows,
    read_class_names,
    read_rows,
)
from ssd_lib.download.part_file import LineFilter
from ssd_lib.errors import InputError
from ssd_lib.files import sha256
from ssd_lib.manifest import Manifest, Part, raw_folder
from ssd_lib.params import DataParams, RuntimeParams

ANNOTATIONS_URL = "https://storage.googleapis.com/openimages"
IMAGES_URL = "https://open-images-dataset.s3.amazonaws.com"
CLASSES = "class-descriptions-boxable.csv"
SPLITS = {"train": ("train", "v6/oidv6-train-annotations-bbox.csv"),  # our name: (the server's name, the annotations)
          "val": ("validation", "v5/validation-annotations-bbox.csv")}
ROWS = ".rows"  # folder of the rows of a set of classes, before the limits apply
THREADS = 8  # for each of runtime.downloads: images are small, and most of the time is spent waiting
COLUMNS = ("images", "boxes", "crowds", "depictions")


@dataclass(frozen=True)
class Count:
    """How much there is of a class: images, boxes, and how many boxes are groups or drawings."""

    images: int
    boxes: int
    crowds: int
    depictions: int


@dataclass
class _Tally:
    """An unfinished count."""

    boxes: int = 0
    crowds: int = 0
    depictions: int = 0
    images: "array[int]" = field(default_factory=lambda: array("q"))  # a hash of each: 2 million names would take 200 MB


@dataclass(frozen=True)
class Place:
    """The servers of the files, and the local folder."""

    root: Path
    annotations_url: str
    images_url: str
    retry_policy: RetryPolicy


def open_images(data: DataParams, runtime: RuntimeParams, retry_policy: RetryPolicy = RETRY_POLICY) -> Manifest:
    """Provide the images of the chosen classes and the rows of their boxes; return the manifest.

    Guarantees: which images are taken depends only on the classes, the limits and the server's files. Nothing is fetched twice:
    other limits fetch the new images, other classes stream the annotations again. If nothing is missing, no server is
    contacted.

    Raises:
        InputError: no or unknown classes, or a server without these files.
        StateError: an unreachable server, a full disk.
    """
    place = place_of(data, retry_policy)
    classes = choose_classes(class_names(place), data.classes)
    if not classes:
        raise InputError("params.yaml: data.classes is empty; source: open_images downloads the classes that are named, e.g. "
                         f"[Cat, Dog]. {LIST_CLASSES_HINT}.")
    rows = {split: class_rows(place, split, classes) for split in SPLITS}
    files = {CLASSES: _row(place.root / CLASSES)}
    splits: dict[str, tuple[Part, ...]] = {}
    for split, (folder, _) in SPLITS.items():
        files |= _download_split(place, folder, rows[split], images_of(data, rows[split]), runtime.downloads * THREADS)
        splits[split] = (Part(format="open_images", images=folder, annotations=_annotations(folder), class_names=classes,
                              depictions=data.depictions),)
    return Manifest(source="open_images", root=place.root.name, splits=splits, classes=tuple(classes.values()), files=files)


def statistics(data: DataParams, retry_policy: RetryPolicy = RETRY_POLICY) -> str:
    """Return a table of the chosen classes (or of all) for each split, and how many images the limits would take.

    No image is fetched. The rows of chosen classes are kept, so that the download does not stream the annotations again.

    Raises:
        InputError: another source or an unknown class; see also `open_images`.
        StateError: see `open_images`.
    """
    if data.source != "open_images":
        raise InputError(f"params.yaml: data.source is {data.source}; --stats-only counts the classes of open_images before "
                         "they are downloaded. Set data.source: open_images, or leave the option out.")
    place = place_of(data, retry_policy)
    names = class_names(place)
    classes = choose_classes(names, data.classes)
    return "\n\n".join(_split_statistics(data, place, split, names, classes) for split in SPLITS)


def count_rows(rows: Iterable[Row]) -> dict[str, Count]:
    """Return the count of each label. The rows of an image may come in any order."""
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    _add(tallies, rows)
    return _finished(tallies)


def table(head: str, counts: dict[str, Count], classes: dict[str, str]) -> str:
    """Return a line for each class, most common first; a class that does not occur has zeros.

    Args:
        head: heading of the class names.
        counts: by label.
        classes: label -> name.
    """
    ordered = sorted(((counts.get(label, Count(0, 0, 0, 0)), name) for label, name in classes.items()),
                     key=lambda row: (-row[0].images, row[1]))
    width = max(map(len, (head, *classes.values())))
    lines = [_line(head, COLUMNS, width)]
    lines += [_line(name, [f"{getattr(count, column):,}" for column in COLUMNS], width) for count, name in ordered]
    return "\n".join(lines)


def place_of(data: DataParams, retry_policy: RetryPolicy) -> Place:
    """Return the official servers, or a mirror with a folder of its own."""
    if data.base_url == "auto":
        return Place(raw_folder() / "open_images", ANNOTATIONS_URL, IMAGES_URL, retry_policy)
    base_url = data.base_url.rstrip("/")
    return Place(raw_folder() / root_name("open_images", base_url, official=False), base_url, base_url, retry_policy)


def class_names(place: Place) -> dict[str, str]:
    """Return label -> name of all classes."""
    path = place.root / CLASSES
    with transfer_bar(CLASSES) as bar:
        fetch(f"{place.annotations_url}/v5/{CLASSES}", path, None, None, bar, retry_policy=place.retry_policy)
    try:
        return read_class_names(path)
    except InputError:
        path.unlink()  # so that the next run fetches it again
        raise


def class_rows(place: Place, split: str, classes: Collection[str]) -> Path:
    """Return a file of the rows of some labels; it is kept, since neither limits nor images change it."""
    digest = hashlib.sha1(",".join(sorted(classes)).encode(), usedforsecurity=False).hexdigest()[:12]
    target = place.root / ROWS / f"{SPLITS[split][0]}-{digest}.csv"
    stream_rows(place, split, target, keep_labels(classes, annotations_url(place, split)))
    return target


def annotations_url(place: Place, split: str) -> str:
    """Return the URL of all boxes of a split."""
    return f"{place.annotations_url}/{SPLITS[split][1]}"


def stream_rows(place: Place, split: str, target: Path, line_filter: LineFilter) -> None:
    """Write what `line_filter` keeps of the annotations of a split to `target`, unless it exists."""
    url = annotations_url(place, split)
    with transfer_bar(url.rpartition("/")[2]) as bar:
        fetch_lines(url, target, line_filter, bar, place.retry_policy)


def images_of(data: DataParams, rows: Path) -> list[str]:
    """Return the images within the limits. Without `data.depictions` an image that only has drawings does not count."""
    objects: Iterable[Row] = (row for row in read_rows(rows) if data.depictions or not row.is_depiction)
    return choose_images(objects, data.max_images, data.max_boxes_per_class)


def _download_split(place: Place, folder: str, rows: Path, images: list[str], threads: int) -> dict[str, tuple[int, str]]:
    """Fetch the images of a split and copy the rows of those that exist; return both as the manifest lists them."""
    if not images:
        raise InputError(f"data.classes: no image of {folder} shows any of these classes; each split needs some. Name a more "
                         "common class; `python -m stages.download --stats-only` counts them.")
    names = [f"{image}.jpg" for image in images]
    downloaded = download_images(place.root / folder, f"{place.images_url}/{folder}", names, threads, place.retry_policy)
    if len(downloaded) < len(names):
        write_line(f"{folder}: {len(names) - len(downloaded)} of {len(names)} images are not on the server; they are left out "
                   f"and listed in {place.root / folder}-missing.txt")
    copy = place.root / _annotations(folder)
    copy_rows(rows, copy, {name.removesuffix(".jpg") for name in downloaded})
    return {f"{folder}/{name}": row for name, row in downloaded.items()} | {copy.name: _row(copy)}


def _annotations(folder: str) -> str:
    return f"sub-{folder}-annotations-bbox.csv"


def _row(path: Path) -> tuple[int, str]:
    return path.stat().st_size, sha256(path)


def _split_statistics(data: DataParams, place: Place, split: str, names: dict[str, str], classes: dict[str, str]) -> str:
    folder, _ = SPLITS[split]
    if not classes:
        return table(folder, _count_all(place, split), names)
    rows = class_rows(place, split, classes)
    unlimited = data.model_copy(update={"max_images": 0, "max_boxes_per_class": 0})
    everything, taken = images_of(unlimited, rows), images_of(data, rows)
    return (f"{table(folder, count_rows(read_rows(rows)), classes)}\n"
            f"{folder}: {len(taken):,} of {len(everything):,} images would be downloaded, about "
            f"{len(taken) * IMAGE_BYTES / 1e6:,.0f} MB")


def _count_all(place: Place, split: str) -> dict[str, Count]:
    """Count all rows while streaming, and keep none."""
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    url = annotations_url(place, split)

    def line_filter(lines: bytes, start: int) -> bytes:
        if start == 0:
            tallies.clear()  # the file changed on the server and is sent again from its start
        _add(tallies, parse_rows(lines, start, url))
        return b""

    with tempfile.TemporaryDirectory() as folder:
        stream_rows(place, split, Path(folder) / url.rpartition("/")[2], line_filter)
    return _finished(tallies)


def _add(tallies: dict[str, _Tally], rows: Iterable[Row]) -> None:
    for row in rows:
        tally, image = tallies[row.label], hash(row.image)
        tally.boxes += 1
        tally.crowds += row.is_crowd
        tally.depictions += row.is_depiction
        if not tally.images or tally.images[-1] != image:  # the official files list the rows of an image together
            tally.images.append(image)


def _finished(tallies: dict[str, _Tally]) -> dict[str, Count]:
    return {label: Count(len(set(tally.images)), tally.boxes, tally.crowds, tally.depictions)
            for label, tally in tallies.items()}


def _line(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells)
