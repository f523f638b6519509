"""What the readers of VOC, YOLO and Open Images share: label files from the disk, numbers as text, objects as flat arrays.

COCO's is another way: one file of JSON, see `coco`."""

from pathlib import Path

import numpy as np

from ssd_lib.annotations.table import Annotations, Boxes, Category, Images, Word
from ssd_lib.errors import InputError

MAX_BYTES = 1 << 26  # the labels of one image take 64 MiB at most
DECIMALS = 3  # a thousandth of a pixel; shares of an image are written with six decimals or so, so the rest is noise

# One object: the place of its image, its class, where it is, whether it is a crowd, where it stands in its label file.
ROW = np.dtype([("owner", np.int64), ("category_id", np.int64), ("xywh", np.float64, 4), ("is_crowd", np.bool_),
                ("place", np.int64)])


def read_labels(folder: Path, name: str) -> bytes:
    """The content of the label file of one image, which errors call by its name below the folder.

    Raises:
        InputError: it cannot be read, or is too large to be one.
    """
    try:
        with open(folder / name, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        why = getattr(error, "strerror", error)
        raise InputError(f"{name}: cannot be read: {why}. Mend it, or remove its image.") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: more than {MAX_BYTES >> 20} MiB; the labels of one image are smaller. Is it another file?")
    return data


def parse_number(text: str) -> float | None:
    """The number that a text says, NaN and infinity included; None where it is none.

    What Python takes for a number and no other tool does is none: underscores and foreign digits.
    """
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def rows_in_pixels(rows: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Objects in shares of their image, [0, 1], as objects in pixels, without those on images of unknown size.

    Guarantees: what was drawn on whole pixels comes back so, if it was written with enough decimals: pixels are rounded to
    thousandths. Without that, an object that ends at the edge would pass it by the noise of its last decimal.

    Args:
        rows: (T,) of `ROW`.
        sizes: (N, 2) of the images, (width, height); (0, 0) where unknown.
    """
    found = rows[(sizes[rows["owner"]] > 0).all(axis=1)]
    with np.errstate(over="ignore", invalid="ignore"):  # `checks` names what is not finite
        pixels = found["xywh"] * np.tile(sizes[found["owner"]], 2)
        found["xywh"] = np.round(pixels, DECIMALS) + 0.0  # -0.0 becomes 0.0
    return found


def known_sizes(found: list[tuple[int, int] | None]) -> np.ndarray:
    """(N, 2) int64 of `read_sizes`, (0, 0) where a size is not known."""
    return np.array([size or (0, 0) for size in found], dtype=np.int64).reshape(-1, 2)


def join_rows(images: Images, rows: np.ndarray, categories: tuple[Category, ...], word: Word, label_files: dict[str, str],
              info: dict[str, str] | None = None) -> Annotations:
    """Annotations of images and of (T,) `ROW` objects, which are numbered from 1 in their order."""
    boxes = Boxes(np.arange(1, len(rows) + 1), images.ids[rows["owner"]], rows["category_id"].copy(), rows["xywh"].copy(),
                  np.full(len(rows), np.nan), rows["is_crowd"].copy())
    return Annotations(images, boxes, categories, info or {}, rows["place"].copy(), word, label_files)
