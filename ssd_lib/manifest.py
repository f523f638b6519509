"""Manifest: name, size and hash of every downloaded file. DVC tracks it instead of the images.

As a DVC output, COCO would need a second copy on disk and some seconds for every command.
"""

from collections.abc import Container, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import in_project, write_text
from ssd_lib.params import Format

MANIFEST_PATH = Path("data/manifest.json")
REPORT_PATH = Path("reports/validation.json")  # written by validate, read by fix_annotations
FIXED_FOLDER = Path("data/fixed")  # written by fix_annotations
PartKey = tuple[str, int]  # split of a part, and its number in the split
MAX_CLASSES = 20_000  # of a dataset or a model; Open Images, the largest, has 600
TEXT_SUFFIXES = (".json", ".csv", ".xml", ".txt", ".yaml", ".yml", ".names")  # of annotation files
REPAIR_HINT = "`dvc repro --force --single-item download` fetches what is missing, and lists your own files again"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Archive(_Frozen):
    """A downloaded archive: its size in bytes and its MD5 as 32 hex digits."""

    bytes: int
    md5: str


class FileCount(_Frozen):
    """Files below the root that are treated in a special way, or not used.

    Attributes:
        kind: a key of `ssd_lib.annotations.account.FILE_KINDS`.
        count: the number of files.
        of: the number of all files of this sort; 0 if that says nothing.
        first: the first few, each perhaps with the nearest other name.
    """

    kind: str
    count: int
    of: int = 0
    first: tuple[str, ...] = ()


class Part(_Frozen):
    """The images and annotations of a split, or of one of its sources if it has several; names are relative to the root.

    Attributes:
        format: of the annotations.
        images: the folder that file names in `annotations` are relative to (coco, open_images).
        annotations: the file with all boxes (coco, open_images).
        only: the images of this part, by their names in `annotations`, if that file also has those of the other split (coco);
            otherwise empty.
        pairs: image -> its label file (voc, yolo); "" if it has none, and so no objects.
        class_names: class in the label files -> its name, in the order of the classes (yolo: the number; open_images: the id
            such as /m/01g317; voc: the name itself). Empty for voc means all names that occur; always empty for coco.
        keypoints: numbers of points and of values for each, which follow the box in every line of pose labels (yolo); else
            None.
        depictions: whether a drawing of an object counts as one (open_images).
        names: file_name -> name of the image relative to the root, where the two are written differently (coco).
        more_annotations: further files with boxes of the same images (open_images).
    """

    format: Format = "coco"
    images: str = ""
    annotations: str = ""
    only: tuple[str, ...] = ()
    pairs: dict[str, str] = {}
    class_names: dict[str, str] = {}
    keypoints: tuple[int, int] | None = None
    depictions: bool = True
    names: dict[str, str] = {}
    more_annotations: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _without_empty(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _drop_empty(serialise(self), "names", "more_annotations")


class Manifest(_Frozen):
    """The files of a dataset on this machine.

    Attributes:
        source: `data.source`.
        root: the folder that all names are relative to; itself relative to data/raw, or absolute for a local dataset.
        archives: downloaded archives by their path below the base URL.
        splits: parts of "train", "val" and possibly "test" (whose annotation file lists only images); at least one part each.
        classes: names of the classes to learn; empty for all.
        files: every image and annotation file: name relative to root (with "/") -> (size in bytes, SHA-256 in hex).
        counts: files of a local dataset that are not used, or were matched by a name that is written differently.
    """

    source: str
    root: str
    archives: dict[str, Archive] = {}
    splits: dict[str, tuple[Part, ...]]
    classes: tuple[str, ...] = ()
    files: dict[str, tuple[int, str]]
    counts: tuple[FileCount, ...] = ()

    @model_serializer(mode="wrap")
    def _without_empty(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _drop_empty(serialise(self), "counts")

    def path(self, name: str) -> Path:
        """Return the path of a file on this machine."""
        return raw_folder() / self.root / name

    def parts(self, form: Format) -> dict[PartKey, Part]:
        """Return the parts in a format, by their split and their number in it."""
        return {(split, number): part for split, parts in self.splits.items() for number, part in enumerate(parts)
                if part.format == form}

    def images(self, split: str) -> dict[str, tuple[int, str]]:
        """Return the entries of `files` for the images of `split`: those of `pairs` or `only`, or else all in its folder."""
        found: dict[str, tuple[int, str]] = {}
        for part in self.splits[split]:
            found |= {name: self.files[name] for name in self._names(part) if name in self.files}
        return found

    def _names(self, part: Part) -> Iterable[str]:
        if part.pairs or part.only:
            return part.pairs or [image_of(part, name, self.files) for name in part.only]
        if part.names and not part.images:
            return part.names.values()
        prefix = f"{part.images}/" if part.images else ""
        return [name for name in self.files if name.startswith(prefix) and not name.lower().endswith(TEXT_SUFFIXES)]

    def save(self, path: Path = MANIFEST_PATH) -> None:
        """Write the manifest sorted by name, one file per line; the same content gives the same bytes."""
        ordered = self.model_copy(update={"files": dict(sorted(self.files.items()))})
        write_text(path, ordered.model_dump_json(indent=1) + "\n")


def load_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """Read the manifest.

    Raises:
        StateError: the file does not exist.
        InputError: the file is not a manifest.
    """
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StateError(f"{path}: missing. `dvc repro download` makes it.") from error
    except ValidationError as error:
        raise InputError(f"{path}: not a manifest of this project ({error.error_count()} faults, the first: "
                         f"{error.errors()[0]['msg']}). Delete it and run `dvc repro download`.") from error


def name_below(folder: str, name: str, known: Container[str]) -> str:
    """Return the name of a file relative to the root, from its name in the annotations.

    Guarantees: "./" and doubled "/" are removed; a "\\", as tools on Windows write it, becomes "/" if no file has it in its
    name.

    Args:
        folder: the folder that `name` is relative to; "" for the root.
        name: as in the annotations.
        known: names of the files below the root.
    """
    plain = f"{folder}/{name}" if folder else name
    if plain in known:
        return plain
    plain = PurePosixPath(plain).as_posix()
    return plain if plain in known else PurePosixPath(plain.replace("\\", "/")).as_posix()


def image_of(part: Part, name: str, known: Container[str]) -> str:
    """Return the name of an image relative to the root, from its name in the annotations of a part."""
    return part.names.get(name) or name_below(part.images, name, known)


def raw_folder() -> Path:
    """Return data/raw of the main repository; the copies that DVC makes for experiments have no images."""
    return in_project("data/raw")


def _drop_empty(tree: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return the tree without those keys whose values are empty, so that most manifests stay as they are."""
    return {key: value for key, value in tree.items() if value or key not in keys}
