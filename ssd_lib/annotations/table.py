"""Annotations in memory: flat arrays, the same for every format.

118k images with 860k boxes take 60 MB; as Python objects they would take 3 GB. Values are stored as they were read.
`ssd_lib.validation.annotations` checks them, `repair` corrects them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np

from ssd_lib.annotations.faults import Fault

LineKind = Literal["annotation", "object", "line"]
LARGEST_TABLE = 1 << 22  # `translate` indexes a table for ids below this, which is ten times as fast as a search
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, with evenly mixed bits
DECIMALS = 3  # thousandths of a pixel; relative coordinates are written with about six decimals, so the rest is noise

# One object of a label file: the index of its image, its class, its box, and its line or number in the label file.
LABEL_ROW = np.dtype([("image", np.int64), ("category_id", np.int64), ("xywh", np.float64, 4), ("is_crowd", np.bool_),
                      ("source_line", np.int64)])


class Image(NamedTuple):
    """One image; sizes in pixels."""

    id: int
    file_name: str
    width: int
    height: int


class Box(NamedTuple):
    """One object: x and y of the top left corner, in pixels. A crowd is a group; training and evaluation ignore it."""

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
    """One class; `source_id` is its id in the original dataset."""

    id: int
    name: str
    source_id: int


@dataclass(frozen=True, eq=False)
class Images:
    """N images.

    Attributes:
        ids: (N,) int64.
        file_names: N names; the readers give those of the manifest.
        sizes: (N, 2) int64, (width, height) in pixels.
    """

    ids: np.ndarray
    file_names: tuple[str, ...]
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray | slice) -> "Images":
        """Return the images at the given indices, in that order."""
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
        areas: (T,) float64, square pixels; NaN where the file gives none.
        is_crowd: (T,) bool; a crowd is a group, which training and evaluation ignore.
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
        """Return the boxes at the given indices, in that order, or those of a mask."""
        return Boxes(self.ids[rows], self.image_ids[rows], self.category_ids[rows], self.xywh[rows], self.areas[rows],
                     self.is_crowd[rows])


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of one file, or of one folder of label files, in the order of the file.

    Attributes:
        images, boxes, categories: the content.
        info: the texts under "info" of a COCO file, and what the reader found out.
        source_lines: (T,) int64, where each object is in its label file; None where the id of the box identifies it (COCO).
        line_kind: what `source_lines` counts, from 1: objects of an XML file, or lines of a text file.
        label_files: name of the image -> name of its label file; empty for COCO.
        unknown_classes: index of a box -> the class name in its label file, for boxes of an unknown class (category id -1).
    """

    images: Images
    boxes: Boxes
    categories: tuple[Category, ...]
    info: dict[str, str]
    source_lines: np.ndarray | None = None
    line_kind: LineKind = "annotation"
    label_files: Mapping[str, str] = field(default_factory=dict)
    unknown_classes: Mapping[int, str] = field(default_factory=dict)

    def image_indices(self) -> np.ndarray:
        """Return (T,) int64, the index in `images` of the image of each box: the first with its id, -1 without one."""
        return translate(self.boxes.image_ids, self.images.ids, np.arange(len(self.images)))

    def name_box(self, index: int, image_index: int) -> str:
        """Return where to find a box in the label files: "annotation 812 of 'train/3.jpg'" or "'labels/3.txt': line 2".

        Args:
            index: of the box.
            image_index: of its image; see `image_indices`.
        """
        image = self.images.file_names[image_index] if image_index >= 0 else None
        if self.source_lines is None:
            of = f"image {self.boxes.image_ids[index]}" if image is None else f"'{image}'"
            return f"annotation {self.boxes.ids[index]} of {of}"
        return f"'{self.label_files.get(image or '', '')}': {self.line_kind} {self.source_lines[index]}"


class ParsedPart(NamedTuple):
    """Result of reading one part of a split.

    Attributes:
        annotations: of all images of the part; an image whose label file cannot be read has no boxes.
        faults: one for each label file that cannot be read.
        skipped_images: names of images that were removed because all their objects are of classes not in `data.classes`.
    """

    annotations: Annotations
    faults: tuple[Fault, ...] = ()
    skipped_images: frozenset[str] = frozenset()


def from_rows(images: Iterable[Image], boxes: Iterable[Box], categories: Iterable[Category],
              info: dict[str, str] | None = None) -> Annotations:
    """Build annotations from single records; ids must fit into 64 bits."""
    images, objects = tuple(images), tuple(boxes)
    return Annotations(
        Images(_int64(image.id for image in images), tuple(image.file_name for image in images),
               np.array([image[2:] for image in images], dtype=np.int64).reshape(-1, 2)),
        Boxes(_int64(box.id for box in objects), _int64(box.image_id for box in objects),
              _int64(box.category_id for box in objects),
              np.array([box[3:7] for box in objects], dtype=np.float64).reshape(-1, 4),
              np.array([box.area for box in objects], dtype=np.float64),
              np.array([box.is_crowd for box in objects], dtype=bool)),
        tuple(categories), info or {})


