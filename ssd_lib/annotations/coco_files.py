"""The files of a dataset in COCO format: the annotation file and the image folder of each split."""

import reprlib
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from ssd_lib.annotations.account import count_matched
from ssd_lib.annotations.coco_json import BYTE_ORDER_MARK, load_json
from ssd_lib.annotations.files import SHOWN, below, folders_of, is_image, not_one, read_bytes
from ssd_lib.annotations.listing import DatasetListing, add_counts, join_listings
from ssd_lib.annotations.names import fold, folded_base, folded_stem, group_by, match_names
from ssd_lib.annotations.splits import SPLIT_WORDS, matching, require_images, spelled, split_in_name, split_names, split_of
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part, image_of, name_below
from ssd_lib.params import DataParams

EXPECTED_FILES = "annotations/instances_train*.json, train.json, train/_annotations.coco.json and the same for val"
ANNOTATION_PATTERNS = ("annotations/instances_{split}*.json", "annotations/{split}*.json",
                       "{split}/_annotations.coco.json", "{split}.json", "instances_{split}*.json")
PATTERNS_WITHOUT_SPLIT = ("annotations/*.json", "annotations.json", "instances*.json", "*.coco.json")
IMAGE_PATTERNS = ("{split}*", "images/{split}*", "images")  # besides the folder of the annotation file, and the root
SAMPLE = 20  # images of an annotation file that are looked up, to find their folder


class _ListedImage(msgspec.Struct):
    file_name: str


class _ListedImages(msgspec.Struct):
    images: list[_ListedImage]


class _CocoLike(msgspec.Struct):
    images: list[_ListedImage]
    annotations: list[Any]


def matches(names: Collection[str]) -> bool:
    """Whether the names of the files look like a dataset in this format."""
    documents = _documents(names)
    return any(matching(documents, split, (*ANNOTATION_PATTERNS, *PATTERNS_WITHOUT_SPLIT)) for split in SPLIT_WORDS)


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """Find the annotation file and the image folder of train and of val; a test split is not used.

    Guarantees: nothing is guessed: if two files match, the error names both. If there is only one annotation file, it serves
    both splits, and `data.val_fraction` of its images become val.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        data: `val_fraction`.

    Raises:
        InputError: no annotation file or no image folder for train or val, or more than one, or not in COCO format.
    """
    alone = _only_document(_documents(names))
    documents = {"": [alone]} if alone else _documents_of_splits(root, names)
    if "" in documents:
        return join_listings(_divide(root, names, name, data.val_fraction) for name in documents[""])
    parts = {split: [_part(root, names, split, name) for name in found] for split, found in documents.items()}
    pairs = [pair for found in parts.values() for pair in found]
    return DatasetListing({split: tuple(part for part, _ in found) for split, found in parts.items()},
                          names & {image_of(part, file, names) for part, files in pairs for file in files},
                          add_counts(count for part, _ in pairs for count in count_matched(part.names)))


def find_by_content(root: Path, names: Iterable[str]) -> list[str]:
    """Return the JSON files that have the content of a COCO file with boxes, whatever their names; sorted."""
    return sorted(name for name in _documents(names) if name.count("/") <= 2 and _is_coco(root / name))


def _documents(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(".json")]


def _only_document(documents: list[str]) -> str:
    """Return the annotation file if there is exactly one besides those of test, else ""."""
    test = set(matching(documents, "test", ANNOTATION_PATTERNS))
    found = [name for name in matching(documents, "train", (*ANNOTATION_PATTERNS, *PATTERNS_WITHOUT_SPLIT)) if name not in test]
    is_alone = len(found) == 1 and split_in_name(found[0]) in ("", "train")
    return found[0] if is_alone and not matching(documents, "val", ANNOTATION_PATTERNS) else ""


def _documents_of_splits(root: Path, names: frozenset[str]) -> dict[str, list[str]]:
    """Return the annotation files of train and val: by their usual names, else by content and any word of a split in the name.

    Those that serve both are returned as {"": files}.
    """
    usual = {split: matching(_documents(names), split, ANNOTATION_PATTERNS) for split in ("train", "val")}
    if all(usual.values()):
        for split, found in usual.items():
            if len(found) > 1:
                raise not_one(root, f"annotation files for {split}", found, "Move or rename files until one is left.")
        return usual
    by_word = group_by(find_by_content(root, names), split_in_name)
    named = {split: by_word[split] for split in usual if split in by_word}
    if len(named) == len(usual):
        return named
    free = by_word.get("", [])
    _refuse_unclear(root, free, [name for found in named.values() for name in found])
    if free or "train" in named:
        return {"": free or named["train"]}
    split = "val" if usual["train"] else "train"
    raise not_one(root, f"annotation files for {split}", [], "Move or rename yours.", names,
                  spelled(split, ANNOTATION_PATTERNS))


def _refuse_unclear(root: Path, free: list[str], named: list[str]) -> None:
    """Refuse files of which no name says the split, if there are several in a folder, or others whose names say it."""
    beside = [name for rivals in group_by(free, lambda name: name.rpartition("/")[0]).values()
              if len(rivals) > 1 or named for name in rivals]
    if beside:
        here = f", beside {', '.join(named[:SHOWN])}" if named else ""
        first, second = (PurePosixPath(name).name for name in (*beside, "b.json")[:2])
        raise InputError(f"{root}: {', '.join(beside[:SHOWN])}{here}: no name says which annotation file is for train and "
                         f"which for val; the word train or val in it does. Rename them, such as train_{first} and "
                         f"val_{second}, or move each into a folder of its own, so that all are used for both.")


