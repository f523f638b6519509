"""Images made small, with their boxes. Boxes are not painted into the pixels: the page draws them, sharp at any size."""

import io
import math
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow

from ssd_lib.annotations.table import Annotations, box_rows
from ssd_lib.images import DECODER_ERRORS, decode_image
from ssd_lib.validation.images import read_file
from ssd_lib.validation.report.elements import Mark, Picture

SIDE_PX = 240  # longest side of a thumbnail
QUALITY = 80
MOST_MARKS = 60  # boxes drawn on a picture, the largest first
PAD = 0.5  # a box that leaves the image is followed this far, as a share of the image's side
AIR = 0.05  # around such a box, as a share of the longer side
FARTHEST = 1e9  # pixels; what lies beyond has no place on any picture

Place = tuple[str, str]  # split and name of an image


def find_marks(splits: Mapping[str, Annotations], places: Iterable[Place]) -> dict[Place, tuple[Mark, ...]]:
    """The boxes of some images, the largest first; a box with numbers that cannot be drawn is left out."""
    marks: dict[Place, list[Mark]] = {place: [] for place in places}
    for split, annotations in splits.items():
        images = zip(annotations.images.ids.tolist(), annotations.images.file_names, strict=True)
        name_of = {number: name for number, name in images if (split, name) in marks}
        class_of = {category.id: category.name for category in reversed(annotations.categories)}
        for box in box_rows(annotations.boxes.take(np.isin(annotations.boxes.image_ids, list(name_of)))):
            what = class_of.get(box.category_id, f"category {box.category_id}") + (" (crowd)" if box.is_crowd else "")
            marks[split, name_of[box.image_id]].append(Mark((box.x, box.y, box.width, box.height), what))
    return {place: tuple(sorted(filter(can_be_drawn, found), key=_area, reverse=True)) for place, found in marks.items()}


def can_be_drawn(mark: Mark) -> bool:
    """Whether its numbers mean a place."""
    return all(math.isfinite(value) and abs(value) < FARTHEST for value in mark.xywh)


def read_picture(path: Path, marks: tuple[Mark, ...]) -> Picture:
    """An image file made small, with the first marks; a grey one that says why, where it cannot be shown.

    Guarantees: nothing that lies under the name of an image makes it wait, fail or fill the memory.
    """
    try:
        data = read_file(path)
    except (OSError, ValueError) as error:
        return Picture(b"", blank=f"cannot be read: {getattr(error, 'strerror', error)}")
    pixels = decode_image(data) if _is_modest(data) else None
    if pixels is None:
        return Picture(b"", blank=f"cannot be shown: {len(data)} bytes" + (f", {data[:12]!r}" if data else ""))
    height, width = pixels.shape[:2]
    return Picture(_shrink(pixels), (width, height), _view(width, height, marks[:MOST_MARKS]), marks[:MOST_MARKS])


def _is_modest(data: bytes) -> bool:
    """Whether the header promises an image, and one that is no decompression bomb."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        try:
            with Pillow.open(io.BytesIO(data)):
                return True
        except (*DECODER_ERRORS, Pillow.DecompressionBombWarning, Pillow.DecompressionBombError):
            return False


def _shrink(pixels: np.ndarray) -> bytes:
    """JPEG bytes of a picture whose longest side is at most SIDE_PX."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def _view(width: int, height: int, marks: Iterable[Mark]) -> tuple[float, float, float, float]:
    """The image, and what leaves it of faulty boxes, with some air."""
    start, end = np.zeros(2), np.array([width, height], dtype=float)
    reach, air = PAD * end, AIR * end.max()
    low, high = start.copy(), end.copy()
    for mark in marks:
        if mark.is_faulty and can_be_drawn(mark):
            corners = np.array([mark.xywh[:2], np.add(mark.xywh[:2], mark.xywh[2:])])
            least, most = corners.min(axis=0), corners.max(axis=0)
            low = np.where(least < start, np.minimum(low, np.maximum(least - air, start - reach)), low)
            high = np.where(most > end, np.maximum(high, np.minimum(most + air, end + reach)), high)
    x, y, right, bottom = np.round(np.concatenate([low, high]), 1).tolist()
    return x, y, right - x, bottom - y


def _area(mark: Mark) -> float:
    return mark.xywh[2] * mark.xywh[3]