def box_rows(boxes: Boxes) -> list[Box]:
    """Return the boxes as single records."""
    columns = (boxes.ids, boxes.image_ids, boxes.category_ids, *boxes.xywh.T, boxes.areas, boxes.is_crowd)
    return [Box(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def clean_name(name: str) -> str:
    """Return a class name for one line of labels.txt: white space stripped at both ends, single spaces within."""
    return " ".join(name.split())


def merge(parts: Sequence[Annotations], categories: Sequence[Category]) -> Annotations:
    """Join several annotations; images and boxes are renumbered from 1 in their order, classes are matched by name.

    Args:
        parts: the annotations to join.
        categories: the classes of the result; a box of any other class gets the category id -1.
    """
    id_of = {clean_name(category.name): category.id for category in categories}
    images, boxes, first_image, first_box = [], [], 1, 1
    for part in parts:
        new_ids = np.arange(first_image, first_image + len(part.images))
        images.append(replace(part.images, ids=new_ids))
        boxes.append(replace(
            part.boxes, ids=np.arange(first_box, first_box + len(part.boxes)),
            image_ids=translate(part.boxes.image_ids, part.images.ids, new_ids),
            category_ids=translate(part.boxes.category_ids, _int64(category.id for category in part.categories),
                                   _int64(id_of.get(clean_name(category.name), -1) for category in part.categories))))
        first_image, first_box = first_image + len(part.images), first_box + len(part.boxes)
    return Annotations(_join_images(images), _join_boxes(boxes), tuple(categories), {})


def translate(numbers: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Replace each of `numbers` by new[i], where i is its first index in `old`; by -1 where `old` does not have it."""
    if not len(old):
        return np.full(len(numbers), -1, dtype=np.int64)
    if old.min() >= 0 and old.max() < LARGEST_TABLE:
        table = np.full(int(old.max()) + 1, -1, dtype=np.int64)
        table[old[::-1]] = new[::-1]  # reversed, because of two values for one index the last is kept
        known = (numbers >= 0) & (numbers < len(table))
        return np.where(known, table[np.where(known, numbers, 0)], -1)
    order = np.argsort(old, kind="stable")
    at = order[np.searchsorted(old, numbers, sorter=order).clip(max=len(old) - 1)]
    return np.where(old[at] == numbers, new[at], -1)


def repeated_rows(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return (T,) bool: which rows of (T,) columns of numbers equal an earlier row bit for bit."""
    bits = [column.astype(np.float64 if column.dtype.kind == "f" else np.int64).view(np.uint64) for column in columns]
    keys = np.zeros(len(bits[0]), dtype=np.uint64)
    for column in bits:
        keys = (keys ^ column) * HASH_FACTOR
        keys ^= keys >> np.uint64(29)
    order = np.argsort(keys, kind="stable")
    is_equal = np.logical_and.reduce([column[order[1:]] == column[order[:-1]] for column in bits])
    repeated = np.zeros(len(keys), dtype=bool)
    repeated[order[1:][is_equal]] = True
    return repeated


def rows_in_pixels(rows: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Convert relative boxes to pixels; objects on images of unknown size are left out.

    Guarantees: a box drawn on whole pixels comes back exactly if it was written with enough decimals, because pixels are
    rounded to thousandths. Otherwise a box that ends at the edge would exceed it by the rounding error of its last decimal.

    Args:
        rows: (T,) LABEL_ROW, boxes as fractions of the image, [0, 1].
        sizes: (N, 2) of the images, (width, height) in pixels; (0, 0) where unknown.
    """
    found = rows[(sizes[rows["image"]] > 0).all(axis=1)]
    with np.errstate(over="ignore", invalid="ignore"):  # validation reports values that are not finite
        pixels = found["xywh"] * np.tile(sizes[found["image"]], 2)
        found["xywh"] = np.round(pixels, DECIMALS) + 0.0  # -0.0 becomes 0.0
    return found


def annotations_from_rows(images: Images, rows: np.ndarray, categories: tuple[Category, ...], line_kind: LineKind,
                          label_files: Mapping[str, str], info: dict[str, str] | None = None) -> Annotations:
    """Build annotations from images and (T,) LABEL_ROW; boxes are numbered from 1 in their order."""
    boxes = Boxes(np.arange(1, len(rows) + 1), images.ids[rows["image"]], rows["category_id"].copy(), rows["xywh"].copy(),
                  np.full(len(rows), np.nan), rows["is_crowd"].copy())
    return Annotations(images, boxes, categories, info or {}, rows["source_line"].copy(), line_kind, label_files)


def _join_images(parts: Sequence[Images]) -> Images:
    return Images(np.concatenate([part.ids for part in parts]), tuple(name for part in parts for name in part.file_names),
                  np.concatenate([part.sizes for part in parts]))


def _join_boxes(parts: Sequence[Boxes]) -> Boxes:
    return Boxes(*(np.concatenate([getattr(part, name) for part in parts])
                   for name in ("ids", "image_ids", "category_ids", "xywh", "areas", "is_crowd")))


def _int64(numbers: Iterable[int]) -> np.ndarray:
    return np.fromiter(numbers, dtype=np.int64)
