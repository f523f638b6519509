"""Account for every file below a folder: what no split uses is counted and named, for the report of validate."""

import re
from collections.abc import Iterable, Mapping
from os.path import splitext
from pathlib import Path

from ssd_lib.annotations.files import SHOWN, is_image, read_lines
from ssd_lib.annotations.listing import DatasetListing, add_counts
from ssd_lib.annotations.names import folded_stem, nearest
from ssd_lib.annotations.splits import SPLIT_WORDS, split_of
from ssd_lib.files import open_regular
from ssd_lib.images import UNREADABLE_SUFFIXES
from ssd_lib.manifest import FileCount

FILE_KINDS = {
    "unused_labels": "label files that no image uses; rename each like its image, or remove it",
    "unlabelled": "images that have no label file (an empty one says background); they train as background",
    "unlabelled_unused": "images that have no label file; they are not used",
    "unreadable_images": "images whose suffix cannot be read; convert them to JPEG or PNG",
    "unused_images": "images that are in no split; they are not used",
    "other_classes": "images whose objects are all of classes that data.classes does not list; they are not used",
    "unused_lists": "annotation files and lists that are not used; name the folder of each dataset in data.paths",
    "test_split": "files of a test split; they are not used",
    "matched": "files matched by a name that is written differently (case, percent codes, Unicode form, folder, a tool's mark)",
    "copies": "images of which another one with the same ImageID is used; they are not used",
    "class_folders": "classes with a folder of images; boxes of others are used too, unless data.classes lists those wanted",
    "other_files": "other files; they are not used",
}
FIRST_BYTES = 400
TEST_WORD = re.compile(r"(?<![a-z])test\d*(?![a-z])")
LIST_NAMES = {"classes", "labels", "labelmap", "label_map", "readme", "license", "requirements", "notes", "default",
              "trainval", *(word for words in SPLIT_WORDS.values() for word in words)}


def is_list(name: str) -> bool:
    """Whether a text is, by its name, a list of classes or of images, or a description, and no label file."""
    base = name.rpartition("/")[2].lower()
    return base.rpartition(".")[0] in LIST_NAMES or base.startswith(("readme", "license"))


def count_matched(matched: Mapping[str, str]) -> tuple[FileCount, ...]:
    """Return the count of files that were matched by a name that is written differently."""
    first = tuple(f"{name} = {other}" for name, other in sorted(matched.items())[:SHOWN])
    return (FileCount(kind="matched", count=len(matched), first=first),) if matched else ()


def account(root: Path, names: frozenset[str], listing: DatasetListing) -> DatasetListing:
    """Return the listing with counts of all files that no split uses, and of images without a label file.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        listing: the datasets found there, with names relative to `root`.
    """
    parts = [part for parts in listing.splits.values() for part in parts]
    images = {name for part in parts for name in part.pairs}
    labels = {label for part in parts for label in part.pairs.values() if label}
    bare = sorted(name for part in parts if part.format == "yolo" for name, label in part.pairs.items() if not label)
    used = images | labels | listing.others | {
        name for part in parts for name in (part.annotations, *part.names.values(), *part.more_annotations)}
    prefixes = tuple({f"{part.images}/" if part.images else "" for part in parts
                      if not part.pairs and (part.images or not part.names)})  # validate lists their orphans
    rest = sorted(name for name in names - used if "imagesets/" not in name.lower()
                  and not (prefixes and name.startswith(prefixes) and is_image(name)))
    found = _sorted_out(root, names, rest, {part.format for part in parts}, {label.rpartition("/")[0] for label in labels})
    others = sorted({*bare, *found.get("unused_images", ())})
    counts = list(listing.counts)
    for kind, members in found.items():
        near = others if kind == "unused_labels" else []
        shown = [_with_nearest(name, near) for name in members[:SHOWN]]
        total = len(labels) + len(members) if kind == "unused_labels" else len(images) + len(members) if "image" in kind else 0
        counts.append(FileCount(kind=kind, count=len(members), of=total, first=tuple(shown)))
    if bare:
        free = sorted(found.get("unused_labels", ()))
        counts.append(FileCount(kind="unlabelled", count=len(bare), of=len(images),
                                first=tuple(_with_nearest(name, free) for name in bare[:SHOWN])))
    order = list(FILE_KINDS)
    return listing._replace(counts=tuple(sorted(add_counts(counts), key=lambda count: order.index(count.kind))))


def _sorted_out(root: Path, names: Iterable[str], rest: Iterable[str], forms: set[str],
                label_folders: set[str]) -> dict[str, list[str]]:
    """Return the unused files by kind; an image that no split uses takes its label file along."""
    found: dict[str, list[str]] = {}
    kinds = {name: _kind(root, name, forms, label_folders) for name in rest}
    in_test_list = _listed_for_test(root, names)
    unused = {folded_stem(name) for name, kind in kinds.items() if kind == "unused_images"}
    labelled = unused & {folded_stem(name) for name, kind in kinds.items() if kind == "unused_labels"}
    for name, kind in kinds.items():
        key = folded_stem(name)
        if kind in ("unused_images", "unused_labels") and key in unused:
            kind = ("test_split" if key in in_test_list else
                    "unlabelled_unused" if forms == {"voc"} and key not in labelled else "unused_images")
        found.setdefault(kind, []).append(name)
    return found


def _listed_for_test(root: Path, names: Iterable[str]) -> set[str]:
    """Return the stems of the images in lists for test, such as ImageSets/Main/test.txt."""
    lists = [name for name in names if "imagesets/" in name.lower() and name.lower().endswith(".txt")
             and TEST_WORD.search(name.lower().rpartition("/")[2])]
    return {folded_stem(row) for name in lists for row in read_lines(root / name)}


def _kind(root: Path, name: str, forms: set[str], label_folders: set[str]) -> str:
    folder, _, base = name.rpartition("/")
    suffix = splitext(base)[1].lower()
    is_label = not is_list(name) and (
        (suffix == ".txt" and "yolo" in forms and (folder in label_folders or _looks_like_labels(root / name)))
        or (suffix == ".xml" and "voc" in forms))
    is_test = split_of(folder) == "test" or (not is_image(name) and not is_label and TEST_WORD.search(base.lower()))
    if is_test and (is_label or is_image(name) or suffix in (".txt", ".json", ".csv")):
        return "test_split"
    if suffix in UNREADABLE_SUFFIXES:
        return "unreadable_images"
    if is_image(name):
        return "unused_images"
    if is_label:
        return "unused_labels"
    looks_like_list = suffix in (".json", ".csv", ".xml") or (suffix == ".txt" and split_of(base[:-4]) and "/" in name)
    return "unused_lists" if looks_like_list else "other_files"


def _looks_like_labels(path: Path) -> bool:
    """Whether the first line of a text is a row of YOLO labels; an empty file is not."""
    try:
        with open_regular(path) as file:
            row = file.read(FIRST_BYTES).decode(errors="replace").partition("\n")[0].split()
        return len(row) >= 5 and bool([float(value) for value in row])
    except (OSError, ValueError):
        return False


def _with_nearest(name: str, others: list[str]) -> str:
    other = nearest(name, others) if others else ""
    return f"{name} (nearest: {other})" if other else name
