"""The kinds of faults that `validate` reports, in one table: which of them count as bad, and what `fix_annotations` does.

`ssd_lib.validation.annotations` and `ssd_lib.validation.images` find them.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

MAX_TEXTS = 20  # faults of a kind that are written out; the rest are counted


class Kind(NamedTuple):
    """One row of the table.

    Attributes:
        of: what has the fault.
        is_bad: it counts against `data.max_bad_fraction`; otherwise it is a warning.
        leaves_out: the image cannot be trained on, so `fix_annotations` removes it.
        cure: what `fix_annotations` does.
    """

    name: str
    of: Literal["images", "boxes", "categories", "files"]
    is_bad: bool
    leaves_out: bool
    cure: str


KINDS = {kind.name: kind for kind in (
    Kind("missing", "images", True, True, "leaves the image and its boxes out"),
    Kind("empty", "images", True, True, "leaves the image and its boxes out"),
    Kind("truncated", "images", True, True, "leaves the image and its boxes out"),
    Kind("not_an_image", "images", True, True, "leaves the image and its boxes out"),
    Kind("too_large", "images", True, True, "leaves the image and its boxes out"),
    Kind("size_differs", "images", True, True, "leaves the image and its boxes out: their position is unknown"),
    Kind("broken_labels", "images", True, True, "leaves the image out: its objects are unknown"),
    Kind("changed", "images", True, False, "keeps the image as it is now"),
    Kind("changed_labels", "images", False, False, "reads the labels as they are now"),
    Kind("duplicate_image_id", "images", True, False, "keeps the first image; it gets the boxes of both"),
    Kind("duplicate_file_name", "images", True, False, "keeps the first entry; it gets the boxes of both"),
    Kind("wrong_format", "images", False, False, "nothing; the image is read by its content"),
    Kind("low_contrast", "images", False, False, "nothing; training sees nearly uniform pixels"),
    Kind("exif_rotated", "images", False, False, "nothing; the image is read upright, as viewers show it"),
    Kind("labels_as_stored", "images", False, False, "turns its boxes, as the image is read upright"),
    Kind("mixed_orientations", "files", False, False, "nothing; each image is read as its labels say, or else upright"),
    Kind("orphan", "images", False, False, "nothing; the image is not used"),
    Kind("duplicate_content", "images", False, False, "nothing; each copy is trained on"),
    Kind("train_val_leak", "images", False, False, "nothing; it makes AP too high: remove it from one split"),
    Kind("unknown_image", "boxes", True, False, "removes the box"),
    Kind("unknown_category", "boxes", True, False, "removes the box"),
    Kind("duplicate_box_id", "boxes", True, False, "keeps the first box"),
    Kind("no_box", "boxes", True, False, "removes the annotation"),
    Kind("non_finite", "boxes", True, False, "removes the box"),
    Kind("inverted", "boxes", True, False, "removes the box"),
    Kind("zero_size", "boxes", True, False, "removes the box"),
    Kind("outside", "boxes", True, False, "removes the box"),
    Kind("duplicate_box", "boxes", False, False, "keeps one of the equal boxes"),
    Kind("partly_outside", "boxes", False, False, "clips the box to the image"),
    Kind("implausible_boxes", "files", True, False, "nothing; validate stops"),
    Kind("inexact_numbers", "files", False, False, "reads them as the numbers that they stand for"),
    Kind("odd_crowd", "files", False, False, "treats them as crowds, which train as neither object nor background"),
    Kind("renumbered_boxes", "files", False, False, "keeps all boxes; their ids are new"),
    Kind("sizes_of_images", "files", False, False, "takes the sizes of the image files"),
    Kind("duplicate_category_id", "categories", False, False, "keeps the first category"),
    Kind("duplicate_category_name", "categories", False, False, "makes one class of them"),
    Kind("empty_category_name", "categories", False, False, "removes the category and its boxes"),
    Kind("similar_category_names", "categories", False, False, "keeps both; is one a misspelling of the other?"),
    Kind("untrained_category", "categories", False, False, "keeps it; it is never detected, which lowers AP"),
)}


class Fault(NamedTuple):
    """One fault.

    Attributes:
        kind: a name of `KINDS`.
        subject: split, and name or id, of what has the fault; it is counted once however many faults it has.
        text: the message.
        image: the image to look at, by its name in the manifest; "" for none.
        xywh: the box on it, in pixels as annotated.
        orientation: the EXIF orientation by which the boxes of the image must be turned; 1 if they need not be.
    """

    kind: str
    subject: tuple[str, int | str]
    text: str
    image: str = ""
    xywh: tuple[float, float, float, float] | None = None
    orientation: int = 1


def count_bad(faults: Iterable[Fault], of: str) -> int:
    """Return the number of images, or of boxes, that have a bad fault."""
    return len({fault.subject for fault in faults if KINDS[fault.kind].of == of and KINDS[fault.kind].is_bad})


def summarise(faults: Iterable[Fault]) -> list[dict[str, Any]]:
    """Return for each kind that was found, in the order of the table: the count, the first texts, what will be done."""
    texts: dict[str, list[str]] = {name: [] for name in KINDS}
    for fault in faults:
        texts[fault.kind].append(fault.text)
    return [{"kind": name, "count": len(found), "bad": KINDS[name].is_bad,
             "fix_annotations": KINDS[name].cure, "first": found[:MAX_TEXTS]} for name, found in texts.items() if found]
