"""The files of a dataset in Open Images format: the CSV files and the images of each split, and the class names."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ssd_lib.annotations.files import SHOWN, below, describe_files, is_image, not_one, read_text, stem
from ssd_lib.annotations.listing import DatasetListing
from ssd_lib.annotations.names import fold, group_by
from ssd_lib.annotations.splits import SPLIT_WORDS, split_in_name, split_names, split_of
from ssd_lib.errors import InputError
from ssd_lib.files import open_regular
from ssd_lib.manifest import FileCount, Part
from ssd_lib.params import DataParams

EXPECTED_FILES = ("{train,validation,test}-annotations-bbox.csv, sub-{split}-annotations-bbox.csv, or CSV files of any name "
                  "with the columns ImageID, LabelName, XMin, XMax, YMin, YMax")
BOX_FILE = re.compile(r"(sub-)?(oidv\d+-)?(\w+)-annotations-bbox\.csv", re.I)
CLASS_FILE = re.compile(r"[^/]*class-descriptions[^/]*\.csv", re.I)
USUAL_CLASS_FILE = "class-descriptions-boxable.csv"
COLUMNS = {"ImageID", "XMin", "XMax", "YMin", "YMax"}
HEAD_BYTES = 4096
FEW = 20  # label files that are looked into
LABEL_FOLDER = re.compile(r"(^|/)labels?/[^/]+\.txt$", re.I)
TOOLKIT_ROW = re.compile(r"[^\d\s][^\d]*((?:\s\d+(?:\.\d*)?){4})")  # "Sports car 10.0 20.5 110.0 98.25"
TOOLKIT_ADVICE = ("has a class name and corners in pixels, as OIDv4 ToolKit and OIDv6 write them; the tables of Open Images, "
                  "which are read instead, are not here. Give the folder above in data.paths, with the tables: csv_folder/ of "
                  "OIDv4, boxes/ and metadata/ of OIDv6.")
Split = tuple[list[str], str, dict[str, str]]  # tables; the folder of the images, or ImageID -> image
ClassRow = tuple[Path, int, str, str]  # file, line, id and name of a class


def matches(names: frozenset[str]) -> bool:
    """Whether the names of the files look like a dataset in this format."""
    return any(BOX_FILE.fullmatch(name) for name in names) and any(map(is_image, names))


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """Find the CSV files of boxes and the images of train and of val, and the class names.

    Guarantees: sub-*.csv, which qfgaohao/pytorch-ssd and its forks write for the classes that they train, is read
    together with the whole file; an object of both counts once. The test images are val if there is no validation. Without a
    file of class names, the column ClassName names the classes. Files of other names or in other folders: see `_by_content`.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        data: `val_fraction`, `depictions`, `classes`.

    Raises:
        InputError: a CSV file, the images or the class names are missing, or there are two of them.
    """
    is_usual = matches(names)
    found = _by_name(root, names) if is_usual else _by_content(root, names, data.val_fraction)
    class_files = _class_files(root, names) if is_usual else _class_files_anywhere(names)
    tables = list(dict.fromkeys(table for tables, *_ in found.values() for table in tables))
    class_names = _class_names(_rows_of_class_files(root, class_files) if class_files else _rows_of_tables(root, tables))
    splits: dict[str, tuple[Part, ...]] = {
        split: (Part(format="open_images", images=folder, annotations=first, more_annotations=tuple(more), names=listed,
                     class_names=class_names, depictions=data.depictions),)
        for split, ((first, *more), folder, listed) in found.items()}
    images = {name for *_, images in found.values() for name in images.values()}
    copies = _copies(names, images)
    notes = {"copies": copies, "class_folders": [] if data.classes else _class_folders(images.union(copies), class_names)}
    counts = [FileCount(kind=kind, count=len(some), first=tuple(some[:SHOWN])) for kind, some in notes.items() if some]
    return DatasetListing(splits, frozenset([*class_files, *copies]), tuple(counts))


def find_by_content(root: Path, names: Iterable[str]) -> list[str]:
    """Return the CSV files that have the columns of a table of boxes, whatever their names; sorted."""
    return sorted(name for name in names if name.lower().endswith(".csv") and _is_table(root / name))


def label_of_toolkit(root: Path, names: Iterable[str]) -> str:
    """Return the first label file that is not empty, if OIDv4 ToolKit or OIDv6 wrote it; else ""."""
    for name in sorted(filter(LABEL_FOLDER.search, names))[:FEW]:
        with suppress(OSError):
            if line := _first_line(root / name):
                row = TOOLKIT_ROW.fullmatch(line)
                return name if row and max(map(float, row[1].split())) > 1 else ""
    return ""


def _first_line(path: Path) -> str:
    with open_regular(path) as file:
        return file.read(HEAD_BYTES).decode("utf-8-sig", errors="replace").strip().partition("\n")[0].rstrip()


def _is_table(path: Path) -> bool:
    try:
        columns = set(next(csv.reader([_first_line(path)]), []))
    except (OSError, csv.Error):
        return False
    return columns >= COLUMNS and bool(columns & {"LabelName", "ClassName"})


def _by_name(root: Path, names: frozenset[str]) -> dict[str, Split]:
    """Return the tables and the image folder of train and of val, by the names that the site gives them."""
    files = {split: _find_box_file(root, names, split) for split in SPLIT_WORDS}
    files["val"] = files["val"] or files["test"]
    for split in ("train", "val"):
        if not files[split]:
            raise InputError(f"{root}: no CSV file of boxes for {split}; that is {split.replace('val', 'validation')}-"
                             f"annotations-bbox.csv; {describe_files(names)}. Add it: this format is not "
                             "divided into train and val here.")
    return {split: ([files[split], *_more_box_files(names, files[split])], _find_images(root, names, files[split]), {})
            for split in ("train", "val")}


def _by_content(root: Path, names: frozenset[str], val_fraction: float) -> dict[str, Split]:
    """Return the tables and the images of train and of val, as FiftyOne, OIDv4 ToolKit and OIDv6 leave them.

    Guarantees: tables are found by their columns. A word of a split in its name or folder says whose a table is; one without is
    for all. The images of a split are those in folders named after it, else those that its own tables list; of several with
    one ImageID the first counts. If only one split has both, or none, `val_fraction` of the images become val.
    """
    tables = group_by(find_by_content(root, names), split_in_name)
    images = group_by(sorted(filter(is_image, names), reverse=True), lambda name: split_of(name.rpartition("/")[0]))
    free = {_image_id(name): name for name in images.get("", [])}
    found: dict[str, Split] = {}
    for split in SPLIT_WORDS:
        own = tables.get(split, [])
        listed = {_image_id(name): name for name in images.get(split, [])}
        if not listed and own and free:
            listed = {key: free[key] for key in sorted(free.keys() & _listed_ids(root, own))}
        if listed and (own or "" in tables):
            found[split] = ([*own, *tables.get("", [])], "", listed)
    if "val" not in found and "test" in found:
        found["val"] = found.pop("test")
    if "train" in found and "val" in found:
        return {split: found[split] for split in ("train", "val")}
    every = [name for some in tables.values() for name in some]
    chosen, _, listed = next(iter(found.values()), (every, "", free))
    if not listed:
        raise InputError(f"{root}: no images of {', '.join(every[:SHOWN])}; {describe_files(names)}. Put them into folders "
                         "called train and validation.")
    sides = zip(("train", "val"), split_names(listed, val_fraction), strict=True)
    return {split: (chosen, "", {key: listed[key] for key in side}) for split, side in sides}


def _find_box_file(root: Path, names: frozenset[str], split: str) -> str:
    fitting = [match for match in map(BOX_FILE.fullmatch, sorted(names)) if match and match[3].lower() in SPLIT_WORDS[split]]
    found = [match[0] for match in fitting if match[1]] or [match[0] for match in fitting]
    if len(found) > 1:
        raise not_one(root, f"CSV files of boxes for {split}", found, "Move the others away.")
    return found[0] if found else ""


def _more_box_files(names: frozenset[str], box_file: str) -> list[str]:
    """Return the whole file beside a sub-*.csv: it may have the classes of earlier downloads."""
    return [name for name in sorted(names) if name.lower() == box_file.lower().removeprefix("sub-") != box_file.lower()]


def _find_images(root: Path, names: frozenset[str], box_file: str) -> str:
    match = BOX_FILE.fullmatch(box_file)
    words = next(words for words in SPLIT_WORDS.values() if match and match[3].lower() in words)
    folders = [folder for folder in sorted({name.partition("/")[0] for name in names if "/" in name})
               if folder.lower() in words and any(map(is_image, below(folder, names)))]
    if len(folders) != 1:
        raise not_one(root, f"folders with the images of {box_file}", folders, "Move the images to one.", names,
                      " or ".join(words))
    return folders[0]


def _listed_ids(root: Path, tables: Iterable[str]) -> set[str]:
    """Return the ImageIDs in the tables."""
    ids: set[str] = set()
    for path in (root / table for table in tables):
        try:
            with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
                rows = csv.reader(file)
                column = next(rows).index("ImageID")
                ids.update(row[column] for row in rows if len(row) > column)
        except (OSError, csv.Error) as error:
            raise _unreadable_table(path, error) from error
    return ids


def _image_id(image: str) -> str:
    return stem(image.rpartition("/")[2])


def _copies(names: Iterable[str], used: set[str]) -> list[str]:
    """Return the images of which another with the same ImageID is used, such as those with objects of two classes in OIDv4."""
    keys = {(_image_id(name), split_of(name.rpartition("/")[0])) for name in used}
    return sorted(name for name in names if keys and is_image(name) and name not in used
                  and (_image_id(name), split_of(name.rpartition("/")[0])) in keys)


def _class_folders(images: Iterable[str], class_names: dict[str, str]) -> list[str]:
    """Return the classes after which the folders of the images are named, if that is all folders, but not all classes."""
    folders = {fold(name.split("/")[-2]) for name in images if "/" in name}
    classes = sorted({name for name in class_names.values() if fold(name) in folders})
    return classes if len(folders) == len(classes) < len(set(class_names.values())) else []


def _class_files(root: Path, names: frozenset[str]) -> list[str]:
    found = sorted(name for name in names if CLASS_FILE.fullmatch(name))
    if len(found) > 1 and USUAL_CLASS_FILE not in found:
        raise not_one(root, "files with the names of classes", found, "Move the others away.")
    return [USUAL_CLASS_FILE] if USUAL_CLASS_FILE in found else found


def _class_files_anywhere(names: Iterable[str]) -> list[str]:
    base = {name: name.rpartition("/")[2].lower() for name in sorted(names) if name.lower().endswith(".csv")}
    return ([name for name in base if base[name] == USUAL_CLASS_FILE]
            or [name for name in base if base[name] == "classes.csv" or CLASS_FILE.fullmatch(base[name])])


def _rows_of_class_files(root: Path, files: Iterable[str]) -> Iterator[ClassRow]:
    """Yield rows such as "/m/01g317,Person"."""
    for path in (root / file for file in files):
        rows, count = csv.reader(io.StringIO(read_text(path), newline="")), 0
        try:
            for row in rows:
                if not row or row[0] == "LabelName":
                    continue
                if len(row) < 2 or not row[0].strip() or not row[1].strip():
                    raise InputError(f"{path}: line {rows.line_num} is {','.join(row)!r:.100}; a line has an id and a name, "
                                     "such as /m/01g317,Person. Correct it.")
                count += 1
                yield path, rows.line_num, row[0], row[1]
        except csv.Error as error:
            raise InputError(f"{path}: line {rows.line_num} is not CSV ({error}). Download the file again.") from error
        if not count:
            raise InputError(f"{path}: no class names; at least one is needed. Download the file again.")


def _rows_of_tables(root: Path, tables: Iterable[str]) -> Iterator[ClassRow]:
    """Yield the columns LabelName and ClassName; without LabelName, the name is the id."""
    for path in (root / table for table in tables):
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if "ClassName" not in (rows.fieldnames or ()):
                    raise InputError(f"{root}: no {USUAL_CLASS_FILE}, and {path.name} has no column ClassName; without one of "
                                     "them the classes have no names. Download that file from the Open Images site.")
                for row in rows:
                    if name := row["ClassName"]:
                        yield path, rows.line_num, row.get("LabelName") or name, name
        except (OSError, csv.Error, UnicodeDecodeError) as error:
            raise _unreadable_table(path, error) from error


def _unreadable_table(path: Path, error: Exception) -> InputError:
    if isinstance(error, OSError):
        return InputError(f"{path}: cannot be read: {error.strerror}. Correct its permissions.")
    return InputError(f"{path}: not CSV in UTF-8 ({error}). Download the file again.")


def _class_names(rows: Iterable[ClassRow]) -> dict[str, str]:
    """Return id -> name of the classes; a class with two names is refused."""
    found: dict[str, str] = {}
    for path, line, label, name in rows:
        if found.setdefault(label, name) != name:
            raise InputError(f"{path}: line {line} calls {label!r:.60} {name!r:.60}, a line before it {found[label]!r:.60}; a "
                             "class has one name. Remove one.")
    return found
