"""The files of a dataset: their names, found by one walk of the disk, and the texts in them that all formats share.

Names are relative to a root folder, with "/". Whatever a list or a YAML file refers to is looked up among the names that the
walk found, so no entry can lead out of the root.
"""

import codecs
import os
import re
from collections.abc import Collection, Iterable, Sequence
from os.path import splitext
from pathlib import Path

from ssd_lib.errors import InputError
from ssd_lib.files import open_regular, read_regular
from ssd_lib.images import IMAGE_SUFFIXES
from ssd_lib.manifest import MAX_CLASSES

HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # lone surrogates: Python shows bytes of a name that are not Unicode so
SHOWN = 20  # names in a message
MAX_PATHS = 20  # on which one folder may be reached through links
MAX_LABEL_BYTES = 1 << 26  # 64 MiB; the label file of one image is smaller


def list_files(root: Path) -> frozenset[str]:
    """Return the names of all files below `root` except hidden ones; links are followed, but never into a folder around them.

    A folder that links show at several places has a name at each, up to MAX_PATHS: a few links that cross can make 2^40 paths.

    Raises:
        InputError: a folder cannot be read or is reached on too many paths, or a name is not Unicode.
    """
    names: set[str] = set()
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    paths_of: dict[tuple[int, int], list[str]] = {}
    while waiting:
        folder, around = waiting.pop()
        try:
            status = os.stat(root / folder)
            here = (status.st_dev, status.st_ino)
            if here not in around:
                _refuse_crossing(root, paths_of.setdefault(here, []), folder)
                files, folders = _scan(root, folder)
                names |= files
                waiting += [(name, around | {here}) for name in sorted(folders)]
        except OSError as error:
            raise _unreadable(root / folder, error) from error
    return frozenset(names)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is ignored by its name: hidden, or what macOS adds to its zip archives."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Whether the name has the suffix of an image file, in capitals or not."""
    return splitext(name)[1].lower() in IMAGE_SUFFIXES


def stem(name: str) -> str:
    """Return a name with its folders, without its suffix: "a/b.c" of "a/b.c.jpg"."""
    dot = name.rfind(".")
    return name[:dot] if dot > name.rfind("/") + 1 else name


def folders_of(names: Iterable[str]) -> set[str]:
    """Return all folders that contain files, directly or deeper; the root is ""."""
    folders = {""}
    for folder in {name.rpartition("/")[0] for name in names}:
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def below(folder: str, names: Iterable[str]) -> set[str]:
    """Return the names in the folder or deeper; all of them for ""."""
    prefix = f"{folder}/" if folder else ""
    return {name for name in names if name.startswith(prefix)}


def join(folder: str, name: str) -> str:
    """Return the name of a file or folder in `folder`; either may be "", the root."""
    return f"{folder}/{name}" if folder and name else folder or name


def describe_files(names: Collection[str]) -> str:
    """Return what lies directly in the root, for a message: "there are images/, labels/, notes.txt"."""
    there = sorted({top + slash for top, slash, _ in (name.partition("/") for name in names)})
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    return f"there are {', '.join(there[:SHOWN])}{more}" if there else "there are no files"


def not_one(root: Path, what: str, found: Sequence[str], advice: str, names: Collection[str] = (),
            sought: str = "") -> InputError:
    """Return the error for none or several of what must be there once.

    Args:
        root: the folder that was looked through.
        what: what is needed, in the plural.
        found: the names of those that are there.
        advice: what to do.
        names: all files below the root, to say what is there where nothing is found.
        sought: the names that would have been found.
    """
    looked = f"looked for {sought}; " if sought else ""
    there = f"found {', '.join(found[:SHOWN])}" if found else describe_files(names)
    return InputError(f"{root}: {len(found) or 'no'} {what}; one is needed; {looked}{there}. {advice}")


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return read_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_text(path: Path) -> str:
    """Read a text in UTF-8, or in UTF-16 with a byte order mark; the mark is removed.

    Raises:
        InputError: it cannot be read, or is not such a text.
    """
    data = read_bytes(path)
    encoding = encoding_of(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not {encoding[:6].upper().rstrip('-')}; lists are UTF-8 text. "
                         "Save it as UTF-8.") from error


def encoding_of(data: bytes) -> str:
    """Return the encoding of a text: UTF-16 with a byte order mark, else UTF-8 with or without one."""
    return "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text, stripped; blank lines at the end are dropped.

    Raises:
        InputError: see `read_text`.
    """
    text = read_text(path).rstrip()
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text)] if text else []


def read_label_file(folder: Path, name: str) -> bytes:
    """Read the label file of one image; errors name it relative to `folder`.

    Raises:
        InputError: it cannot be read, or is too large for one image.
    """
    try:
        with open_regular(folder / name) as file:
            data = file.read(MAX_LABEL_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with a zero byte raises ValueError
        reason = getattr(error, "strerror", error)
        raise InputError(f"{name}: cannot be read: {reason}. Restore it, or remove its image.") from error
    if len(data) > MAX_LABEL_BYTES:
        raise InputError(f"{name}: more than {MAX_LABEL_BYTES >> 20} MiB; the labels of one image are smaller. "
                         "Is it another file?")
    return data


def parse_number(text: str) -> float | None:
    """Parse a number, NaN and infinity included; None if the text is not a number.

    Underscores and digits of other scripts, which only Python accepts, are refused.
    """
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def check_class_names(where: str, names: Sequence[object]) -> tuple[str, ...]:
    """Return the names of the classes.

    Raises:
        InputError: there are none or too many; one is not a text, is empty, or occurs twice.
    """
    if len(names) > MAX_CLASSES:
        raise InputError(f"{where}: {len(names)} class names; at most {MAX_CLASSES} are allowed. Is it another file?")
    if not names:
        raise InputError(f"{where}: no class names; at least one is needed. Write them into it.")
    number_of: dict[str, int] = {}
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"{where}: the name of class {number} is of type {type(name).__name__}, not text; names are text. "
                             "Put it into quotes.")
        if not name.strip():
            raise InputError(f"{where}: the name of class {number} is empty; every class needs one. Write it there.")
        if name in number_of:
            raise InputError(f"{where}: classes {number_of[name]} and {number} are both called {name!r:.60}; names differ. "
                             "Rename one, or make one class of them in the labels too.")
        number_of[name] = number
    return tuple(number_of)


def _refuse_crossing(root: Path, paths: list[str], folder: str) -> None:
    """Note one more path of a folder in `paths`, or refuse it."""
    paths.append(folder)
    if len(paths) > MAX_PATHS:
        raise InputError(f"{root}: links show one folder on more than {MAX_PATHS} paths, such as {paths[0]!r:.200} and "
                         f"{folder!r:.200}; at most {MAX_PATHS} are allowed, as links that cross make endlessly many. Remove "
                         "links, or give the folder with the files itself.")


def _scan(root: Path, folder: str) -> tuple[set[str], set[str]]:
    """Return the files and the folders directly in a folder."""
    files, folders = set[str](), set[str]()
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if HALF_CHARACTER.search(entry.name):
                raise InputError(f"{root / folder}: the name {entry.name!a} is not Unicode; all names must be. Rename it.")
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                folders.add(join(folder, entry.name))
            elif entry.is_file():  # False for a broken link
                files.add(join(folder, entry.name))
    return files, folders


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror}; every file of a dataset must be readable. "
                      "Correct its permissions.")
