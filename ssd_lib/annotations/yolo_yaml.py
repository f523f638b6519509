"""The YAML file of a dataset in YOLO format, as Ultralytics and Roboflow write it: class names, and where images are."""

import reprlib
from collections.abc import Set
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ssd_lib.annotations.files import check_class_names, not_one, read_bytes
from ssd_lib.annotations.splits import SPLIT_WORDS
from ssd_lib.errors import InputError

YAML_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
# What PyYAML raises, besides its own errors, for `!!int ""`, `!!bool x`, `!!timestamp x`, an impossible date, nested brackets
YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Config(NamedTuple):
    """Content of the YAML file.

    Attributes:
        file: its name; "" without a file.
        class_names: in the order of their numbers.
        base: `path`, which the other paths are relative to; "" if absent.
        entries: for "train" and "val": folders, or lists of images; empty if absent.
        keypoints: `kpt_shape`, number of points and of values for each; None if absent.
    """

    file: str
    class_names: tuple[str, ...]
    base: str
    entries: dict[str, tuple[str, ...]]
    keypoints: tuple[int, int] | None = None


NO_CONFIG = Config("", (), "", {"train": (), "val": ()})


def read_config(root: Path, names: Set[str]) -> Config | None:
    """Read the YAML file of the dataset; None if no YAML file has class names.

    Guarantees: a file of a usual name, such as data.yaml, precedes others; without one, the file that has `names` is taken.

    Raises:
        InputError: several files qualify, or it is not YAML, or a value is not allowed.
    """
    candidates = sorted(name for name in names if "/" not in name and name.endswith((".yaml", ".yml")))
    candidates = [name for name in candidates if name in YAML_NAMES] or candidates
    trees = {name: _load_yaml(root / name) for name in candidates}
    found = [name for name, tree in trees.items() if name in YAML_NAMES or "names" in tree]
    if len(found) > 1:
        raise not_one(root, "YAML files with names of classes", found, "Move the others away.")
    return _parse_config(root, found[0], trees[found[0]]) if found else None


def _load_yaml(path: Path) -> dict[Any, Any]:
    data = read_bytes(path)
    try:
        tree = yaml.safe_load(data)
    except YAML_ERRORS as error:
        text = "".join(filter(str.isprintable, " ".join(str(error).split())))  # it quotes the file, with whatever is there
        raise InputError(f"{path}: not YAML: {text:.300}. Correct it.") from error
    return tree if isinstance(tree, dict) else {}


def _parse_config(root: Path, file: str, tree: dict[Any, Any]) -> Config:
    path = root / file
    class_names = check_class_names(f"{path}: names", _names_in_order(path, tree.get("names")))
    count = tree.get("nc", len(class_names))
    if count != len(class_names):
        raise InputError(f"{path}: nc is {_shown(count)}, but there are {len(class_names)} names; they must agree. Correct "
                         "one of them.")
    base = tree.get("path") or ""
    if not isinstance(base, str):
        raise InputError(f"{path}: path is {_shown(base)}; it must be the name of a folder. Correct it.")
    entries = {split: _entries(path, tree, split) for split in ("train", "val")}
    return Config(file, class_names, base, entries, _kpt_shape(path, tree.get("kpt_shape")))


def _kpt_shape(path: Path, shape: object) -> tuple[int, int] | None:
    if shape is None:
        return None
    numbers = shape if isinstance(shape, list) and len(shape) < 9 and all(type(number) is int for number in shape) else None
    if numbers is None or len(numbers) != 2 or numbers[0] < 1 or numbers[1] not in (2, 3):
        raise InputError(f"{path}: kpt_shape is {_shown(shape) if numbers is None else numbers}; it must be the number of "
                         "points and 2 or 3, such as [17, 3]. Correct it.")
    return numbers[0], numbers[1]


def _names_in_order(path: Path, names: object) -> list[object]:
    if names is None or names == {}:
        return []
    if isinstance(names, list):
        return names
    if not isinstance(names, dict):
        raise InputError(f"{path}: names is {_shown(names)}; it must be a list, or numbers with a name each. Correct it.")
    names = {int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key: name
             for key, name in names.items()} if all(isinstance(key, str) for key in names) else names
    numbers = [key for key in names if type(key) is int]
    if len(numbers) < len(names) or sorted(numbers) != list(range(len(numbers))):
        keys = ", ".join(map(_shown, list(names)[:10]))
        raise InputError(f"{path}: names has the keys {keys}; they must be 0, 1, 2, ... without a gap. Correct them.")
    return [names[number] for number in range(len(numbers))]


def _entries(path: Path, tree: dict[Any, Any], split: str) -> tuple[str, ...]:
    value: object = next((tree[word] for word in SPLIT_WORDS[split] if tree.get(word)), [])
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and entry for entry in entries):
        raise InputError(f"{path}: {split} is {_shown(value)}; it must be a folder, a list of folders, or a .txt file. "
                         "Correct it.")
    return tuple(entries)


def _shown(value: object) -> str:
    """Return a value for a message, shortened: a few lines of YAML can describe an endless one."""
    is_short = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**12)
    return reprlib.repr(value) if is_short else f"of type {type(value).__name__}"
