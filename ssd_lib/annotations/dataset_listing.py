"""What a finder gives: the parts of each split, and which files they are made of."""

from collections.abc import Iterable
from typing import NamedTuple

from ssd_lib.annotations.file_listing import below, is_image, join
from ssd_lib.manifest import Part


class DatasetListing(NamedTuple):
    """A data set, or several.

    Attributes:
        splits: "train" and "val".
        others: files that were read and stand in no part (names of classes), and images that only a list tells to be some.
    """

    splits: dict[str, tuple[Part, ...]]
    others: frozenset[str] = frozenset()


def moved(found: DatasetListing, folder: str) -> DatasetListing:
    """The same with names as seen from further up, where it lies in `folder`."""
    if not folder:
        return found
    return DatasetListing({split: tuple(_moved(part, folder) for part in parts) for split, parts in found.splits.items()},
                 frozenset(join(folder, name) for name in found.others))


def joined(several: Iterable[DatasetListing]) -> DatasetListing:
    """All of them as one; the parts of each split in their order."""
    several = list(several)
    return DatasetListing({split: tuple(part for found in several for part in found.splits[split]) for split in ("train", "val")},
                 frozenset().union(*(found.others for found in several)))


def files_of(found: DatasetListing, names: Iterable[str]) -> set[str]:
    """Those of `names` that the data set is made of: its texts, and every image in its folders, used or not."""
    images = {name for name in names if is_image(name)}
    parts = [part for parts in found.splits.values() for part in parts]
    used = set(found.others)
    for part in parts:
        used |= {part.annotations, *part.pairs, *part.pairs.values()}
        used |= set() if part.pairs else below(part.images, images)
    folders = {name.rpartition("/")[0] for part in parts for name in part.pairs}
    used |= {name for name in images if name.rpartition("/")[0] in folders}
    return used.intersection(names)


def _moved(part: Part, folder: str) -> Part:
    if part.pairs:
        pairs = {join(folder, image): text and join(folder, text) for image, text in part.pairs.items()}
        return part.model_copy(update={"pairs": pairs})
    return part.model_copy(update={"images": join(folder, part.images), "annotations": join(folder, part.annotations)})
