"""Where the files of a data set in COCO form lie: one annotation file a split, and a folder of images."""

import json
from pathlib import Path, PurePosixPath

import msgspec

from ssd_lib.annotations.dataset_listing import DatasetListing
from ssd_lib.annotations.file_listing import folders_of, shown
from ssd_lib.annotations.splits import SPLIT_WORDS, matching, require_images, spelled, split_names
from ssd_lib.annotations.text_files import read_bytes
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part, name_below
from ssd_lib.params import DataParams

EXPECTED_FILES = "annotations/instances_train*.json, train.json, train/_annotations.coco.json and the same for val"
ANNOTATION_PLACES = ("annotations/instances_{split}*.json", "annotations/{split}*.json",
                     "{split}/_annotations.coco.json", "{split}.json", "instances_{split}*.json")
OTHER_PLACES = ("annotations/*.json", "annotations.json", "instances*.json", "*.coco.json")  # of no split
IMAGE_PLACES = ("{split}*", "images/{split}*", "images")  # and beside the annotation file, and the root
SAMPLE = 20  # images of an annotation file that are looked for, to tell which folder they are in


class _Image(msgspec.Struct):
    file_name: str


class _Document(msgspec.Struct):
    images: list[_Image]


def fits(names: frozenset[str]) -> bool:
    """Is there an annotation file, going by its name?"""
    documents = [name for name in names if name.lower().endswith(".json")]
    return any(matching(documents, split, (*ANNOTATION_PLACES, *OTHER_PLACES)) for split in SPLIT_WORDS)


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """The annotation file and the image folder of train and of val; those of test are left.

    Guarantees: which file is what is never guessed: where two would fit, both are named. One file alone is that of both: the images of
    val are drawn from it.

    Args:
        root: the folder that the names are below.
        names: all files in it.
        data: `val_fraction`.

    Raises:
        InputError: no annotation file or image folder for train or val, or more than one; or not in COCO form.
    """
    documents = [name for name in names if name.lower().endswith(".json")]
    if alone := _only_document(documents):
        return _divided(root, names, alone, data.val_fraction)
    splits: dict[str, tuple[Part, ...]] = {}
    listed: set[str] = set()
    for split in ("train", "val"):
        part, files = _part(root, names, split, _find_annotations(root, names, documents, split))
        splits[split] = (part,)
        listed |= {name_below(part.images, file, names) for file in files}
    return DatasetListing(splits, names & listed)


def _only_document(documents: list[str]) -> str:
    """The annotation file of a data set that has one alone, not counting those of test; else ""."""
    test = set(matching(documents, "test", ANNOTATION_PLACES))
    found = [name for name in matching(documents, "train", (*ANNOTATION_PLACES, *OTHER_PLACES)) if name not in test]
    return found[0] if len(found) == 1 and not matching(documents, "val", ANNOTATION_PLACES) else ""


def _divided(root: Path, names: frozenset[str], annotations: str, val_fraction: float) -> DatasetListing:
    part, files = _part(root, names, "train", annotations)
    sides = dict(zip(("train", "val"), split_names(set(files), val_fraction), strict=True))
    for split, side in sides.items():
        require_images(str(root / annotations), split, side)
    splits: dict[str, tuple[Part, ...]] = {
        split: (part.model_copy(update={"only": tuple(side)}),) for split, side in sides.items()}
    return DatasetListing(splits, names & {name_below(part.images, file, names) for file in files})


def _part(root: Path, names: frozenset[str], split: str, annotations: str) -> tuple[Part, list[str]]:
    """The part of an annotation file, and the images that it lists."""
    files = _listed_images(root / annotations)
    images = _find_images(root, names, folders_of(names), split, annotations, files)
    return Part(format="coco", images=images, annotations=annotations), files


def _find_annotations(root: Path, names: frozenset[str], documents: list[str], split: str) -> str:
    found = matching(documents, split, ANNOTATION_PLACES)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{root}: {len(found)} annotation files for {split}; one is needed; found {', '.join(found)}. "
                         "Move or rename files until one is left.")
    raise InputError(f"{root}: no annotation files for {split}; one is needed. Looked for {spelled(split, ANNOTATION_PLACES)}; "
                     f"{shown(names)}. Move or rename yours.")


def _find_images(root: Path, names: frozenset[str], folders: set[str], split: str, annotations: str, files: list[str]) -> str:
    """The one folder that has the most of the first few images of the annotation file."""
    beside = annotations.rpartition("/")[0]
    counts = {folder: sum(name_below(folder, file, names) in names for file in files[:SAMPLE])
              for folder in (*matching(folders, split, IMAGE_PLACES), beside, "")}
    most = max(counts.values())
    best = [folder for folder, count in counts.items() if count == most > 0]
    if len(best) == 1:
        return best[0]
    found = f"found {', '.join(f'{folder}/' for folder in best)}" if best else shown(names)
    raise InputError(f"{root}: {len(best) or 'no'} folders with the images of {annotations} (such as {files[0]!r}); one is "
                     f"needed. Looked in {spelled(split, IMAGE_PLACES)}, {beside or '.'}, .; {found}. Write file_name "
                     "relative to one of these folders.")


def _listed_images(path: Path) -> list[str]:
    """The names of the images in an annotation file, but for those that lead out of their folder."""
    names = _file_names(path)
    inside = [name for name in names if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts]
    if not inside:
        raise InputError(f"{path}: {len(names)} images, none of them with a relative file_name; that is needed. Write "
                         "file_name relative to the image folder.")
    return inside


def _file_names(path: Path) -> list[str]:
    """Every file_name of `images`, quickly where the JSON is strict."""
    data = read_bytes(path)
    try:
        return [image.file_name for image in msgspec.json.decode(data, type=_Document).images]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        pass  # Python's reader also takes NaN, a byte order mark and UTF-16, and says more of what is wrong
    try:
        return [str(image["file_name"]) for image in json.loads(data)["images"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not an annotation file in COCO form ({type(error).__name__}: {error}); it needs a "
                         "list 'images' with a 'file_name' each. Export it again.") from error
