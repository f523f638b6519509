"""EXIF orientation: read it from the bytes of an image file, and turn pixels and boxes upright, as viewers show the image.

Own code, because decoders differ: each version of OpenCV reads it from other formats, Pillow may decode a whole PNG to find
it, and both turn TIFF files by themselves. XMP and other places for an orientation are not read, as in browsers.
"""

from collections.abc import Iterator
from mmap import mmap
from typing import Literal

import cv2
import numpy as np

UPRIGHT = 1
TURNS: dict[int, tuple[bool, int | None]] = {  # orientation -> whether to transpose, then cv2's flip code; 0 is vertical
    1: (False, None), 2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0)}
INVERSE = {6: 8, 8: 6}  # the others are their own
EXIF_ORIENTATION = 0x0112  # the tag
BYTES = {3: 2, 4: 4}  # of a value of type SHORT or LONG
BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
JPEG, PNG, EXIF = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"Exif\0\0"
MAX_BLOCKS = 10_000  # of a file; usual are fewer than a hundred


def read_orientation(data: bytes | mmap) -> int:
    """Return the EXIF orientation of a JPEG, PNG, WebP or TIFF file, 1 to 8; 1 if it is not set. No pixel is decoded."""
    at = 0 if data[:4] in BYTE_ORDERS else next((start for kind, start in _blocks(data) if _is_exif(data, kind, start)), None)
    if at is None:
        return UPRIGHT
    at += len(EXIF) if data[at:at + len(EXIF)] == EXIF else 0
    order = BYTE_ORDERS.get(data[at:at + 4])
    if order is None:
        return UPRIGHT

    def number(start: int, length: int) -> int:
        return int.from_bytes(data[start:start + length], order)
    first = at + number(at + 4, 4)
    for entry in range(first + 2, min(first + 2 + 12 * number(first, 2), len(data)), 12):
        if number(entry, 2) == EXIF_ORIENTATION and number(entry + 2, 2) in BYTES:
            value = number(entry + 8, BYTES[number(entry + 2, 2)])
            return value if value in TURNS else UPRIGHT
    return UPRIGHT


def remaining_turn(data: bytes | mmap) -> int:
    """Return the orientation that is left to apply after decoding: 1 for TIFF, which OpenCV and Pillow turn."""
    return UPRIGHT if data[:4] in BYTE_ORDERS else read_orientation(data)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the size of an image, in either order, after turning it."""
    return size[::-1] if TURNS[orientation][0] else size


def turn_sizes(sizes: np.ndarray, orientation: int) -> np.ndarray:
    """Return (N, 2) sizes of images, in either order, after turning them."""
    return sizes[:, ::-1] if TURNS[orientation][0] else sizes


def turn_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return the (H, W, ...) pixels of an image with this orientation, turned upright."""
    is_transposed, flip = TURNS[orientation]
    if is_transposed:
        pixels = cv2.transpose(pixels)
    return pixels if flip is None else cv2.flip(pixels, flip)


def turn_boxes(xywh: np.ndarray, sizes: np.ndarray, orientation: int) -> np.ndarray:
    """Turn boxes as `turn_pixels` turns their images.

    Args:
        xywh: (T, 4) float64, pixels of the image before turning it.
        sizes: (T, 2) its (width, height), before turning it.
        orientation: EXIF orientation, 1 to 8.
    """
    is_transposed, flip = TURNS[orientation]
    (x, y, width, height), (right, bottom) = xywh.T, sizes.T
    if is_transposed:
        x, y, width, height, right, bottom = y, x, height, width, bottom, right
    if flip in (1, -1):
        x = right - (x + width)
    if flip in (0, -1):
        y = bottom - (y + height)
    return np.stack([x, y, width, height], axis=1)


def _is_exif(data: bytes | mmap, kind: bytes, start: int) -> bool:
    return kind in (b"eXIf", b"EXIF") or (kind == b"\xe1" and data[start:start + len(EXIF)] == EXIF)


def _blocks(data: bytes | mmap) -> Iterator[tuple[bytes, int]]:
    """Yield the type of each block of metadata, and where its content starts: segments of a JPEG, chunks of a PNG or a WebP."""
    if data[:2] == JPEG:
        yield from _segments(data)
        return
    is_png, is_webp = data[:8] == PNG, data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    at = 8 if is_png else 12
    for _ in range(MAX_BLOCKS if is_png or is_webp else 0):
        if at + 8 > len(data):
            return
        first, second = data[at:at + 4], data[at + 4:at + 8]
        kind, length = (second, int.from_bytes(first, "big") + 4) if is_png else (first, int.from_bytes(second, "little"))
        yield kind, at + 8
        at += 8 + length + (0 if is_png else length % 2)


def _segments(data: bytes | mmap) -> Iterator[tuple[bytes, int]]:
    at = 2
    for _ in range(MAX_BLOCKS):
        at = data.find(b"\xff", at)
        if at < 0:
            return
        while data[at + 1:at + 2] == b"\xff":
            at += 1  # fill bytes
        kind = data[at + 1:at + 2]
        if kind in (b"", b"\xda", b"\xd9"):  # pixels, or the end
            return
        yield kind, at + 4
        has_length = kind not in (b"\0", b"\x01") and not 0xD0 <= kind[0] <= 0xD8
        at += 2 + (int.from_bytes(data[at + 2:at + 4], "big") if has_length else 0)
