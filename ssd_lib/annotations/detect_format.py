"""Which format a folder is in, going by the names in it, and the data set that its finder finds there."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ssd_lib.annotations import coco_files as coco
from ssd_lib.annotations import open_images_files as open_images
from ssd_lib.annotations import voc_files as voc
from ssd_lib.annotations import yolo_files as yolo
from ssd_lib.annotations.dataset_listing import DatasetListing, joined, moved
from ssd_lib.annotations.file_listing import shown
from ssd_lib.errors import InputError
from ssd_lib.params import Auto, DataParams, Format

DEEPEST = 2  # folders around a data set, as zips have them: my-download/VOCdevkit/VOC2007


class Layout(NamedTuple):
    """What is known of a format: does it fit a set of names, what is in a folder of it, and what it looks for, for people."""

    fits: Callable[[frozenset[str]], bool]
    find: Callable[[Path, frozenset[str], DataParams], DatasetListing]
    looked_for: str


LAYOUTS: dict[Format, Layout] = {
    "coco": Layout(coco.fits, coco.find, coco.EXPECTED_FILES),
    "voc": Layout(voc.fits, voc.find, voc.EXPECTED_FILES),
    "yolo": Layout(yolo.fits, yolo.find, yolo.EXPECTED_FILES),
    "open_images": Layout(open_images.fits, open_images.find, open_images.EXPECTED_FILES),
}


def find_any(root: Path, names: frozenset[str], known: Auto | Format, data: DataParams) -> DatasetListing:
    """The data set in a folder, or at most two folders deeper; there, several of one format beside each other are all used.

    Args:
        root: the folder that the names are below.
        names: all files in it.
        known: its format, or auto.
        data: `val_fraction`, `depictions`.

    Raises:
        InputError: no format fits, or more than one; or the one that fits finds a fault.
    """
    places = _places(names, [known] if known != "auto" else list(LAYOUTS))
    if len(places) != 1:
        raise InputError(_several(root, places) if places else _nothing(root, names, known))
    (form, folders), = places.items()
    founds = []
    for folder, inside in folders.items():
        found = moved(LAYOUTS[form].find(root / folder, inside, data), folder)
        founds.append(voc.name_classes(root, names, folder, found) if form == "voc" else found)
    return joined(founds)


def _places(names: frozenset[str], forms: list[Format]) -> dict[Format, dict[str, frozenset[str]]]:
    """The folders that each format fits, with the names below them, as few levels down as any does."""
    for depth in range(DEEPEST + 1):
        folders = _folders_at(depth, names)
        found = {form: {folder: inside for folder, inside in folders.items() if LAYOUTS[form].fits(inside)} for form in forms}
        if any(found.values()):
            return {form: places for form, places in found.items() if places}
    return {}


def _folders_at(depth: int, names: frozenset[str]) -> dict[str, frozenset[str]]:
    """Every folder so many levels down, with the names below it."""
    if not depth:
        return {"": names}
    inside: dict[str, set[str]] = {}
    for name in names:
        *folders, rest = name.split("/", depth)
        if len(folders) == depth:
            inside.setdefault("/".join(folders), set()).add(rest)
    return {folder: frozenset(inside[folder]) for folder in sorted(inside)}


def _several(root: Path, places: dict[Format, dict[str, frozenset[str]]]) -> str:
    found = ", ".join(f"{form} (in {', '.join(str(root / folder) for folder in folders)})" for form, folders in places.items())
    return (f"{root}: looks like {len(places)} formats, {found}; one is needed. Say which in data.format, or name the folder "
            "of each in data.paths.")


def _nothing(root: Path, names: frozenset[str], known: Auto | Format) -> str:
    forms = LAYOUTS if known == "auto" else [known]
    lines = [f"  {form}: {LAYOUTS[form].looked_for}" for form in forms]
    return "\n".join([f"{root}: no data set in it, or at most {DEEPEST} folders deeper; looked for", *lines,
                      f"  {shown(names)}. Correct data.paths or data.format, or arrange the files so."])
