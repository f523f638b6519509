"""What is wrong with a data set: each kind of fault with what will be done about it, and pictures of the first."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from ssd_lib.annotations.faults import KINDS, Fault
from ssd_lib.annotations.table import Annotations
from ssd_lib.manifest import Manifest
from ssd_lib.validation.duplicates import Copy, find_copies
from ssd_lib.validation.report.elements import Block, Listing, Mark, Section, Sheet, Table, Text, Tile
from ssd_lib.validation.report.thumbnails import Place, can_be_drawn, find_marks, read_picture

TILES = 8  # pictures of each kind of fault
ALL_TILES = 64  # of all kinds: the page is to be sent by mail
PAIRS = 6  # of copies in a split, and of leaks
PAIRED = {"duplicate_content", "train_val_leak"}  # kinds that are shown as pairs


def faults_section(manifest: Manifest, splits: Mapping[str, Annotations], faults: Sequence[Fault]) -> Section:
    """A table of the kinds that were found, the bad ones first, and the first of each: pictures where there is one."""
    if not faults:
        return Section("Faults", (Text("None was found."),))
    order = sorted(KINDS, key=lambda kind: not KINDS[kind].is_bad)
    by_kind = {kind: list(found) for kind, found in groupby(sorted(faults, key=lambda fault: order.index(fault.kind)),
                                                            key=lambda fault: fault.kind)}
    table = Table(("kind", "found", "weight", "what fix_annotations does"),
                  [(kind, f"{len(found):,}", "bad" if KINDS[kind].is_bad else "warning", KINDS[kind].cure)
                   for kind, found in by_kind.items()])
    shown = {kind: found for kind, found in by_kind.items() if kind not in PAIRED}
    most = max(2, min(TILES, ALL_TILES // max(1, len(shown))))
    marks = find_marks(splits, {_place(fault) for found in shown.values() for fault in found[:most]})
    return Section("Faults", (table, *(_kind(manifest, kind, found, most, marks) for kind, found in shown.items())))


def copies_section(manifest: Manifest, splits: Mapping[str, Annotations]) -> Section:
    """Images that are there twice, side by side with their boxes: those of a leak, and those within a split."""
    copies = find_copies(manifest, splits)
    if not copies:
        return Section("Copies and leaks", (Text("No image is there twice, and none of val is in train."),))
    leaks = [copy for copy in copies if copy.split != copy.first_split]
    same = [copy for copy in copies if copy.split == copy.first_split]
    marks = find_marks(splits, {place for copy in [*leaks[:PAIRS], *same[:PAIRS]] for place in _places(copy)})
    blocks: list[Block] = []
    for title, found in ((f"From train into val: {len(leaks):,}", leaks), (f"Within a split: {len(same):,}", same)):
        if found:
            blocks.append(Sheet(title, [_pair(manifest, copy, marks) for copy in found[:PAIRS]]))
    return Section("Copies and leaks", blocks)


def _kind(manifest: Manifest, kind: str, found: Sequence[Fault], most: int, marks: Mapping[Place, tuple[Mark, ...]]) -> Block:
    title = f"{kind}: {len(found):,}" + (f", the first {most}" if len(found) > most else "")
    if not any(fault.image for fault in found[:most]):
        return Listing(title, [fault.text for fault in found[:most]])
    return Sheet(title, [_tile(manifest, fault, marks) for fault in found[:most]])


def _tile(manifest: Manifest, fault: Fault, marks: Mapping[Place, tuple[Mark, ...]]) -> Tile:
    """The faulty box alone; all boxes where the image itself is at fault."""
    faulty = () if fault.xywh is None else (Mark(fault.xywh, "", is_faulty=True),)
    drawn = tuple(filter(can_be_drawn, faulty)) if faulty else marks.get(_place(fault), ())
    text = fault.text.removeprefix(f"{fault.image}: ").replace(f" of '{fault.image}'", "")
    return Tile((read_picture(manifest.path(fault.image), drawn),) if fault.image else (), fault.image, text)


def _pair(manifest: Manifest, copy: Copy, marks: Mapping[Place, tuple[Mark, ...]]) -> Tile:
    pictures = tuple(read_picture(manifest.path(name), marks[split, name]) for split, name in _places(copy))
    where = "also" if copy.split == copy.first_split else f"and in {copy.split}"
    return Tile(pictures, copy.first_name,
                f"in {copy.first_split}, {where}" + ("" if copy.name == copy.first_name else f" as {copy.name}"))


def _places(copy: Copy) -> tuple[Place, Place]:
    return (copy.first_split, copy.first_name), (copy.split, copy.name)


def _place(fault: Fault) -> Place:
    return fault.subject[0], fault.image
