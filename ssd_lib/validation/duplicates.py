"""Images that are there more than once, by the hashes of the manifest: no file is read. What is merely alike is not found."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations
from ssd_lib.manifest import Manifest


class Copy(NamedTuple):
    """An image, and the one before it with the same bytes."""

    split: str
    name: str
    first_split: str
    first_name: str


def find_copies(manifest: Manifest, splits: Mapping[str, Annotations]) -> list[Copy]:
    """Every image whose bytes came before: in its own split; and, of one in val, in train.

    Empty files and those that the manifest does not know are left out: they have faults of their own.

    Args:
        manifest: has the hashes.
        splits: annotations by the name of their split.
    """
    firsts = {split: _first_of_each(manifest, annotations) for split, annotations in splits.items()}
    found = []
    for split, annotations in splits.items():
        for name, digest in _hashed(manifest, annotations):
            if split == "val" and digest in firsts.get("train", {}):
                found.append(Copy(split, name, "train", firsts["train"][digest]))
            if firsts[split][digest] != name:
                found.append(Copy(split, name, split, firsts[split][digest]))
    return found


def check_copies(manifest: Manifest, splits: Mapping[str, Annotations]) -> Iterator[Fault]:
    """A fault for each of `find_copies`: `leak` from train into val, `same_content` within a split."""
    for copy in find_copies(manifest, splits):
        kind = "duplicate_content" if copy.split == copy.first_split else "train_val_leak"
        where = "" if copy.split == copy.first_split else f" of {copy.first_split}"
        what = f"also an image{where}" if copy.name == copy.first_name else f"the same bytes as '{copy.first_name}'{where}"
        yield Fault(kind, (copy.split, copy.name), f"{copy.split}: '{copy.name}' is {what}", copy.name)


def _hashed(manifest: Manifest, annotations: Annotations) -> Iterator[tuple[str, str]]:
    """Name and hash of each image, once."""
    for name in dict.fromkeys(annotations.images.file_names):
        size, digest = manifest.files.get(name, (0, ""))
        if size:
            yield name, digest


def _first_of_each(manifest: Manifest, annotations: Annotations) -> dict[str, str]:
    """The first image of each hash."""
    firsts: dict[str, str] = {}
    for name, digest in _hashed(manifest, annotations):
        firsts.setdefault(digest, name)
    return firsts
