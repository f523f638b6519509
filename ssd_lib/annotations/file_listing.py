"""Names of files below a folder, written with "/": one walk of the disk gives them all, and everything else is looked up in
that set. So no name that a list or a YAML holds can lead out of the folder."""

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from ssd_lib.errors import InputError
from ssd_lib.images import IMAGE_SUFFIXES

HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # how Python shows bytes of a name that are not Unicode
SHOWN = 20  # names that a message shows


def list_files(root: Path) -> frozenset[str]:
    """Every file below `root`, but hidden ones and __MACOSX; links are followed, though never into a folder around them.

    Raises:
        InputError: a folder cannot be read.
    """
    names: set[str] = set()
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        folder, around = waiting.pop()
        try:
            status = os.stat(root / folder)
            here = (status.st_dev, status.st_ino)
            if here not in around:
                files, folders = _scan(root, folder)
                names |= files
                waiting += [(name, around | {here}) for name in folders]
        except OSError as error:
            raise InputError(f"{root / folder}: cannot be read: {error.strerror}; all of a data set must be readable. "
                             "Mend its permissions.") from error
    return frozenset(names)


def _scan(root: Path, folder: str) -> tuple[set[str], set[str]]:
    """The files and the folders that lie directly in a folder."""
    files, folders = set[str](), set[str]()
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if HALF_CHARACTER.search(entry.name):
                raise InputError(f"{root / folder}: the name {entry.name!a} is not Unicode; all names must be. Rename it.")
            if is_left_out(entry.name):
                continue
            if entry.is_dir():
                folders.add(join(folder, entry.name))
            elif entry.is_file():  # a link to nothing is not one
                files.add(join(folder, entry.name))
    return files, folders


def is_left_out(name: str) -> bool:
    """Is a file or folder of this name no part of a data set: hidden, or what macOS puts into its zips?"""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Does the name end as image files do, in any case?"""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def stem(name: str) -> str:
    """A name without its suffix, but with its folders: "a/b.c" of "a/b.c.jpg"."""
    dot = name.rfind(".")
    return name[:dot] if dot > name.rfind("/") + 1 else name


def folders_of(names: Iterable[str]) -> set[str]:
    """Every folder that files lie in, directly or deeper; the root is ""."""
    folders = {""}
    for folder in {name.rpartition("/")[0] for name in names}:
        while folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def below(folder: str, names: Iterable[str]) -> set[str]:
    """Those names that lie in the folder or deeper; all of them for ""."""
    prefix = f"{folder}/" if folder else ""
    return {name for name in names if name.startswith(prefix)}


def join(folder: str, name: str) -> str:
    """The name of a file or folder in `folder`; either may be "", the root."""
    return f"{folder}/{name}" if folder and name else folder or name


def shown(names: Collection[str]) -> str:
    """What lies directly in the folder, for people: "there are images/, labels/, notes.txt"."""
    there = sorted({top + slash for top, slash, _ in (name.partition("/") for name in names)})
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    return f"there are {', '.join(there[:SHOWN])}{more}" if there else "there are no files"
