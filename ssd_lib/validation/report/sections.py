"""The sections of the report on faults, files and images; each function is called like the heading of its section.

Classes are in classes.py, numbers and sizes in objects.py; `_sections` in report.py puts all together.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from heapq import nsmallest
from itertools import groupby
from typing import Any

import numpy as np

from ssd_lib.annotations.account import FILE_KINDS
from ssd_lib.annotations.faults import KINDS, Fault
from ssd_lib.annotations.table import Annotations
from ssd_lib.errors import plural, visible
from ssd_lib.manifest import Manifest
from ssd_lib.params import DataParams
from ssd_lib.report.elements import Element, Listing, Mark, Section, Table, Text, Thumbnails, Tile, percent
from ssd_lib.report.thumbnails import MAX_MARKS, can_be_drawn, read_thumbnail
from ssd_lib.validation.annotations import Duplicate, find_duplicates
from ssd_lib.validation.report.marks import ImageKey, find_marks
from ssd_lib.validation.report.statistics import boxes_per_image
from ssd_lib.validation.verdict import FEW_BAD, file_notices, stop_reason

FAULT_TILES = 8  # thumbnails of each kind of fault
ALL_FAULT_TILES = 64  # of all kinds: the page must be small enough for an e-mail
PAIRS = 6  # of duplicates within a split, and between train and val
SHOWN_AS_PAIRS = {"duplicate_content", "train_val_leak"}
SAMPLE_TILES = 12


def summary_section(report: Mapping[str, Any], data: DataParams, advice: Iterable[Text]) -> Section:
    """Return whether the dataset can be used for training, and how large it is.

    Args:
        report: the report of `validate`.
        data: has the limit `max_bad_fraction`.
        advice: of `scarce_classes`.
    """
    rows = [(row["split"], *(f"{row[key]:,}" for key in ("images", "boxes", "crowds", "images_without_boxes")))
            for row in report["splits"]]
    return Section("Summary", (*map(Text, file_notices(report)), _summary_sentence(report, data.max_bad_fraction), *advice,
                               Table(("split", "images", "boxes", "crowds", "images without objects"), rows)))


def faults_section(manifest: Manifest, splits: Mapping[str, Annotations], faults: Sequence[Fault]) -> Section:
    """Return a table of the kinds of faults, the bad ones first, and the first faults of each kind with their images."""
    if not faults:
        return Section("Faults", (Text("No faults found."),))
    order = sorted(KINDS, key=lambda kind: not KINDS[kind].is_bad)
    by_kind = {kind: list(found) for kind, found in groupby(sorted(faults, key=lambda fault: order.index(fault.kind)),
                                                            key=lambda fault: fault.kind)}
    table = Table(("kind", "count", "severity", "what fix_annotations does"),
                  [(kind, f"{len(found):,}", "bad" if KINDS[kind].is_bad else "warning", KINDS[kind].cure)
                   for kind, found in by_kind.items()])
    shown = {kind: found for kind, found in by_kind.items() if kind not in SHOWN_AS_PAIRS}
    limit = max(2, min(FAULT_TILES, ALL_FAULT_TILES // max(1, len(shown))))
    marks = find_marks(splits, {_key(fault) for found in shown.values() for fault in found[:limit]})
    return Section("Faults", (table, *(_fault_kind(manifest, kind, found, limit, marks) for kind, found in shown.items())))


def files_section(counts: Sequence[Mapping[str, Any]]) -> Section:
    """Return the files that are not used, and those that were matched by a name that is written differently.

    Args:
        counts: `files` of the report of `validate`.
    """
    if not counts:
        return Section("Files", (Text("Every file is used."),))
    rows = [(f"{count['count']:,}", FILE_KINDS[count["kind"]]) for count in counts]
    lists = [Listing(f"{what[0].upper()}{what[1:]}: {number}",
                     [*count["first"], *["and others"] * (count["count"] > len(count["first"]))])
             for (number, what), count in zip(rows, counts, strict=True)]
    return Section("Files", (Table(("files", "what they are"), rows), *lists))


def duplicate_images_section(manifest: Manifest, splits: Mapping[str, Annotations]) -> Section:
    """Return pairs of images with the same bytes, side by side with their boxes: between train and val, and within a split."""
    duplicates = find_duplicates(manifest, splits)
    if not duplicates:
        return Section("Duplicate images", (Text("No duplicate images, and no image of val is in train."),))
    between = [found for found in duplicates if found.split != found.first_split]
    within = [found for found in duplicates if found.split == found.first_split]
    marks = find_marks(splits, {key for found in [*between[:PAIRS], *within[:PAIRS]] for key in _keys(found)})
    elements: list[Element] = []
    for title, group in ((f"In train and in val: {len(between):,}", between), (f"Within a split: {len(within):,}", within)):
        if group:
            elements.append(Thumbnails(title, [_pair(manifest, found, marks) for found in group[:PAIRS]]))
    return Section("Duplicate images", elements)


def random_images_section(manifest: Manifest, split: str, annotations: Annotations, faulty: Collection[str]) -> Section:
    """Return random images without faults, always the same ones: those whose names have the smallest hashes.

    Only a person can see whether boxes fit and classes are right.

    Args:
        manifest: gives the paths of the images.
        split: the name of the split.
        annotations: of the split, from `trainable`.
        faulty: names of images with a fault.
    """
    with_objects = np.flatnonzero(boxes_per_image(annotations)).tolist()
    names = {annotations.images.file_names[row] for row in with_objects} - set(faulty)
    chosen = nsmallest(SAMPLE_TILES, names, key=lambda name: sha256(name.encode(errors="surrogateescape")).digest())
    if not chosen:
        return Section(f"Random images of {split}", (Text("No image has objects and no faults."),))
    marks = find_marks({split: annotations}, [(split, name) for name in chosen])
    tiles = [Tile((read_thumbnail(manifest.path(name), marks[split, name]),), name, _caption(marks[split, name]))
             for name in chosen]
    text = ("Check that the boxes fit the objects and have the right class. Wrong columns, swapped axes and shifted class "
            "numbers are visible only here.")
    return Section(f"{plural(len(tiles), 'random image')} of {split}", (Text(text), Thumbnails("", tiles)))


def _summary_sentence(report: Mapping[str, Any], allowed: float) -> Text:
    if reason := stop_reason(report, allowed):
        return Text(f"Stopped: {reason}", "bad")
    warnings = f"; {plural(report['warnings'], 'warning')}" if report["warnings"] else ""
    bad = " and ".join(plural(report[f"bad_{unit}"], f"bad {one}") for unit, one in (("images", "image"), ("boxes", "box"))
                       if report[f"bad_{unit}"])
    if bad:
        are_few = any(report[f"bad_{unit}"] > allowed * report[unit] for unit in ("images", "boxes"))
        few = (f" That is more than `data.max_bad_fraction` ({percent(allowed, 1)}), but {FEW_BAD} at most, and at most a "
               "tenth: so few stop nothing, unless it is 0." if are_few else "")
        return Text(f"Ready for training: `fix_annotations` will repair or remove {bad}{warnings}.{few}", "good")
    return Text(f"Ready for training: no bad images or boxes{warnings}.", "good")


def _fault_kind(manifest: Manifest, kind: str, found: Sequence[Fault], limit: int,
                marks: Mapping[ImageKey, tuple[Mark, ...]]) -> Element:
    title = f"{kind}: {len(found):,}" + (f", first {limit} shown" if len(found) > limit else "")
    if not any(fault.image for fault in found[:limit]):
        return Listing(title, [fault.text for fault in found[:limit]])
    return Thumbnails(title, [_fault_tile(manifest, fault, marks) for fault in found[:limit]])


def _fault_tile(manifest: Manifest, fault: Fault, marks: Mapping[ImageKey, tuple[Mark, ...]]) -> Tile:
    """Return the image with the faulty box only; with all boxes if the fault is one of the image itself."""
    faulty = () if fault.xywh is None else (Mark(fault.xywh, "", is_faulty=True),)
    drawn = tuple(filter(can_be_drawn, faulty)) if faulty else marks.get(_key(fault), ())
    text = fault.text.removeprefix(f"{fault.image}: ").replace(f" of '{fault.image}'", "")
    return Tile((read_thumbnail(manifest.path(fault.image), drawn),) if fault.image else (), fault.image, text)


def _pair(manifest: Manifest, found: Duplicate, marks: Mapping[ImageKey, tuple[Mark, ...]]) -> Tile:
    thumbnails = tuple(read_thumbnail(manifest.path(name), marks[split, name]) for split, name in _keys(found))
    where = "also" if found.split == found.first_split else f"and in {found.split}"
    return Tile(thumbnails, found.first_name,
                f"in {found.first_split}, {where}" + ("" if found.name == found.first_name else f" as {found.name}"))


def _keys(found: Duplicate) -> tuple[ImageKey, ImageKey]:
    return (found.first_split, found.first_name), (found.split, found.name)


def _key(fault: Fault) -> ImageKey:
    return fault.subject[0], fault.image


def _caption(marks: Sequence[Mark]) -> str:
    counts = Counter(mark.name for mark in marks).most_common(4)
    text = ", ".join(f"{number} {visible(name)}" for name, number in counts)
    return text + (f"; the {MAX_MARKS} largest of {len(marks)} are drawn" if len(marks) > MAX_MARKS else "")
