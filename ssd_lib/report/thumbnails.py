"""Small copies of images and where their boxes are drawn. The page draws the boxes as SVG, so they are sharp at any size."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ssd_lib.images import cost_fault, decode_image, read_image_file
from ssd_lib.report.elements import Mark, Thumbnail

SIDE_PX = 240  # longest side of a thumbnail
JPEG_QUALITY = 80
MAX_MARKS = 60  # boxes drawn on an image, the largest first
MAX_EXTENSION = 0.5  # the view follows a box out of the image by at most this share of the image's side
MARGIN = 0.05  # around such a box, as a share of the longer side
MAX_COORDINATE = 1e9  # pixels; a box beyond it is not drawn
# Shares of the view's longer side:
MIN_SIDE = 0.004  # a faulty box is drawn at least this wide and high
RING_BELOW = 0.08  # a smaller faulty box gets a ring around it, to be noticed
LETTER = 0.055  # height of the name on a box
LABEL_FROM = 0.3  # a box at least this wide, as a share of the view's width, shows its name

View = tuple[float, float, float, float]  # xywh


class SvgBox(NamedTuple):
    """Where a box is drawn, in pixels of the image file.

    Attributes:
        ring: radius of a circle around the box; 0 for none.
        letter: height of the letters of its name; 0 where the name is not shown.
    """

    x: float
    y: float
    width: float
    height: float
    ring: float
    letter: float


def can_be_drawn(mark: Mark) -> bool:
    """Return whether all coordinates are finite and of a reasonable size."""
    return all(math.isfinite(value) and abs(value) < MAX_COORDINATE for value in mark.xywh)


def read_thumbnail(path: Path, marks: tuple[Mark, ...], area: View | None = None) -> Thumbnail:
    """Return a small copy of an image file with the first marks, or the reason why it cannot be shown.

    Guarantees: no content of the file (a pipe, a damaged image, a decompression bomb) makes it block, fail or fill the memory.

    Args:
        path: of the file.
        marks: boxes in its pixels.
        area: xywh in its pixels: the part to show, which overlaps the image; None for all of it.
    """
    try:
        data = read_image_file(path)
    except (OSError, ValueError) as error:
        return Thumbnail(b"", reason=f"cannot be read: {getattr(error, 'strerror', error)}")
    pixels = None if cost_fault(data) else decode_image(data)
    if pixels is None:
        return Thumbnail(b"", reason=f"cannot be shown: {len(data)} bytes" + (f", {data[:12]!r}" if data else ""))
    if area is not None:
        left, top = (max(0, round(start)) for start in area[:2])
        pixels = pixels[top:round(area[1] + area[3]), left:round(area[0] + area[2])]
        if not pixels.size:
            return Thumbnail(b"", reason="the image file ends before this place")
        marks = tuple(replace(mark, xywh=(mark.xywh[0] - left, mark.xywh[1] - top, *mark.xywh[2:])) for mark in marks)
    height, width = pixels.shape[:2]
    return Thumbnail(_shrink(pixels), (width, height), _view(width, height, marks[:MAX_MARKS]), marks[:MAX_MARKS])


def svg_box(mark: Mark, view: View) -> SvgBox:
    """Return where a box is drawn: clipped near the view, with positive sides, as SVG needs them."""
    (left, width), (top, height) = (_clip_side(mark.xywh[axis], mark.xywh[axis + 2], view[axis], view[axis + 2])
                                    for axis in (0, 1))
    longer = max(view[2:])
    width, height = max(width, MIN_SIDE * longer), max(height, MIN_SIDE * longer)
    is_small = max(width, height) < RING_BELOW * longer
    return SvgBox(left, top, width, height, ring=0.7 * RING_BELOW * longer if mark.is_faulty and is_small else 0,
                  letter=LETTER * longer if mark.name and width >= LABEL_FROM * view[2] else 0)


def _clip_side(start: float, length: float, view_start: float, view_length: float) -> tuple[float, float]:
    """Return start and length of a side within one view length of the view; `length` may be negative."""
    low, high = view_start - view_length, view_start + 2 * view_length
    first, last = (min(max(end, low), high) for end in sorted((start, start + length)))
    return first, last - first


def _shrink(pixels: np.ndarray) -> bytes:
    """Return the JPEG bytes of a copy whose longest side is at most SIDE_PX."""
    height, width = pixels.shape[:2]
    scale = min(1.0, SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _view(width: int, height: int, marks: Iterable[Mark]) -> View:
    """Return the area of the image, extended to show faulty boxes that leave it, with a margin."""
    start, end = np.zeros(2), np.array([width, height], dtype=float)
    reach, margin = MAX_EXTENSION * end, MARGIN * end.max()
    low, high = start.copy(), end.copy()
    for mark in marks:
        if mark.is_faulty and can_be_drawn(mark):
            corners = np.array([mark.xywh[:2], np.add(mark.xywh[:2], mark.xywh[2:])])
            least, most = corners.min(axis=0), corners.max(axis=0)
            low = np.where(least < start, np.minimum(low, np.maximum(least - margin, start - reach)), low)
            high = np.where(most > end, np.maximum(high, np.minimum(most + margin, end + reach)), high)
    x, y, right, bottom = np.round(np.concatenate([low, high]), 1).tolist()
    return x, y, right - x, bottom - y
