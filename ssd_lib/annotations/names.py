"""Match names that mean the same file but are written differently, where that is one to one."""

import re
import unicodedata
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from urllib.parse import unquote

from ssd_lib.annotations.files import is_image, stem
from ssd_lib.annotations.splits import split_of

ADDED = re.compile(r"(?<![^/])[0-9a-f]{8}-|_[a-z]+\.rf\.[0-9a-f]{32}")  # 1f2e3d4c-a.jpg, a_jpg.rf.HASH.jpg
LOOKED_AT = 400  # names that are compared to find the nearest


def fold(name: str) -> str:
    """Return a name after percent decoding, Unicode NFC and case folding, with "/" for "\\" and a space for "+"."""
    if name.isascii() and "%" not in name:
        return name.replace("\\", "/").replace("+", " ").casefold()
    name = unquote(unquote(name)).replace("\\", "/").replace("+", " ")  # some tools encode twice
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folded_base(name: str) -> str:
    """Return the folded name without its folders."""
    return fold(name).rpartition("/")[2]


def folded_stem(name: str) -> str:
    """Return the folded name without its folders and suffixes: "a" for labels/a.jpg.txt, too."""
    found = stem(folded_base(name))
    return stem(found) if is_image(found) else found


def without_added(name: str) -> str:
    """Return a folded name without what Label Studio writes before it, and Roboflow after it, to make it unique."""
    return ADDED.sub("", name)


def match_names(wanted: Iterable[str], candidates: Iterable[str], *keys: Callable[[str], str],
                exact: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return wanted name -> candidate for names that agree in a key that no other name has; the first keys precede.

    Guarantees: each candidate is used once; names in folders of different splits never match. At last the names match of which
    one alone has what a tool added to it.

    Args:
        wanted: names, such as of images.
        candidates: names that may match them, such as of label files.
        keys: what two names must have in common, such as `fold`.
        exact: pairs that are known already; they are not returned.
    """
    found = dict(exact or {})
    all_wanted, all_candidates, used = set(wanted), set(candidates), set(found.values())
    last = keys[-1]
    pairs_of_keys = [*((key, key) for key in keys), (lambda name: without_added(last(name)), last),
                     (last, lambda name: without_added(last(name)))]
    for key, key_of_candidate in pairs_of_keys:
        if found.keys() >= all_wanted or used >= all_candidates:
            break
        others = group_by(all_candidates, key_of_candidate)
        for word, rivals in group_by(all_wanted, key).items():
            for name in rivals if word in others else ():
                matching = [other for other in others[word] if _same_split(name, other)]
                if name not in found and len(matching) == 1 and matching[0] not in used and [
                        rival for rival in rivals if _same_split(rival, matching[0])] == [name]:
                    found[name] = matching[0]
                    used.add(matching[0])
    return {name: other for name, other in found.items() if name not in (exact or {})}


def group_by(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    """Return key -> the names that have it, in their order."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return found


def nearest(name: str, candidates: Sequence[str]) -> str:
    """Return the candidate whose stem is most alike; "" if none is. `candidates` are sorted."""
    if len(candidates) > LOOKED_AT:
        at = bisect(candidates, name)
        candidates = candidates[max(0, at - LOOKED_AT // 2):at + LOOKED_AT // 2]
    by_stem = {folded_stem(other): other for other in candidates}
    found = get_close_matches(folded_stem(name), by_stem, n=1, cutoff=0.6)
    return by_stem[found[0]] if found else ""


def _same_split(name: str, other: str) -> bool:
    """Return whether two names may belong to one split: a name in no folder of a split fits all."""
    return _split(name) == _split(other) or "" in (_split(name), _split(other))


def _split(name: str) -> str:
    return _split_of_folder(name.rpartition("/")[0])


_split_of_folder = lru_cache(split_of)
