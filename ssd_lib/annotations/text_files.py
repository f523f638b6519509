"""The small text files of data sets: lists of images, and lists of classes."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from ssd_lib.errors import InputError


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; all of a data set must be readable. "
                         "Mend its permissions.") from error


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 that says so; without the mark at its start.

    Raises:
        InputError: it cannot be read, or is no such text.
    """
    data = read_bytes(path)
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not {encoding[:6].upper().rstrip('-')}; lists are UTF-8 text. "
                         "Save it as UTF-8.") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text, without the white space around them; blank ones at the end are left out.

    Raises:
        InputError: as of `read_text`.
    """
    text = read_text(path).rstrip()
    return [line.strip() for line in re.split(r"\r\n|\r|\n", text)] if text else []


def check_class_names(where: str, names: Sequence[object]) -> tuple[str, ...]:
    """The names of classes, once it is certain that they are some.

    Raises:
        InputError: there are none; one is no text, empty, or there twice.
    """
    if not names:
        raise InputError(f"{where}: no class names; one at least is needed. Write them into it.")
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise InputError(f"{where}: the name of class {number} is of type {type(name).__name__}, not text; names are text. "
                             "Put it into quotes.")
        if not name.strip():
            raise InputError(f"{where}: the name of class {number} is empty; every class needs one. Write it there.")
        if name in first:
            raise InputError(f"{where}: classes {first[name]} and {number} are both called {name!r:.60}; names differ. "
                             "Rename one, or make one class of them in the labels too.")
        first[name] = number
    return tuple(first)
