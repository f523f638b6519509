"""Detect the format of a dataset from the names of its files, and list its files."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ssd_lib.annotations import coco_files, open_images_files, voc_files, yolo_files
from ssd_lib.annotations.account import account
from ssd_lib.annotations.files import describe_files, is_image
from ssd_lib.annotations.listing import DatasetListing, join_listings, move_listing
from ssd_lib.annotations.names import folded_stem, without_added
from ssd_lib.errors import InputError
from ssd_lib.files import open_regular
from ssd_lib.params import Auto, DataParams, Format

OTHER_FORMATS = (  # what the first bytes of a file hold, the tool that writes such files, what to export there
    (rb"<annotations>\s*<version>.*<(task|image|project|labels)\b", "CVAT for images", "COCO 1.0"),
    (rb'"(imagePath|shapes)"\s*:', "LabelMe and X-AnyLabeling", "COCO or YOLO"),
    (rb'"(_via_settings|file_attributes)"\s*:|^\W*filename,file_size,', "VIA", "COCO (Annotation > Export Annotations)"),
    (rb'"(completed_by|from_name|rectanglelabels)"\s*:', "Label Studio", "YOLO with images or COCO with images"),
    (rb'^\{\s*"classes"\s*:.*"labels"\s*:\s*\{', "FiftyOne", "`fiftyone.types.COCODetectionDataset`"),
    (rb'"dm_format_version"\s*:', "Datumaro", "COCO"),
    (rb'"(classTitle|classId)"\s*:', "Supervisely", "COCO or YOLO"),
    (rb"^\W*(filename|image|path)\w*\W*,.*\bx_?min\b", "tables with a row for each box", "COCO, YOLO or Pascal VOC"),
)
OTHER_SUFFIXES = (".json", ".xml", ".csv")
FIRST_BYTES = 4000  # of a file, to recognise it
MOST_FILES = 20  # that are looked into
MAX_DEPTH = 2  # folders around a dataset, as zip archives have them: my-download/VOCdevkit/VOC2007


class Finder(NamedTuple):
    """The finder of a format: whether names match it, the files of a dataset, and the files that it looks for, for messages."""

    matches: Callable[[frozenset[str]], bool]
    find: Callable[[Path, frozenset[str], DataParams], DatasetListing]
    expected_files: str


FINDERS: dict[Format, Finder] = {
    "coco": Finder(coco_files.matches, coco_files.find, coco_files.EXPECTED_FILES),
    "voc": Finder(voc_files.matches, voc_files.find, voc_files.EXPECTED_FILES),
    "yolo": Finder(yolo_files.matches, yolo_files.find, yolo_files.EXPECTED_FILES),
    "open_images": Finder(open_images_files.matches, open_images_files.find, open_images_files.EXPECTED_FILES),
}


def find_dataset(root: Path, names: frozenset[str], known: Auto | Format, data: DataParams) -> DatasetListing:
    """Find the dataset in a folder, or at most two folders deeper; several of one format beside each other are all used.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        known: its format, or auto.
        data: `val_fraction`, `depictions`.

    Raises:
        InputError: no format matches, or more than one; or the dataset is incomplete.
    """
    toolkit = open_images_files.label_of_toolkit(root, names)
    forms: list[Format] = [form for form in FINDERS if known in ("auto", form) and not (toolkit and form == "yolo")]
    candidates = _matching_folders(names, forms)
    for does_fit in (_fits_by_content, _has_labels_elsewhere):
        candidates = candidates or {form: {"": names} for form in forms if does_fit(root, names, form)}
    if not candidates and toolkit:
        raise InputError(f"{root / toolkit}: {open_images_files.TOOLKIT_ADVICE}")
    if not candidates:
        raise InputError(_other_format(root, names) or _nothing_found(root, names, known))
    if len(candidates) > 1:
        raise InputError(_several_found(root, candidates))
    (form, folders), = candidates.items()
    listings = []
    for folder, inside in folders.items():
        listing = move_listing(FINDERS[form].find(root / folder, inside, data), folder)
        listings.append(voc_files.add_class_names(root, names, folder, listing) if form == "voc" else listing)
    return account(root, names, join_listings(listings))


def _matching_folders(names: frozenset[str], forms: list[Format]) -> dict[Format, dict[str, frozenset[str]]]:
    """Return for each format the folders that match it, with the names below them; all at the smallest depth that matches."""
    for depth in range(MAX_DEPTH + 1):
        folders = _folders_at(depth, names)
        found = {form: {folder: inside for folder, inside in folders.items() if FINDERS[form].matches(inside)}
                 for form in forms}
        if any(found.values()):
            return {form: matching for form, matching in found.items() if matching}
    return {}


def _fits_by_content(root: Path, names: frozenset[str], form: Format) -> bool:
    """Whether files have the content of annotations for all images: of the two formats that have such files."""
    return bool((form == "coco" and coco_files.find_by_content(root, names))
                or (form == "open_images" and open_images_files.find_by_content(root, names)))


def _has_labels_elsewhere(_root: Path, names: frozenset[str], form: Format) -> bool:
    """Whether label files in any folder have the names of images: of the two formats that match them by name."""
    if form not in ("voc", "yolo"):
        return False
    suffix = ".xml" if form == "voc" else ".txt"
    near = [name for name in names if name.count("/") <= MAX_DEPTH + 1]
    labels = {without_added(folded_stem(name)) for name in near if name.lower().endswith(suffix)}
    return any(without_added(folded_stem(name)) in labels for name in near if is_image(name))


def _folders_at(depth: int, names: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return the folders at a depth, with the names below each."""
    if not depth:
        return {"": names}
    inside: dict[str, set[str]] = {}
    for name in names:
        *folders, rest = name.split("/", depth)
        if len(folders) == depth:
            inside.setdefault("/".join(folders), set()).add(rest)
    return {folder: frozenset(inside[folder]) for folder in sorted(inside)}


def _several_found(root: Path, candidates: dict[Format, dict[str, frozenset[str]]]) -> str:
    found = ", ".join(f"{form} (in {', '.join(str(root / folder) for folder in folders)})"
                      for form, folders in candidates.items())
    return (f"{root}: looks like {len(candidates)} formats, {found}; one is needed. Say which in data.format, or name the "
            "folder of each in data.paths.")


def _nothing_found(root: Path, names: frozenset[str], known: Auto | Format) -> str:
    forms = FINDERS if known == "auto" else [known]
    lines = [f"  {form}: {FINDERS[form].expected_files}" for form in forms]
    return "\n".join([f"{root}: no dataset in it, or at most {MAX_DEPTH} folders deeper; looked for", *lines,
                      f"  {describe_files(names)}. Correct data.paths or data.format, or arrange the files so."])


def _other_format(root: Path, names: frozenset[str]) -> str:
    """Return the message for a file in a tool's own format; "" if none is seen."""
    for name in sorted(name for name in names if name.lower().endswith(OTHER_SUFFIXES))[:MOST_FILES]:
        with suppress(OSError), open_regular(root / name) as file:
            first = file.read(FIRST_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
            for pattern, tool, export in OTHER_FORMATS:
                if re.search(pattern, first, re.DOTALL):
                    return (f"{root / name}: it is in the format of {tool}, which is not read. Export boxes and images where "
                            f"it was written, as {export}; docs/formats.md says for each tool what to choose.")
    return ""
