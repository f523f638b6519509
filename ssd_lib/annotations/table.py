"""Annotations in their one form in memory: flat arrays, whatever format they were read from (118k images with 860k boxes take
60 MB so, and 3 GB as Python objects). Whether the values make sense is for `checks` to say, and for `repair` to mend."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from ssd_lib.annotations.faults import Fault

Word = Literal["annotation", "object", "line"]
LARGEST_TABLE = 1 << 22  # ids below this are looked up, ten times as fast as they are searched


class Image(NamedTuple):
    """One picture; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class Box(NamedTuple):
    """One object: x and y of the top left corner, pixels. A crowd is a group, ignored in training and evaluation."""

    id: int
    image_id: int
    category_id: int
    x: float
    y: float
    width: float
    height: float
    area: float
    is_crowd: bool


class Category(NamedTuple):
    """One class; `source_id` is its id in the data set as it came."""

    id: int
    name: str
    source_id: int


@dataclass(frozen=True, eq=False)
class Images:
    """N pictures.

    Attributes:
        ids: (N,) int64.
        file_names: N names; after reading, those of the manifest.
        sizes: (N, 2) int64, (width, height) in pixels.
    """

    ids: np.ndarray
    file_names: tuple[str, ...]
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray | slice) -> "Images":
        """Those of the given places, in that order."""
        names = self.file_names[rows] if isinstance(rows, slice) else tuple(self.file_names[row] for row in rows.tolist())
        return Images(self.ids[rows], names, self.sizes[rows])


@dataclass(frozen=True, eq=False)
class Boxes:
    """T objects.

    Attributes:
        ids: (T,) int64.
        image_ids: (T,) int64.
        category_ids: (T,) int64.
        xywh: (T, 4) float64, pixels; x and y of the top left corner.
        areas: (T,) float64, square pixels; NaN where none is given.
        is_crowd: (T,) bool; a crowd is a group, ignored in training and evaluation.
    """

    ids: np.ndarray
    image_ids: np.ndarray
    category_ids: np.ndarray
    xywh: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray | slice) -> "Boxes":
        """Those of the given places (or of a mask), in that order."""
        return Boxes(self.ids[rows], self.image_ids[rows], self.category_ids[rows], self.xywh[rows], self.areas[rows],
                     self.is_crowd[rows])


@dataclass(frozen=True, eq=False)
class Annotations:
    """The content of one annotation file, or of a folder of small ones, in its order.

    Attributes:
        images: the pictures.
        boxes: the objects.
        categories: the classes.
        info: what else the file says of itself.
        places: where each object stands, for people: (T,) int64; None where its id says so (COCO). See `word`.
        word: what `places` counts: the objects of an image's XML file, or the lines of a text file, from 1.
        label_files: by name of the image: the text that its objects stand in; for those of COCO none.
        strays: what the labels call the class of a box whose category id is -1, by its row, where they have names.
    """

    images: Images
    boxes: Boxes
    categories: tuple[Category, ...]
    info: dict[str, str]
    places: np.ndarray | None = None
    word: Word = "annotation"
    label_files: Mapping[str, str] = field(default_factory=dict)
    strays: Mapping[int, str] = field(default_factory=dict)

    def owners(self) -> np.ndarray:
        """(T,) the place in `images` of the image that each box is of: the first with its id; -1 where there is none."""
        return translate(self.boxes.image_ids, self.images.ids, np.arange(len(self.images)))

    def name_box(self, row: int, owner: int) -> str:
        """How people find a box, such as "annotation 812 of 'train/3.jpg'" or "'labels/3.txt': line 2".

        Args:
            row: its place.
            owner: its row of `owners`.
        """
        image = self.images.file_names[owner] if owner >= 0 else None
        if self.places is None:
            of = f"image {self.boxes.image_ids[row]}" if image is None else f"'{image}'"
            return f"annotation {self.boxes.ids[row]} of {of}"
        return f"'{self.label_files.get(image or '', '')}': {self.word} {self.places[row]}"


