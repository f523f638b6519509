"""The sections of the report, in its order; each function is called like the heading of its section.

`_sections` in report.py puts them together.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from heapq import nsmallest
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from ssd_lib.annotations.account import FILE_KINDS
from ssd_lib.annotations.faults import KINDS, Fault
from ssd_lib.annotations.table import Annotations
from ssd_lib.boxes.prior_fit import GOOD_IOU
from ssd_lib.boxes.prior_levels import PUBLISHED
from ssd_lib.errors import visible
from ssd_lib.manifest import Manifest
from ssd_lib.params import DataParams
from ssd_lib.report.elements import (
    MAX_OPEN_ROWS,
    Bars,
    Element,
    Listing,
    Mark,
    Section,
    Table,
    Text,
    Thumbnails,
    Tile,
    percent,
    plural,
)
from ssd_lib.report.thumbnails import MAX_MARKS, can_be_drawn, read_thumbnail
from ssd_lib.validation.annotations import Duplicate, find_duplicates
from ssd_lib.validation.report.marks import ImageKey, find_marks
from ssd_lib.validation.report.statistics import (
    ClassCounts,
    Sizes,
    boxes_per_image,
    good_prior_shares,
    histogram,
    image_sizes,
    relative_ratios,
    relative_sides,
)
from ssd_lib.validation.verdict import FEW_BAD, file_notices, stop_reason

FAULT_TILES = 8  # thumbnails of each kind of fault
ALL_FAULT_TILES = 64  # of all kinds: the page must be small enough for an e-mail
PAIRS = 6  # of duplicates within a split, and between train and val
SHOWN_AS_PAIRS = {"duplicate_content", "train_val_leak"}
SAMPLE_TILES = 12
NAMED_CLASSES = 8  # in a sentence
FEW_BOXES = 10  # with fewer boxes a class is hardly learned, and its AP is chance
HIGH_RATIO = 20  # of the boxes of the most and the least frequent class: advise data.balance
SMALLEST_PRIORS = {nets: priors.levels[0].min_size for nets, priors in reversed(PUBLISHED.items())}  # as shares of the image
MANY = 0.1  # a share of the objects that is worth advice
LONGEST_RATIO = 3  # of all published priors
COUNT_EDGES = (1, 2, 3, 4, 5, 10, 20, 50, 100)
SIDE_EDGES = (0.0125, 0.0175, 0.025, 0.035, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8)  # steps of about sqrt 2
RATIO_EDGES = (1 / 5, 1 / 3, 1 / 2, 1 / 1.2, 1.2, 2, 3, 5)
RATIO_LABELS = ("below 1:5", "1:5 to 1:3", "1:3 to 1:2", "1:2 to 1:1.2", "about 1:1", "1.2:1 to 2:1", "2:1 to 3:1",
                "3:1 to 5:1", "above 5:1")
LISTED_SIZES = 10


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
    lists = [Listing(f"{number} {what}", [*count["first"], *["and others"] * (count["count"] > len(count["first"]))])
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


def classes_section(counts: ClassCounts, balance: Mapping[str, np.ndarray]) -> Section:
    """Return boxes and images of each class, the most frequent first.

    Args:
        counts: of `trainable` annotations; the first split is the training split.
        balance: by mode of `data.balance`: (K,) boxes of each class in an epoch, in the order of `counts.names`.
    """
    if not counts.names:
        return Section("Classes", (Text("No classes."),))
    first = next(iter(counts.boxes))
    order = np.argsort(-counts.boxes[first], kind="stable")
    shown = order[:MAX_OPEN_ROWS]
    title = f"Boxes of the {len(shown)} most frequent classes" if len(shown) < len(order) else "Boxes per class"
    bars = Bars(title, [counts.names[row] for row in shown],
                {split: boxes[shown].tolist() for split, boxes in counts.boxes.items()},
                totals={split: int(boxes.sum()) for split, boxes in counts.boxes.items()})
    note = Text("The sections below count only boxes used for training: no crowds, and nothing that `fix_annotations` removes.")
    return Section("Classes", (note, *_class_advice(counts, first), bars, _class_table(counts, order.tolist(), balance)))


def objects_per_image_section(splits: Mapping[str, Annotations]) -> Section:
    """Return a chart of the number of objects per image."""
    series = {split: histogram(boxes_per_image(annotations), COUNT_EDGES).tolist() for split, annotations in splits.items()}
    labels = [f"{low}" if high == low + 1 else f"{low} to {high - 1}" for low, high in pairwise((0, *COUNT_EDGES))]
    return Section("Objects per image",
                   (Bars("Images by number of objects", [*labels, f"{COUNT_EDGES[-1]} or more"], series),))


def object_sizes_section(splits: Mapping[str, Annotations]) -> Section:
    """Return a chart of the sizes of the objects, with the smallest priors marked."""
    sides = {split: relative_sides(annotations) for split, annotations in splits.items()}
    edges = [f"{100 * edge:g} %" for edge in SIDE_EDGES]
    labels = [f"below {edges[0]}", *(f"{low} to {high}" for low, high in pairwise(edges)), f"{edges[-1]} or more"]
    marks: dict[int, str] = {}
    for nets, prior in SMALLEST_PRIORS.items():
        row, text = int(np.searchsorted(SIDE_EDGES, prior - 1e-9)) + 1, f"of {nets}, {100 * prior:.0f} %"
        marks[row] = f"{marks[row]}; {text}" if row in marks else f"smallest prior {text}"
    series = {split: histogram(values, SIDE_EDGES).tolist() for split, values in sides.items()}
    bars = Bars("Objects by side length, relative to the image", labels, series, marks)
    return Section("Object sizes", (*_prior_advice(next(iter(splits.values()))), bars))


def object_shapes_section(splits: Mapping[str, Annotations]) -> Section:
    """Return a chart of the aspect ratios of the objects."""
    ratios = {split: relative_ratios(annotations) for split, annotations in splits.items()}
    first = next(iter(ratios.values()))
    extreme = int(((first > LONGEST_RATIO) | (first < 1 / LONGEST_RATIO)).sum())
    text = (f"{percent(extreme, len(first))} of the objects have an aspect ratio above {LONGEST_RATIO}:1 or below "
            f"1:{LONGEST_RATIO}. No published prior does: the more extreme an object is, the worse it is detected.")
    bars = Bars("Objects by aspect ratio (width:height), after the image is resized to a square", RATIO_LABELS,
                {split: histogram(values, RATIO_EDGES).tolist() for split, values in ratios.items()})
    return Section("Object shapes", (Text(text, "advice" if extreme > MANY * len(first) else "plain"), bars))


def image_sizes_section(splits: Mapping[str, Annotations]) -> Section:
    """Return tables of the orientations and the most frequent sizes of the images."""
    sizes = {split: image_sizes(annotations, LISTED_SIZES) for split, annotations in splits.items()}
    orientation = Table(("split", "landscape", "portrait", "square", "different sizes"),
                        [(split, *(f"{n:,}" for n in (found.landscape, found.portrait, found.square, found.distinct)))
                         for split, found in sizes.items()])
    rows = _size_rows(next(iter(sizes.values())), len(next(iter(splits.values())).images))
    return Section("Image sizes", (orientation, Table((f"most frequent in {next(iter(splits))}", "images", "share"), rows)))


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


def scarce_classes(counts: ClassCounts, first: str) -> Iterator[Text]:
    """Yield a sentence on the classes without boxes in the training split, and one on those with few.

    Args:
        counts: of `trainable` annotations.
        first: the training split.
    """
    boxes = counts.boxes[first]
    absent, few = (_named(counts.names, of) for of in (boxes == 0, (boxes > 0) & (boxes < FEW_BOXES)))
    if absent:
        yield Text(f"Without boxes in {first}: {absent}. Not learned, but part of AP where val has such boxes. `data.classes` "
                   "selects the classes to learn.", "advice")
    if few:
        yield Text(f"With fewer than {FEW_BOXES} boxes in {first}: {few}. Too few to learn from; more images with such objects "
                   "help most.", "advice")


def _named(names: Sequence[str], chosen: np.ndarray) -> str:
    """Return "2 classes (a, b)" for the chosen of K names, of many only the first; "" for none."""
    rows = np.flatnonzero(chosen).tolist()
    shown = ", ".join(visible(names[row], 30) for row in rows[:NAMED_CLASSES])
    return f"{plural(len(rows), 'class')} ({shown}{' and others' * (len(rows) > NAMED_CLASSES)})" if rows else ""


def _class_advice(counts: ClassCounts, first: str) -> Iterator[Text]:
    boxes = counts.boxes[first]
    present = np.flatnonzero(boxes)
    if len(present) < 2:
        return
    rarest, commonest = present[boxes[present].argmin()], boxes.argmax()
    if boxes[rarest] == boxes[commonest]:
        return
    ratio = boxes[commonest] / boxes[rarest]
    text = (f"The most frequent class, {counts.names[commonest]}, has {ratio:,.1f} times as many boxes as the least frequent, "
            f"{counts.names[rarest]}.")
    if ratio < HIGH_RATIO:
        yield Text(text)
    else:
        yield Text(f"{text} `data.balance: repeat` shows rare classes more often, `downsample` shows frequent classes less "
                   "often.", "advice")


def _class_table(counts: ClassCounts, order: list[int], balance: Mapping[str, np.ndarray]) -> Table:
    first, *others = counts.boxes
    total = counts.boxes[first].sum()
    columns = {f"{first} boxes": counts.boxes[first], f"{first} images": counts.images[first]}
    for split in others:
        columns |= {f"{split} boxes": counts.boxes[split], f"{split} images": counts.images[split]}
    columns |= {f"boxes per epoch, {mode}": boxes for mode, boxes in balance.items()}
    rows = [(counts.names[row], _note(int(counts.boxes[first][row])), percent(counts.boxes[first][row], total),
             *(f"{column[row]:,.0f}" for column in columns.values())) for row in order]
    return Table(("class", "", "share", *columns), rows)


def _note(boxes: int) -> str:
    return "none" if boxes == 0 else "few" if boxes < FEW_BOXES else ""


def _prior_advice(annotations: Annotations) -> Iterator[Text]:
    if len(annotations.boxes) == 0:
        return
    good = good_prior_shares(annotations)
    shares = ", ".join(f"{100 * share:.0f} % for {nets}" for nets, share in good.items())
    many = min(good.values()) < 1 - MANY
    yield Text(f"Share of the objects that have a good prior, one with an IoU of {GOOD_IOU} or more: {shares}. Nets with a "
               "feature pyramid (lite0-fpn, mb2-fpn) adapt to each object instead.", "advice" if many else "plain")
    if many:
        yield Text("These nets learn an object without one badly; most such objects are too small or too narrow. A larger "
                   "`model.image_size` does not help, because these priors are relative to the image: use a net with a larger "
                   "share, `model.net: lite0-fpn`, which adapts to each object, or `model.priors: auto`, which fits the priors "
                   "to the objects.", "advice")


def _size_rows(sizes: Sizes, images: int) -> Sequence[Sequence[str]]:
    return [(f"{width} × {height}", f"{number:,}", percent(number, images)) for width, height, number in sizes.most_frequent]


def _caption(marks: Sequence[Mark]) -> str:
    counts = Counter(mark.name for mark in marks).most_common(4)
    text = ", ".join(f"{number} {visible(name)}" for name, number in counts)
    return text + (f"; the {MAX_MARKS} largest of {len(marks)} are drawn" if len(marks) > MAX_MARKS else "")