def _divide(root: Path, names: frozenset[str], annotations: str, val_fraction: float) -> DatasetListing:
    """Divide the images of one annotation file between train and val."""
    part, files = _part(root, names, "train", annotations)
    sides = dict(zip(("train", "val"), split_names(set(files), val_fraction), strict=True))
    for split, side in sides.items():
        require_images(str(root / annotations), split, side)
    splits: dict[str, tuple[Part, ...]] = {
        split: (part.model_copy(update={"only": tuple(side)}),) for split, side in sides.items()}
    return DatasetListing(splits, names & {image_of(part, file, names) for file in files}, count_matched(part.names))


def _part(root: Path, names: frozenset[str], split: str, annotations: str) -> tuple[Part, list[str]]:
    """Return the part of an annotation file, and the images that it lists."""
    files = _listed_images(root / annotations)
    try:
        images = _find_images(root, names, folders_of(names), split, annotations, files)
    except InputError:
        if len(loose := _match_images(names, split, files)) < len(set(files)):
            raise
        return Part(format="coco", annotations=annotations, names=loose), files
    absent = [file for file in files if name_below(images, file, names) not in names]
    loose = _match_images(below(images, names), split, absent) if absent else {}
    return Part(format="coco", images=images, annotations=annotations, names=loose), files


def _match_images(names: Collection[str], split: str, files: list[str]) -> dict[str, str]:
    """Return file_name -> image, where they agree after folding, or in their base name or stem, one to one."""
    repeated = {file for file, count in Counter(files).items() if count > 1}
    return match_names(set(files) - repeated, _images_for(split, names), fold, folded_base, folded_stem)


def _images_for(split: str, names: Collection[str]) -> list[str]:
    """Return the images that are in no folder of another split, sorted."""
    return sorted(name for name in names if is_image(name) and split_of(name.rpartition("/")[0]) in ("", split))


def _refuse_ambiguous(root: Path, names: Collection[str], split: str, annotations: str, files: list[str]) -> None:
    """Refuse names that several files have, such as file_name 000.jpg for a/000.jpg and b/000.jpg."""
    by_base = group_by(_images_for(split, names), folded_base)
    for file in files:
        candidates = by_base.get(folded_base(file), ())
        if len(candidates) > 1:
            raise InputError(f"{root / annotations}: file_name {file!r} may be any of {len(candidates)} images: "
                             f"{', '.join(candidates[:SHOWN])}; it must be one of them. Export again with folders in "
                             f"file_name, such as {candidates[0]!r}, or rename the images.")


def _is_coco(path: Path) -> bool:
    try:
        rows = msgspec.json.decode(read_bytes(path).removeprefix(BYTE_ORDER_MARK), type=_CocoLike).annotations
    except (msgspec.MsgspecError, RecursionError, ValueError, InputError):
        return False
    return not rows or any(isinstance(row, dict) and "bbox" in row for row in rows)  # captions have none


def _find_images(root: Path, names: frozenset[str], folders: set[str], split: str, annotations: str, files: list[str]) -> str:
    """Return the folder that has the most of the first few images of the annotation file."""
    beside = annotations.rpartition("/")[0]
    counts = {folder: sum(name_below(folder, file, names) in names for file in files[:SAMPLE])
              for folder in (*matching(folders, split, IMAGE_PATTERNS), beside, "")}
    most = max(counts.values())
    best = [folder for folder, count in counts.items() if count == most > 0]
    if len(best) == 1:
        return best[0]
    if not best:
        _refuse_ambiguous(root, names, split, annotations, files)
    raise not_one(root, f"folders with the images of {annotations} (such as {files[0]!r})", [f"{folder}/" for folder in best],
                  "Unpack the images there, or write file_name relative to one of these folders; to do without these images, "
                  "move the annotation file away.", names,
                  f"{spelled(split, IMAGE_PATTERNS)}, {beside or '.'}, .")


def _listed_images(path: Path) -> list[str]:
    """Return the names of the images in an annotation file, without those that lead out of their folder, unless all do."""
    names = _file_names(path)
    inside = [name for name in names if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts]
    if not names:
        raise InputError(f"{path}: the list 'images' is empty; train and val need images. Export it again.")
    return inside or names  # paths of another machine: `_match_images` looks for their last part below the root


def _file_names(path: Path) -> list[str]:
    data = read_bytes(path)
    try:
        return [image.file_name for image in msgspec.json.decode(data, type=_ListedImages).images]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        pass  # Python's parser also accepts NaN, and its errors say where
    tree = load_json(data, f"{path}: not an annotation file in COCO format")
    images = tree.get("images") if isinstance(tree, dict) else None
    if not isinstance(images, list):
        found = ", ".join(map(reprlib.repr, list(tree)[:10])) if isinstance(tree, dict) else f"a {type(tree).__name__}"
        raise InputError(f"{path}: not an annotation file in COCO format: no list 'images' at its top, but {found:.200}. "
                         "Export it again.")
    for at, image in enumerate(images):
        if not isinstance(image, dict) or "file_name" not in image:
            raise InputError(f"{path}: not an annotation file in COCO format: images[{at}] is {reprlib.repr(image):.200}, "
                             "without a file_name. Correct it, or export it again.")
    return [str(image["file_name"]) for image in images]
