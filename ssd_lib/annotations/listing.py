"""The files of a dataset as splits, and what is done with such listings: they are moved, joined and counted."""

from collections.abc import Iterable
from typing import NamedTuple

from ssd_lib.annotations.files import SHOWN, below, is_image, join
from ssd_lib.manifest import FileCount, Part


class DatasetListing(NamedTuple):
    """The files of a dataset, or of several.

    Attributes:
        splits: the parts of "train" and "val".
        others: files that belong to no part: lists of class names, and images whose names only an annotation file tells.
        counts: files that are not used, or were matched by a name that is written differently.
    """

    splits: dict[str, tuple[Part, ...]]
    others: frozenset[str] = frozenset()
    counts: tuple[FileCount, ...] = ()


def move_listing(listing: DatasetListing, folder: str) -> DatasetListing:
    """Return the listing with names relative to a folder further up, in which it lies in `folder`."""
    if not folder:
        return listing
    splits = {split: tuple(_move_part(part, folder) for part in parts) for split, parts in listing.splits.items()}
    counts = tuple(count.model_copy(update={"first": tuple(join(folder, name.replace(" = ", f" = {folder}/"))
                                                           for name in count.first)})
                   for count in listing.counts)
    return DatasetListing(splits, frozenset(join(folder, name) for name in listing.others), counts)


def join_listings(listings: Iterable[DatasetListing]) -> DatasetListing:
    """Join datasets to one; the parts of each split stay in order."""
    listings = list(listings)
    splits = {split: tuple(part for listing in listings for part in listing.splits[split]) for split in ("train", "val")}
    return DatasetListing(splits, frozenset().union(*(listing.others for listing in listings)),
                          add_counts(count for listing in listings for count in listing.counts))


def add_counts(counts: Iterable[FileCount]) -> tuple[FileCount, ...]:
    """Add up the counts of the same kind, and keep the first names."""
    found: dict[str, FileCount] = {}
    for count in counts:
        old = found.get(count.kind, FileCount(kind=count.kind, count=0))
        found[count.kind] = FileCount(kind=count.kind, count=old.count + count.count, of=old.of + count.of,
                                      first=(*old.first, *count.first)[:SHOWN])
    return tuple(found.values())


def files_of(listing: DatasetListing, names: Iterable[str]) -> set[str]:
    """Return those of `names` that belong to the dataset: its label files, and every image in its folders, used or not."""
    images = {name for name in names if is_image(name)}
    parts = [part for parts in listing.splits.values() for part in parts]
    used = set(listing.others)
    for part in parts:
        used |= {part.annotations, *part.pairs, *part.pairs.values(), *part.names.values(), *part.more_annotations}
        used |= set() if part.pairs else below(part.images, images)
    folders = {name.rpartition("/")[0] for part in parts for name in part.pairs}
    used |= {name for name in images if name.rpartition("/")[0] in folders}
    return used.intersection(names)


def _move_part(part: Part, folder: str) -> Part:
    if part.pairs:
        pairs = {join(folder, image): text and join(folder, text) for image, text in part.pairs.items()}
        return part.model_copy(update={"pairs": pairs})
    return part.model_copy(update={
        "images": join(folder, part.images), "annotations": join(folder, part.annotations),
        "names": {file: join(folder, name) for file, name in part.names.items()},
        "more_annotations": tuple(join(folder, name) for name in part.more_annotations)})
