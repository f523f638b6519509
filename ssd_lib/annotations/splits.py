"""Names of splits in files and folders, and a deterministic split for datasets that have none."""

import hashlib
import re
from collections.abc import Collection, Iterable

from ssd_lib.errors import InputError

SPLIT_WORDS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def is_val(name: str, fraction: float) -> bool:
    """Whether the image called `name` belongs to val; depends on the name alone, so new images never move old ones."""
    return _fraction_of(name) < fraction


def split_names(names: Collection[str], fraction: float) -> tuple[list[str], list[str]]:
    """Return the names of train, and of val about a share `fraction`; sorted.

    Guarantees: `is_val` decides, but of two names or more each side gets at least one.
    """
    ordered = sorted(names, key=_fraction_of)
    count = sum(is_val(name, fraction) for name in ordered)
    if len(ordered) > 1:
        count = min(max(count, 1), len(ordered) - 1)
    return sorted(ordered[count:]), sorted(ordered[:count])


def require_images(where: str, split: str, names: Collection[str]) -> None:
    """Refuse a split without images.

    Raises:
        InputError: there are none.
    """
    if not names:
        raise InputError(f"{where}: no images for {split}; train and val need at least one each. Add labelled images.")


def split_of(folder: str) -> str:
    """Return the split that a folder, or one around it, is named after, such as "val" for "valid/night"; "" for none."""
    for part in folder.split("/"):
        for split, words in SPLIT_WORDS.items():
            if re.fullmatch(rf"({'|'.join(words)})\d*", part, re.I):
                return split
    return ""


def split_in_name(name: str) -> str:
    """Return the split that a word in the name of a file says, or else in its folders; "" for none, and for two."""
    for text in name.lower().replace("_", "-").rpartition("/")[::-2]:
        found = [split for split, words in SPLIT_WORDS.items()
                 if re.search(rf"(?<![a-z])({'|'.join(words)})\d*(?![a-z])", text)]
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def matching(names: Iterable[str], split: str, patterns: Iterable[str]) -> list[str]:
    """Return the names that match a pattern, each once, in the order of the patterns and then sorted.

    Args:
        names: of files or folders.
        split: `{split}` in a pattern stands for its words, on their own: "train2017" is train, "trainval" is not.
        patterns: such as "annotations/instances_{split}*.json"; `*` stands for anything without "/".
    """
    ordered, found = sorted(names), dict[str, None]()
    word = f"(?:{'|'.join(SPLIT_WORDS[split])})(?![a-z])"
    for pattern in patterns:
        regex = re.compile(re.escape(pattern).replace(r"\{split\}", word).replace(r"\*", "[^/]*"), re.I)
        found |= {name: None for name in ordered if regex.fullmatch(name)}
    return list(found)


def spelled(split: str, patterns: Iterable[str]) -> str:
    """Return the patterns with the words of the split, for a message."""
    return ", ".join(pattern.replace("{split}", "|".join(SPLIT_WORDS[split])) for pattern in patterns)


def _fraction_of(name: str) -> float:
    """Return a number in [0, 1) from a hash of the name."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:6], "big") / 2**48
