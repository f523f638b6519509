"""A data set of the user's own, in COCO form, where it lies: found, listed and hashed; nothing is copied or changed."""

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from ssd_lib.errors import InputError
from ssd_lib.files import in_project, sha256
from ssd_lib.manifest import Manifest, Part
from ssd_lib.params import DataParams, RuntimeParams

SPLIT_WORDS = {"train": ("train",), "val": ("val", "valid", "validation")}
# {split} stands for one of the words, on its own: "train2017" is train, "trainval" is not.
ANNOTATION_PLACES = ("annotations/instances_{split}*.json", "annotations/{split}*.json",
                     "{split}/_annotations.coco.json", "{split}.json", "instances_{split}*.json")
IMAGE_PLACES = ("{split}*", "images/{split}*", "images")  # and beside the annotation file, and the root
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
SAMPLE = 20  # images of an annotation file that are looked for, to tell which folder they are in


def local(data: DataParams, runtime: RuntimeParams) -> Manifest:
    """List the data set in the folder `data.paths[0]`; its absolute path is the root of the manifest.

    Law: the files stay where they are. The same files give the same manifest. Which file is what is never guessed:
    where two would fit, both are named.

    Args:
        data: its paths may start with ~, or be relative to the project.
        runtime: not used; all sources are called alike.

    Raises:
        InputError: no such folder, no annotation file or image folder for train or val, or more than one.
    """
    root = in_project(data.paths[0]).resolve()
    if not root.is_dir():
        raise InputError(f"data.paths: {root} is not a folder; source: local takes one in COCO form. "
                         "Correct params.yaml.")
    splits: dict[str, tuple[Part, ...]] = {}
    names: set[str] = set()
    for split in SPLIT_WORDS:
        annotations = _find_annotations(root, split)
        listed = _listed_images(root / annotations)
        images = _find_images(root, split, annotations, listed)
        splits[split] = (Part(images=images, annotations=annotations),)
        names |= {annotations, *_image_files(root, images, listed)}
    return Manifest(source="local", root=str(root), splits=splits, classes=tuple(data.classes), files=_hashed(root, names))


def _find_annotations(root: Path, split: str) -> str:
    found = _matches(root, split, ANNOTATION_PLACES)
    if len(found) != 1:
        raise InputError(f"{root}: {_count(found)} annotation files for {split}; one is needed. Looked for "
                         f"{', '.join(_spelled(split, ANNOTATION_PLACES))}; {_there(root, found)}. Move or rename "
                         "files until one is left.")
    return found[0]


def _find_images(root: Path, split: str, annotations: str, listed: list[str]) -> str:
    """The one folder that has the most of the first few images of the annotation file."""
    beside = PurePosixPath(annotations).parent.as_posix()
    folders = [*_matches(root, split, IMAGE_PLACES), beside, "."]
    counts = {folder: sum((root / folder / name).is_file() for name in listed[:SAMPLE]) for folder in folders}
    most = max(counts.values(), default=0)
    best = [folder for folder, count in counts.items() if count == most > 0]
    if len(best) != 1:
        looked_in = ", ".join([*_spelled(split, IMAGE_PLACES), beside, "."])
        raise InputError(f"{root}: {_count(best)} folders with the images of {annotations} (such as {listed[0]!r}); "
                         f"one is needed. Looked in {looked_in}; {_there(root, best)}. Write file_name relative to one "
                         "of these folders.")
    return "" if best[0] == "." else best[0]


def _listed_images(path: Path) -> list[str]:
    """The names of the images in an annotation file, but for those that lead out of their folder."""
    try:
        names = [str(image["file_name"]) for image in json.loads(path.read_bytes())["images"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not an annotation file in COCO form ({type(error).__name__}: {error}); it needs a "
                         "list 'images' with a 'file_name' each. Export it again.") from error
    inside = [name for name in names if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts]
    if not inside:
        raise InputError(f"{path}: {len(names)} images, none of them with a relative file_name; that is needed. Write "
                         "file_name relative to the image folder.")
    return inside


def _image_files(root: Path, folder: str, listed: Iterable[str]) -> set[str]:
    """Every image file in the folder and below, listed or not, and every listed file whatever its suffix."""
    found = {path for path in (root / folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    found |= {root / folder / name for name in listed}
    return {path.relative_to(root).as_posix() for path in found if path.is_file()}


def _hashed(root: Path, names: set[str]) -> dict[str, tuple[int, str]]:
    def row(name: str) -> tuple[int, str]:
        try:
            return (root / name).stat().st_size, sha256(root / name)
        except OSError as error:
            raise InputError(f"{root / name}: cannot be read: {error.strerror}; all of a data set must be readable. "
                             "Mend its permissions.") from error

    ordered = sorted(names)
    with ThreadPoolExecutor() as pool:
        rows = tqdm(pool.map(row, ordered), "hashing", len(ordered), leave=False, unit="files", disable=None)
        return dict(zip(ordered, rows, strict=True))


def _matches(root: Path, split: str, places: Iterable[str]) -> list[str]:
    """Names below root that fit one of the places, each once, in the order of the places."""
    found: dict[str, None] = {}
    for place in places:
        for word in SPLIT_WORDS[split]:
            paths = sorted(root.glob(place.replace("{split}", word)))
            names = (path.relative_to(root).as_posix() for path in paths)
            found |= {name: None for name in names if "*" not in place or _is_own(name, word)}
    return list(found)


def _is_own(name: str, word: str) -> bool:
    """Does the last part of a name have the word on its own, as "train2017" has and "trainval" has not?"""
    return re.search(rf"(?<![a-z]){word}(?![a-z])", PurePosixPath(name).name, re.I) is not None


def _spelled(split: str, places: Iterable[str]) -> list[str]:
    return [place.replace("{split}", "|".join(SPLIT_WORDS[split])) for place in places]


def _count(found: list[str]) -> str:
    return str(len(found)) if found else "no"


def _there(root: Path, found: list[str]) -> str:
    """What was found, or else what lies there instead."""
    if found:
        return f"found {', '.join(found)}"
    names = sorted(path.relative_to(root).as_posix() for path in (*root.glob("*"), *root.glob("*/*.json")))
    return f"there are {', '.join(names[:SAMPLE]) or 'no files'}"
