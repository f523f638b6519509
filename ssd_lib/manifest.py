"""The manifest: what was downloaded, by name, size and hash. It stands for the images, which DVC does not track itself
(as a DVC out, COCO would cost a second copy on disk and seconds at every command)."""

from collections.abc import Container, Iterable
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import in_project, write_text
from ssd_lib.params import Format

MANIFEST_PATH = Path("data/manifest.json")
REPORT_PATH = Path("reports/validation.json")  # what validate reports; fix_annotations reads it
FIXED_FOLDER = Path("data/fixed")  # what fix_annotations makes of it
Place = tuple[str, int]  # of a part: its split, its number in it
TEXT_SUFFIXES = (".json", ".csv", ".xml", ".txt", ".yaml", ".yml", ".names")  # of annotations, never of images
REPAIR_HINT = "`dvc repro --force --single-item download` fetches what is missing, and lists data of your own anew"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Archive(_Frozen):
    """A downloaded archive: its size in bytes and its MD5 as 32 hex digits."""

    bytes: int
    md5: str


class Part(_Frozen):
    """Where the images and annotations of a split lie below the root, or of a part of it where a split has several sources.

    Attributes:
        format: what the annotations are written in.
        images: the folder that the names in `annotations` are below (coco, open_images).
        annotations: the file with all boxes (coco, open_images).
        only: the images of this part, by the names in `annotations`, where that file also has those of the other split (coco);
            else none.
        pairs: the images and each one's own annotation file (voc, yolo); "" where it has none, and so no objects.
        class_names: how the annotations call a class -> its name, in the order of the classes (yolo: the number, open_images:
            the id such as /m/01g317; voc: the name itself). For voc it may be empty: all names that are found; for coco it is.
        depictions: drawings of an object count as one (open_images).
    """

    format: Format = "coco"
    images: str = ""
    annotations: str = ""
    only: tuple[str, ...] = ()
    pairs: dict[str, str] = {}
    class_names: dict[str, str] = {}
    depictions: bool = True


class Manifest(_Frozen):
    """What a source has put on the disk.

    Attributes:
        source: `data.source` that made it.
        root: the folder that all names are below; relative to data/raw, or absolute for a local data set.
        archives: what was downloaded, by its path below the base URL.
        splits: by name: "train", "val", at times "test" (whose annotation file has images only); each of one part or more.
        classes: names of the classes to learn, of those that there are; none means all.
        files: every image and annotation file: name below root (with "/") -> (size in bytes, SHA-256 in hex).
    """

    source: str
    root: str
    archives: dict[str, Archive] = {}
    splits: dict[str, tuple[Part, ...]]
    classes: tuple[str, ...] = ()
    files: dict[str, tuple[int, str]]

    def path(self, name: str) -> Path:
        """Where the file called `name` lies on this machine."""
        return raw_folder() / self.root / name

    def parts(self, form: Format) -> dict[Place, Part]:
        """The parts that are written in a format, by their split and their number in it."""
        return {(split, number): part for split, parts in self.splits.items() for number, part in enumerate(parts)
                if part.format == form}

    def images(self, split: str) -> dict[str, tuple[int, str]]:
        """The rows of `files` that are images of `split`: those with an annotation file, those of
        `only`, or else what lies in its image folder."""
        found: dict[str, tuple[int, str]] = {}
        for part in self.splits[split]:
            found |= {name: self.files[name] for name in self._names(part) if name in self.files}
        return found

    def _names(self, part: Part) -> Iterable[str]:
        if part.pairs or part.only:
            return part.pairs or [name_below(part.images, name, self.files) for name in part.only]
        prefix = f"{part.images}/" if part.images else ""
        return [name for name in self.files if name.startswith(prefix) and not name.lower().endswith(TEXT_SUFFIXES)]

    def save(self, path: Path = MANIFEST_PATH) -> None:
        """Write it, sorted by name, one file a line: the same content gives the same bytes."""
        ordered = self.model_copy(update={"files": dict(sorted(self.files.items()))})
        write_text(path, ordered.model_dump_json(indent=1) + "\n")


def load_manifest(path: Path = MANIFEST_PATH) -> Manifest:
    """Read the manifest.

    Raises:
        StateError: it is not there.
        InputError: it is not a manifest.
    """
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StateError(f"{path}: missing. `dvc repro download` makes it.") from error
    except ValidationError as error:
        raise InputError(f"{path}: not a manifest of this project ({error.error_count()} faults, the first: "
                         f"{error.errors()[0]['msg']}). Delete it and run `dvc repro download`.") from error


def name_below(folder: str, name: str, known: Container[str]) -> str:
    """The name of a file below the root, of what annotations call it.

    Guarantees: "./" and a doubled "/" mean nothing; a "\\", as tools on Windows write it, is a "/" where no file has it in its name.

    Args:
        folder: that `name` is relative to; "" for the root.
        name: as the annotations have it.
        known: names of files below the root.
    """
    plain = f"{folder}/{name}" if folder else name
    if plain in known:
        return plain
    plain = PurePosixPath(plain).as_posix()
    return plain if plain in known else PurePosixPath(plain.replace("\\", "/")).as_posix()


def raw_folder() -> Path:
    """data/raw of the main repository: copies of it have no images."""
    return in_project("data/raw")
