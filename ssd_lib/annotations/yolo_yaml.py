"""The YAML file of a YOLO data set: names of classes, and where the images are, as Ultralytics and Roboflow write it."""

import posixpath
import reprlib
from collections.abc import Iterator, Set
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import yaml

from ssd_lib.annotations.splits import SPLIT_WORDS
from ssd_lib.annotations.text_files import check_class_names, read_bytes
from ssd_lib.errors import InputError

USUAL = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
# What PyYAML raises, besides its own, for `!!int ""`, `!!bool x`, `!!timestamp x`, a date that is none, brackets in brackets
YAML_FAULTS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Config(NamedTuple):
    """What the YAML says.

    Attributes:
        file: its name.
        class_names: in the order of their numbers.
        base: `path`, which the others are relative to; "" if not given.
        entries: for "train" and "val": folders, or lists of images; none if not given.
    """

    file: str
    class_names: tuple[str, ...]
    base: str
    entries: dict[str, tuple[str, ...]]


def read_config(root: Path, names: Set[str]) -> Config | None:
    """The YAML file of the data set; None where there is none with names of classes.

    Guarantees: data.yaml or dataset.yaml is it, whatever other YAML files there are; without them, the one that has `names`.

    Raises:
        InputError: several could be it, or it is not YAML, or what it says is not allowed.
    """
    candidates = sorted(name for name in names if "/" not in name and name.endswith((".yaml", ".yml")))
    candidates = [name for name in candidates if name in USUAL] or candidates
    trees = {name: _load(root / name) for name in candidates}
    found = [name for name, tree in trees.items() if name in USUAL or "names" in tree]
    if len(found) > 1:
        raise InputError(f"{root}: {len(found)} YAML files with names of classes, {', '.join(found)}; one is needed. Move the "
                         "others away.")
    return _config(root, found[0], trees[found[0]]) if found else None


def places(entry: str, base: str = "", *, is_image: bool = False) -> Iterator[str]:
    """What an entry may mean as a name below the root, likeliest first: "" is the root itself.

    Guarantees: leading ".." are dropped, and a path of another machine, or `base`, loses folders from its front, one by one; what an
    entry says below `base` stays whole.

    Args:
        entry: `train` or `val` of the YAML, or a row of a list.
        base: what it is relative to.
        is_image: such a row, which may lose all of its folders.
    """
    own = _parts(entry)
    whole = own if _is_absolute(entry) else _parts(posixpath.join(_slashes(base), _slashes(entry)))
    keep = min(1, len(own)) if is_image or _is_absolute(entry) else len(own)
    for cut in range(len(whole) - keep + 1):
        yield "/".join(whole[cut:])


def _load(path: Path) -> dict[Any, Any]:
    data = read_bytes(path)
    try:
        tree = yaml.safe_load(data)
    except YAML_FAULTS as error:
        text = "".join(filter(str.isprintable, " ".join(str(error).split())))  # it shows the place, with whatever stands there
        raise InputError(f"{path}: not YAML: {text:.300}. Correct it.") from error
    return tree if isinstance(tree, dict) else {}


def _config(root: Path, file: str, tree: dict[Any, Any]) -> Config:
    path = root / file
    class_names = check_class_names(f"{path}: names", _in_order(path, tree.get("names")))
    count = tree.get("nc", len(class_names))
    if count != len(class_names):
        raise InputError(f"{path}: nc is {_said(count)}, but there are {len(class_names)} names; they must agree. Correct "
                         "one of them.")
    base = tree.get("path") or ""
    if not isinstance(base, str):
        raise InputError(f"{path}: path is {_said(base)}; it is the text of a folder. Correct it.")
    entries = {split: _entries(path, tree, split) for split in ("train", "val")}
    return Config(file, class_names, base, entries)


def _in_order(path: Path, names: object) -> list[object]:
    if names is None or names == {}:
        return []
    if isinstance(names, list):
        return names
    if not isinstance(names, dict):
        raise InputError(f"{path}: names is {_said(names)}; it is a list, or numbers with a name each. Correct it.")
    numbers = [key for key in names if type(key) is int]
    if len(numbers) < len(names) or sorted(numbers) != list(range(len(numbers))):
        keys = ", ".join(map(_said, list(names)[:10]))
        raise InputError(f"{path}: names has the keys {keys}; they are 0, 1, 2, ... without a hole. Correct them.")
    return [names[number] for number in range(len(numbers))]


def _entries(path: Path, tree: dict[Any, Any], split: str) -> tuple[str, ...]:
    value: object = next((tree[word] for word in SPLIT_WORDS[split] if tree.get(word)), [])
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and entry for entry in entries):
        raise InputError(f"{path}: {split} is {_said(value)}; it is a folder, a list of folders, or a .txt file. "
                         "Correct it.")
    return tuple(entries)


def _said(value: object) -> str:
    """A value for people; in short, for YAML makes endless ones out of a few lines."""
    is_short = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**12)
    return reprlib.repr(value) if is_short else f"of type {type(value).__name__}"


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).anchor)


def _slashes(path: str) -> str:
    return path.replace("\\", "/")


def _parts(path: str) -> list[str]:
    return [part for part in posixpath.normpath(_slashes(path)).split("/") if part not in ("", ".", "..")]
