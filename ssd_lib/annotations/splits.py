"""What splits are called, and a split for data sets that have none."""

import hashlib
import re
from collections.abc import Collection, Iterable

from ssd_lib.errors import InputError

SPLIT_WORDS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


def is_val(name: str, fraction: float) -> bool:
    """Does the image called `name` belong to val? A function of the name, so that new images never move old ones."""
    return _draw(name) < fraction


def split_names(names: Collection[str], fraction: float) -> tuple[list[str], list[str]]:
    """Names for train, and for val about a share `fraction` of them; sorted.

    Guarantees: where a name goes depends on it alone (`is_val`), but that of two names or more each side gets at least one.
    """
    ordered = sorted(names, key=_draw)
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
    """The split that a folder, or one that it lies in, is called after, such as "val" of "valid/night"; "" for none."""
    for part in folder.split("/"):
        for split, words in SPLIT_WORDS.items():
            if re.fullmatch(rf"({'|'.join(words)})\d*", part, re.I):
                return split
    return ""


def matching(names: Iterable[str], split: str, places: Iterable[str]) -> list[str]:
    """Names that fit one of the places, each once, in the order of the places and then sorted.

    Args:
        names: of files, or of folders.
        split: whose words `{split}` in a place stands for; the word is on its own: "train2017" is train, "trainval" is not.
        places: such as "annotations/instances_{split}*.json"; `*` stands for anything within one part of a name.
    """
    ordered, found = sorted(names), dict[str, None]()
    word = f"(?:{'|'.join(SPLIT_WORDS[split])})(?![a-z])"
    for place in places:
        pattern = re.compile(re.escape(place).replace(r"\{split\}", word).replace(r"\*", "[^/]*"), re.I)
        found |= {name: None for name in ordered if pattern.fullmatch(name)}
    return list(found)


def spelled(split: str, places: Iterable[str]) -> str:
    """The places with the words of the split, for people."""
    return ", ".join(place.replace("{split}", "|".join(SPLIT_WORDS[split])) for place in places)


def _draw(name: str) -> float:
    """A number in [0, 1) that looks random and is always the same for the same name."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:6]) / 2**48
