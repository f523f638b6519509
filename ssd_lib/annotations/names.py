"""Match names that mean the same file but are written differently, where that is one to one."""

import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from urllib.parse import unquote

from ssd_lib.annotations.files import stem
from ssd_lib.annotations.splits import split_of

LOOKED_AT = 400  # names that are compared to find the nearest


def fold(name: str) -> str:
    """Return a name after percent decoding, Unicode NFC and case folding, with "/" for "\\"."""
    if not name.isascii() or "%" in name:
        name = unicodedata.normalize("NFC", unquote(name))
    return unicodedata.normalize("NFC", name.replace("\\", "/").casefold())


def folded_base(name: str) -> str:
    """Return the folded name without its folders."""
    return fold(name).rpartition("/")[2]


def folded_stem(name: str) -> str:
    """Return the folded name without its folders and suffix."""
    return stem(folded_base(name))


def match_names(wanted: Iterable[str], candidates: Iterable[str], *keys: Callable[[str], str],
                exact: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return wanted name -> candidate for names that agree in a key that no other name has; the first keys precede.

    Guarantees: each candidate is used once; names in folders of different splits never match.

    Args:
        wanted: names, such as of images.
        candidates: names that may match them, such as of label files.
        keys: what two names must have in common, such as `fold`.
        exact: pairs that are known already; they are not returned.
    """
    found = dict(exact or {})
    all_wanted, all_candidates = sorted(set(wanted)), sorted(set(candidates))
    used = set(found.values())
    if used.issuperset(all_candidates):
        return {}
    for key in keys:
        for by_split in (True, False):
            right = _by_key(all_candidates, key, by_split)
            for word, names in _by_key(all_wanted, key, by_split).items():
                others = right.get(word, [])
                if len(names) == len(others) == 1 and names[0] not in found and others[0] not in used and (
                        by_split or "" in (_split(names[0]), _split(others[0]))):
                    found[names[0]] = others[0]
                    used.add(others[0])
    return {name: other for name, other in found.items() if name not in (exact or {})}


def nearest(name: str, candidates: Sequence[str]) -> str:
    """Return the candidate whose stem is most alike; "" if none is. `candidates` are sorted."""
    if len(candidates) > LOOKED_AT:
        at = bisect(candidates, name)
        candidates = candidates[max(0, at - LOOKED_AT // 2):at + LOOKED_AT // 2]
    by_stem = {folded_stem(other): other for other in candidates}
    found = get_close_matches(folded_stem(name), by_stem, n=1, cutoff=0.6)
    return by_stem[found[0]] if found else ""


def _by_key(names: Iterable[str], key: Callable[[str], str], by_split: bool) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        found.setdefault((_split(name) if by_split else "", key(name)), []).append(name)
    return found


def _split(name: str) -> str:
    return _split_of_folder(name.rpartition("/")[0])


_split_of_folder = lru_cache(split_of)
