"""The text of params files: recipes are the text of params.yaml with other values, and a card in comments above it."""

import re
from collections.abc import Mapping
from pathlib import Path

from ssd_lib.errors import InputError

RECIPES = Path("recipes")
GROUP = re.compile(r"(\w+):\s*$")
KEY = re.compile(r"(?P<key>  \w+:) (?P<value>.*?)(?P<space>\s*)(?P<comment>(?<=\s)#.*)?$")
COMMENT_AT = 30  # the column of the comments
Values = Mapping[str, str]  # "train.lr" -> its value as it is written in YAML


def read_recipe(name: str, folder: Path = RECIPES) -> str:
    """Return the text of a recipe.

    Raises:
        InputError: there is none of this name.
    """
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise InputError(f"--recipe: found {name!r}; it must be one of {', '.join(names)}, the files of {folder}/.")
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def values_of(text: str) -> dict[str, str]:
    """Return the values of the text of a params file, as they are written there."""
    return {key: match["value"] for key, match in _keys(text) if match}


def with_values(text: str, values: Values) -> str:
    """Return the text of a params file with other values; keys, order and comments stay."""
    lines = [line if match is None or key not in values else _line(match, values[key]) for key, match, line in
             ((key, match, line) for (key, match), line in zip(_keys(text), text.split("\n"), strict=True))]
    return "\n".join(lines)


def card_of(text: str) -> str:
    """Return the comments at the head of a params file, up to the first group and with an empty line at the end."""
    return text[:re.search(r"^\w", text, re.M).start()]  # type: ignore[union-attr]


def regenerated(recipe: str, params: str) -> str:
    """Return a recipe with its card and its values, and with the keys, the order and the comments of `params`."""
    return card_of(recipe) + with_values(params, values_of(recipe)).removeprefix(card_of(params))


def refresh(folder: Path = RECIPES, params: Path = Path("params.yaml")) -> None:
    """Regenerate all recipes after a change of params.yaml; a key that is new there has its value in all of them."""
    for path in folder.glob("*.yaml"):
        path.write_text(regenerated(path.read_text(encoding="utf-8"), params.read_text(encoding="utf-8")), encoding="utf-8")


def _keys(text: str) -> list[tuple[str, re.Match[str] | None]]:
    """Return for each line the key, such as "train.lr", and the match of KEY; ("", None) for other lines."""
    group = ""
    found: list[tuple[str, re.Match[str] | None]] = []
    for line in text.split("\n"):
        if head := GROUP.match(line):
            group = head[1]
        match = KEY.match(line)
        found.append((f"{group}.{match['key'].strip(' :')}", match) if match else ("", None))
    return found


def _line(match: re.Match[str], value: str) -> str:
    start = f"{match['key']} {value}"
    return start if match["comment"] is None else f"{start}  ".ljust(COMMENT_AT) + match["comment"]