class ParsedPart(NamedTuple):
    """What reading a part of a split gave: its annotations, and the faults of files that could not be read at all.

    The images of such files are among the annotations, without boxes.

    Attributes:
        unasked: names of the images that are left out because all their objects are of classes that are not to be learned.
    """

    annotations: Annotations
    faults: tuple[Fault, ...] = ()
    unasked: frozenset[str] = frozenset()


def from_rows(images: Iterable[Image], boxes: Iterable[Box], categories: Iterable[Category],
              info: dict[str, str] | None = None) -> Annotations:
    """Annotations from rows; a number must fit into 64 bits."""
    pictures, objects = tuple(images), tuple(boxes)
    return Annotations(
        Images(_whole(image.id for image in pictures), tuple(image.file_name for image in pictures),
               np.array([image[2:] for image in pictures], dtype=np.int64).reshape(-1, 2)),
        Boxes(_whole(box.id for box in objects), _whole(box.image_id for box in objects),
              _whole(box.category_id for box in objects),
              np.array([box[3:7] for box in objects], dtype=np.float64).reshape(-1, 4),
              np.array([box.area for box in objects], dtype=np.float64),
              np.array([box.is_crowd for box in objects], dtype=bool)),
        tuple(categories), info or {})


def box_rows(boxes: Boxes) -> list[Box]:
    """The objects one by one."""
    columns = (boxes.ids, boxes.image_ids, boxes.category_ids, *boxes.xywh.T, boxes.areas, boxes.is_crowd)
    return [Box(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def clean_name(name: str) -> str:
    """A class name that fits on a line of labels.txt: no spaces at the ends, single ones within."""
    return " ".join(name.split())


def merge(parts: Sequence[Annotations], categories: Sequence[Category]) -> Annotations:
    """Several annotations as one; images and boxes are numbered anew from 1 in their order, classes are one by name.

    Args:
        parts: to be joined.
        categories: the classes of the result; a box whose class is not among them gets the category id -1.
    """
    id_of = {clean_name(category.name): category.id for category in categories}
    images, boxes, first_image, first_box = [], [], 1, 1
    for part in parts:
        new_ids = np.arange(first_image, first_image + len(part.images))
        images.append(replace(part.images, ids=new_ids))
        boxes.append(replace(
            part.boxes, ids=np.arange(first_box, first_box + len(part.boxes)),
            image_ids=translate(part.boxes.image_ids, part.images.ids, new_ids),
            category_ids=translate(part.boxes.category_ids, _whole(category.id for category in part.categories),
                                   _whole(id_of.get(clean_name(category.name), -1) for category in part.categories))))
        first_image, first_box = first_image + len(part.images), first_box + len(part.boxes)
    return Annotations(_join_images(images), _join_boxes(boxes), tuple(categories), {})


def translate(numbers: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Each of `numbers` as it stands in `new` at the first place where it stands in `old`; -1 where it does not."""
    if not len(old):
        return np.full(len(numbers), -1, dtype=np.int64)
    if old.min() >= 0 and old.max() < LARGEST_TABLE:
        table = np.full(int(old.max()) + 1, -1, dtype=np.int64)
        table[old[::-1]] = new[::-1]  # of two that write to one place the last one stays
        known = (numbers >= 0) & (numbers < len(table))
        return np.where(known, table[np.where(known, numbers, 0)], -1)
    order = np.argsort(old, kind="stable")
    at = order[np.searchsorted(old, numbers, sorter=order).clip(max=len(old) - 1)]
    return np.where(old[at] == numbers, new[at], -1)


def _join_images(parts: Sequence[Images]) -> Images:
    return Images(np.concatenate([part.ids for part in parts]), tuple(name for part in parts for name in part.file_names),
                  np.concatenate([part.sizes for part in parts]))


def _join_boxes(parts: Sequence[Boxes]) -> Boxes:
    return Boxes(*(np.concatenate([getattr(part, name) for part in parts])
                   for name in ("ids", "image_ids", "category_ids", "xywh", "areas", "is_crowd")))


def _whole(numbers: Iterable[int]) -> np.ndarray:
    return np.fromiter(numbers, dtype=np.int64)
