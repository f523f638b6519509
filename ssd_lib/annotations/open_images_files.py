"""The files of a dataset in Open Images format: the CSV file and the image folder of each split, and the class names."""

import csv
import io
import re
from pathlib import Path

from ssd_lib.annotations.files import DatasetListing, below, describe_files, is_image, read_text
from ssd_lib.annotations.splits import SPLIT_WORDS
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part
from ssd_lib.params import DataParams

EXPECTED_FILES = "{train,validation,test}-annotations-bbox.csv, sub-{split}-annotations-bbox.csv"
BOX_FILE = re.compile(r"(sub-)?(oidv\d+-)?(\w+)-annotations-bbox\.csv", re.I)
CLASS_FILE = re.compile(r"[^/]*class-descriptions[^/]*\.csv", re.I)
USUAL_CLASS_FILE = "class-descriptions-boxable.csv"


def matches(names: frozenset[str]) -> bool:
    """Whether the names of the files look like a dataset in this format."""
    return any(BOX_FILE.fullmatch(name) for name in names)


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """Find the CSV file of boxes and the image folder of train and of val, and the class names.

    Guarantees: sub-*.csv, which qfgaohao/pytorch-ssd and its forks write for the classes that they train, is read
    together with the whole file; an object of both counts once. The test images are val if there is no validation. Without a
    file of class names, the column ClassName names the classes.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        data: `depictions`.

    Raises:
        InputError: a CSV file, an image folder or the class names are missing, or there are two of them.
    """
    box_files = {split: _find_box_file(root, names, split) for split in SPLIT_WORDS}
    box_files["val"] = box_files["val"] or box_files["test"]
    for split in ("train", "val"):
        if not box_files[split]:
            raise InputError(f"{root}: no CSV file of boxes for {split}; that is {split.replace('val', 'validation')}-"
                             f"annotations-bbox.csv; {describe_files(names)}. Add it: this format is not "
                             "divided into train and val here.")
    class_file = _find_class_file(root, names)
    class_names = _read_class_names(root / class_file) if class_file else _class_names_of_boxes(root, box_files)
    splits: dict[str, tuple[Part, ...]] = {
        split: (Part(format="open_images", images=_find_images(root, names, box_files[split]), annotations=box_files[split],
                     more_annotations=_more_box_files(names, box_files[split]), class_names=class_names,
                     depictions=data.depictions),) for split in ("train", "val")}
    return DatasetListing(splits, frozenset([class_file] if class_file else []))


def _find_box_file(root: Path, names: frozenset[str], split: str) -> str:
    fitting = [match for match in map(BOX_FILE.fullmatch, sorted(names)) if match and match[3].lower() in SPLIT_WORDS[split]]
    found = [match[0] for match in fitting if match[1]] or [match[0] for match in fitting]
    if len(found) > 1:
        raise InputError(f"{root}: {len(found)} CSV files of boxes for {split}, {', '.join(found)}; one is needed. Move the "
                         "others away.")
    return found[0] if found else ""


def _more_box_files(names: frozenset[str], box_file: str) -> tuple[str, ...]:
    """Return the whole file beside a sub-*.csv: it may have the classes of earlier downloads."""
    return tuple(name for name in sorted(names) if name.lower() == box_file.lower().removeprefix("sub-") != box_file.lower())


def _find_images(root: Path, names: frozenset[str], box_file: str) -> str:
    match = BOX_FILE.fullmatch(box_file)
    words = next(words for words in SPLIT_WORDS.values() if match and match[3].lower() in words)
    folders = [folder for folder in sorted({name.partition("/")[0] for name in names if "/" in name})
               if folder.lower() in words and any(map(is_image, below(folder, names)))]
    if len(folders) != 1:
        found = f"found {', '.join(folders)}" if folders else describe_files(names)
        raise InputError(f"{root}: {len(folders) or 'no'} folders with the images of {box_file}; one is needed, called "
                         f"{' or '.join(words)}; {found}. Move the images to one.")
    return folders[0]


def _find_class_file(root: Path, names: frozenset[str]) -> str:
    found = sorted(name for name in names if CLASS_FILE.fullmatch(name))
    if len(found) > 1 and USUAL_CLASS_FILE not in found:
        raise InputError(f"{root}: {len(found)} files with the names of classes, {', '.join(found)}; one is needed. Move the "
                         "others away.")
    return USUAL_CLASS_FILE if USUAL_CLASS_FILE in found else found[0] if found else ""


def _read_class_names(path: Path) -> dict[str, str]:
    """Return id -> name of the classes, from rows such as "/m/01g317,Person"."""
    found: dict[str, str] = {}
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        for row in rows:
            if not row or row[0] == "LabelName":
                continue
            if len(row) < 2 or not row[0].strip() or not row[1].strip():
                raise InputError(f"{path}: line {rows.line_num} is {','.join(row)!r:.100}; a line has an id and a name, such "
                                 "as /m/01g317,Person. Correct it.")
            _add_class_name(found, row[0], row[1], path, rows.line_num)
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num} is not CSV ({error}). Download the file again.") from error
    if not found:
        raise InputError(f"{path}: no class names; at least one is needed. Download the file again.")
    return found


def _class_names_of_boxes(root: Path, box_files: dict[str, str]) -> dict[str, str]:
    """Return id -> name of the classes, from the columns LabelName and ClassName; without LabelName, the name is the id."""
    found: dict[str, str] = {}
    for path in (root / box_files[split] for split in ("train", "val")):
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if "ClassName" not in (rows.fieldnames or ()):
                    raise InputError(f"{root}: no {USUAL_CLASS_FILE}, and {path.name} has no column ClassName; without one of "
                                     "them the classes have no names. Download that file from the Open Images site.")
                for row in rows:
                    if name := row["ClassName"]:
                        _add_class_name(found, row.get("LabelName") or name, name, path, rows.line_num)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}. Correct its permissions.") from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not CSV in UTF-8 ({error}). Download the file again.") from error
    return found


def _add_class_name(found: dict[str, str], label: str, name: str, path: Path, line: int) -> None:
    """Add a name to `found`, unless the class has another one."""
    if found.setdefault(label, name) != name:
        raise InputError(f"{path}: line {line} calls {label!r:.60} {name!r:.60}, a line before it {found[label]!r:.60}; a "
                         "class has one name. Remove one.")
