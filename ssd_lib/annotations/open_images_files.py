"""Where the files of a data set in the form of Open Images lie: a table of boxes and a folder of images for each split."""

import csv
import io
import re
from pathlib import Path

from ssd_lib.annotations.dataset_listing import DatasetListing
from ssd_lib.annotations.file_listing import below, is_image, shown
from ssd_lib.annotations.splits import SPLIT_WORDS
from ssd_lib.annotations.text_files import read_text
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part
from ssd_lib.params import DataParams

EXPECTED_FILES = "{train,validation,test}-annotations-bbox.csv, sub-{split}-annotations-bbox.csv"
TABLE = re.compile(r"(sub-)?(oidv\d+-)?(\w+)-annotations-bbox\.csv", re.I)
CLASSES = re.compile(r"[^/]*class-descriptions[^/]*\.csv", re.I)
USUAL_CLASSES = "class-descriptions-boxable.csv"


def fits(names: frozenset[str]) -> bool:
    """Is there a table of boxes, going by its name?"""
    return any(TABLE.fullmatch(name) for name in names)


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """The table of boxes and the image folder of train and of val, and what the classes are called.

    Guarantees: sub-*.csv, which the predecessors made of the classes that they trained, goes before the table it was made from. The
    images of test are val where there is no validation. Without a file of classes, the tables' column
    ClassName says what they are called.

    Args:
        root: the folder that the names are below.
        names: all files in it.
        data: `depictions`.

    Raises:
        InputError: a table, an image folder or the names of the classes are missing, or are there twice.
    """
    tables = {split: _find_table(root, names, split) for split in SPLIT_WORDS}
    tables["val"] = tables["val"] or tables["test"]
    for split in ("train", "val"):
        if not tables[split]:
            raise InputError(f"{root}: no table of boxes for {split}; that is {split.replace('val', 'validation')}-annotations-"
                             f"bbox.csv; {shown(names)}. Add it: one table is not cut in two here.")
    class_file = _find_classes(root, names)
    class_names = _class_names(root / class_file) if class_file else _names_in_tables(root, tables)
    splits: dict[str, tuple[Part, ...]] = {
        split: (Part(format="open_images", images=_find_images(root, names, tables[split]), annotations=tables[split],
                     class_names=class_names, depictions=data.depictions),) for split in ("train", "val")}
    return DatasetListing(splits, frozenset([class_file] if class_file else []))


def _find_table(root: Path, names: frozenset[str], split: str) -> str:
    fitting = [match for match in map(TABLE.fullmatch, sorted(names)) if match and match[3].lower() in SPLIT_WORDS[split]]
    found = [match[0] for match in fitting if match[1]] or [match[0] for match in fitting]
    if len(found) > 1:
        raise InputError(f"{root}: {len(found)} tables of boxes for {split}, {', '.join(found)}; one is needed. Move the "
                         "others away.")
    return found[0] if found else ""


def _find_images(root: Path, names: frozenset[str], table: str) -> str:
    match = TABLE.fullmatch(table)
    words = next(words for words in SPLIT_WORDS.values() if match and match[3].lower() in words)
    folders = [folder for folder in sorted({name.partition("/")[0] for name in names if "/" in name})
               if folder.lower() in words and any(map(is_image, below(folder, names)))]
    if len(folders) != 1:
        found = f"found {', '.join(folders)}" if folders else shown(names)
        raise InputError(f"{root}: {len(folders) or 'no'} folders with the images of {table}; one is needed, called "
                         f"{' or '.join(words)}; {found}. Move the images to one.")
    return folders[0]


def _find_classes(root: Path, names: frozenset[str]) -> str:
    found = sorted(name for name in names if CLASSES.fullmatch(name))
    if len(found) > 1 and USUAL_CLASSES not in found:
        raise InputError(f"{root}: {len(found)} files with the names of classes, {', '.join(found)}; one is needed. Move the "
                         "others away.")
    return USUAL_CLASSES if USUAL_CLASSES in found else found[0] if found else ""


def _class_names(path: Path) -> dict[str, str]:
    """What the classes are called, by their id: rows such as "/m/01g317,Person"."""
    found: dict[str, str] = {}
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        for row in rows:
            if not row or row[0] == "LabelName":
                continue
            if len(row) < 2 or not row[0].strip() or not row[1].strip():
                raise InputError(f"{path}: line {rows.line_num} is {','.join(row)!r:.100}; a line has an id and a name, such "
                                 "as /m/01g317,Person. Correct it.")
            _add_name(found, row[0], row[1], path, rows.line_num)
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num} is not CSV ({error}). Get the file again.") from error
    if not found:
        raise InputError(f"{path}: no class names; one at least is needed. Get the file again.")
    return found


def _names_in_tables(root: Path, tables: dict[str, str]) -> dict[str, str]:
    """What the column ClassName calls the classes, by the LabelName beside it, or by itself where there is none."""
    found: dict[str, str] = {}
    for path in (root / tables[split] for split in ("train", "val")):
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if "ClassName" not in (rows.fieldnames or ()):
                    raise InputError(f"{root}: no {USUAL_CLASSES}, and {path.name} has no column ClassName; without one of "
                                     "them the classes have no names. Download that file from the Open Images site.")
                for row in rows:
                    if name := row["ClassName"]:
                        _add_name(found, row.get("LabelName") or name, name, path, rows.line_num)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}. Mend its permissions.") from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not CSV in UTF-8 ({error}). Get the file again.") from error
    return found


def _add_name(found: dict[str, str], label: str, name: str, path: Path, line: int) -> None:
    """Note in `found` what a class is called."""
    if found.setdefault(label, name) != name:
        raise InputError(f"{path}: line {line} calls {label!r:.60} {name!r:.60}, a line before it {found[label]!r:.60}; a "
                         "class has one name. Remove one.")
