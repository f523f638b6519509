"""How much there is of each class of Open Images, before an image is downloaded: a dry run of `open_images.py`."""

import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssd_lib.download.image_files import PHOTO_BYTES
from ssd_lib.download.open_images import (
    SPLITS,
    Place,
    annotations_url,
    class_names,
    class_rows,
    images_of,
    place_of,
    stream_rows,
)
from ssd_lib.download.open_images_csv import Row, choose_classes, parse_rows, read_rows
from ssd_lib.download.retries import RETRY_POLICY, RetryPolicy
from ssd_lib.errors import InputError
from ssd_lib.params import DataParams

COLUMNS = ("images", "boxes", "crowds", "depictions")


@dataclass(frozen=True)
class Count:
    """How much there is of a class: images with it, its boxes, and those of them that are groups or drawings."""

    images: int
    boxes: int
    crowds: int
    depictions: int


@dataclass
class _Tally:
    """A count that is not finished."""

    boxes: int = 0
    crowds: int = 0
    depictions: int = 0
    images: "array[int]" = field(default_factory=lambda: array("q"))  # a hash of each: 2 million names would take 200 MB


def statistics(data: DataParams, patience: RetryPolicy = RETRY_POLICY) -> str:
    """A table of the chosen classes, or of all where none is, for each split; and what the limits would take.

    No image is fetched. The rows of chosen classes are kept: the download need not stream the annotations again.

    Raises:
        InputError: another source, an unknown class; and as of `open_images`.
        StateError: as of `open_images`.
    """
    if data.source != "open_images":
        raise InputError(f"params.yaml: data.source is {data.source}; --stats-only counts the classes of open_images before "
                         "they are downloaded. Set data.source: open_images, or leave the option out.")
    place = place_of(data, patience)
    names = class_names(place)
    classes = choose_classes(names, data.classes)
    return "\n\n".join(_split_statistics(data, place, split, names, classes) for split in SPLITS)


def count_rows(rows: Iterable[Row]) -> dict[str, Count]:
    """Label -> how much there is of it. The rows of an image may stand anywhere."""
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    _add(tallies, rows)
    return _finished(tallies)


def table(head: str, counts: dict[str, Count], classes: dict[str, str]) -> str:
    """A line for each class, the most common first; a class that does not occur has zeros.

    Args:
        head: what stands above the names of the classes.
        counts: by label.
        classes: label -> name.
    """
    ordered = sorted(((counts.get(label, Count(0, 0, 0, 0)), name) for label, name in classes.items()),
                     key=lambda row: (-row[0].images, row[1]))
    width = max(map(len, (head, *classes.values())))
    lines = [_line(head, COLUMNS, width)]
    lines += [_line(name, [f"{getattr(count, column):,}" for column in COLUMNS], width) for count, name in ordered]
    return "\n".join(lines)


def _split_statistics(data: DataParams, place: Place, split: str, names: dict[str, str], classes: dict[str, str]) -> str:
    folder, _ = SPLITS[split]
    if not classes:
        return table(folder, _count_all(place, split), names)
    rows = class_rows(place, split, classes)
    unlimited = data.model_copy(update={"max_images": 0, "max_boxes_per_class": 0})
    everything, taken = images_of(unlimited, rows), images_of(data, rows)
    return (f"{table(folder, count_rows(read_rows(rows)), classes)}\n"
            f"{folder}: {len(taken):,} of {len(everything):,} images would be downloaded, about "
            f"{len(taken) * PHOTO_BYTES / 1e6:,.0f} MB")


def _count_all(place: Place, split: str) -> dict[str, Count]:
    """Count what passes by, and keep none of it."""
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    url = annotations_url(place, split)

    def sift(lines: bytes, start: int) -> bytes:
        if start == 0:
            tallies.clear()  # the file changed on the server: all of it comes again
        _add(tallies, parse_rows(lines, start, url))
        return b""

    with tempfile.TemporaryDirectory() as folder:
        stream_rows(place, split, Path(folder) / url.rpartition("/")[2], sift)
    return _finished(tallies)


def _add(tallies: dict[str, _Tally], rows: Iterable[Row]) -> None:
    for row in rows:
        tally, image = tallies[row.label], hash(row.image)
        tally.boxes += 1
        tally.crowds += row.is_crowd
        tally.depictions += row.is_depiction
        if not tally.images or tally.images[-1] != image:  # in the official files the rows of an image stand together
            tally.images.append(image)


def _finished(tallies: dict[str, _Tally]) -> dict[str, Count]:
    return {label: Count(len(set(tally.images)), tally.boxes, tally.crowds, tally.depictions)
            for label, tally in tallies.items()}


def _line(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells)
