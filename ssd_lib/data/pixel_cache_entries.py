"""What an entry of the pixel cache is: an image whose short side is a little more than the net's input, as JPEG or as pixels.
Which images have entries, and since when, is known to cache.py."""

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from ssd_lib.errors import InputError
from ssd_lib.images import decode_image

Kind = Literal["none", "jpeg", "raw"]
RECIPE = 1  # counts up whenever other pixels come out of the same image
JPEG_QUALITY = 95
HEADER_BYTES = 8  # of a raw entry: height and width, uint32 each, little end first; rows of RGB follow


class Form(NamedTuple):
    """One way to keep pixels in a file.

    Attributes:
        pack: (pixels, the bytes of an image file that holds just these, if there is one) -> the bytes of an entry.
        read: the file of an entry -> (H, W, 3) uint8, RGB; not to be written to.
        bytes_per_pixel: of an image that was scaled. Exact for raw; of JPEG, measured on COCO's photographs: 0.40 at a short
            side of 400, 0.48 at 214, and 0.62 and 0.68 of the image in twenty that takes most.
        keeps_small_files: the entry of an image that need not be scaled has the size of its file.
    """

    pack: Callable[[np.ndarray, bytes | None], bytes]
    read: Callable[[Path], np.ndarray]
    bytes_per_pixel: float
    keeps_small_files: bool


def cache_name(kind: Kind, image_size: int) -> str:
    """The name of the cache for nets of an input size: all that shapes the pixels of its entries."""
    return f"{kind}-{short_side(image_size)}-{RECIPE}"


def short_side(image_size: int) -> int:
    """The short side of entries in pixels: four thirds of the net's input, so that a crop of three quarters still fills it."""
    return -(-4 * image_size // 3)


def entry_sizes(sizes: np.ndarray, side: int) -> np.ndarray:
    """The sizes that images have in the cache.

    Guarantees: the short side is `side`, and the long one at most half a pixel from the same scale; smaller images stay as they are.

    Args:
        sizes: (N, 2) integers.
        side: from `short_side`.

    Returns:
        (N, 2) int64.
    """
    scale = np.minimum(1, side / sizes.min(axis=1, keepdims=True))
    return np.rint(sizes * scale).astype(np.int64)


def entry_bytes(data: bytes, form: Form, side: int) -> bytes | None:
    """The entry of an image file with the content `data`; None where that is no image."""
    image = decode_image(data)
    if image is None:
        return None
    height, width = entry_sizes(np.array([image.shape[:2]]), side)[0].tolist()
    if (height, width) == image.shape[:2]:
        return form.pack(image, data)
    return form.pack(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), None)


def _pack_jpeg(pixels: np.ndarray, file: bytes | None) -> bytes:
    if file is not None:  # to encode it once more would only cost
        return file
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _read_jpeg(path: Path) -> np.ndarray:
    try:
        pixels = decode_image(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    if pixels is None:
        raise _unreadable(path, "not an image")
    return pixels


def _pack_raw(pixels: np.ndarray, file: bytes | None) -> bytes:
    return np.array(pixels.shape[:2], dtype="<u4").tobytes() + pixels.tobytes()


def _read_raw(path: Path) -> np.ndarray:
    """Map the file into memory: of what a crop leaves out, nothing is read."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        height, width = np.frombuffer(content, "<u4", 2)
        return np.frombuffer(content, np.uint8, offset=HEADER_BYTES).reshape(height, width, 3)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, why: object) -> InputError:
    return InputError(f"{path}: not an entry of the pixel cache: {why}. Delete it, if it is there: the same command makes it "
                      "anew and continues.")


CACHE_FORMATS = {
    "jpeg": Form(_pack_jpeg, _read_jpeg, bytes_per_pixel=0.5, keeps_small_files=True),
    "raw": Form(_pack_raw, _read_raw, bytes_per_pixel=3, keeps_small_files=False),
}
