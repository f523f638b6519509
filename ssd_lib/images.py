"""Read image files: decode pixels, and read sizes from file headers. All stages use this decoder."""

import struct
import warnings
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow

from ssd_lib.errors import InputError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # OpenCV's warnings do not name the file; our errors do
cv2.setNumThreads(0)  # images are loaded by several processes; threads would compete for the same cores
SUFFIXES_OF_FORMAT = {  # by Pillow's name of the format
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif"}, "MPO": {".jpg", ".jpeg", ".mpo"}, "PNG": {".png"},
    "BMP": {".bmp", ".dib"},
    "GIF": {".gif"}, "WEBP": {".webp"}, "TIFF": {".tif", ".tiff"}, "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
}
IMAGE_SUFFIXES = frozenset().union(*SUFFIXES_OF_FORMAT.values())  # the only list of image suffixes
UNREADABLE_SUFFIXES = frozenset({  # of images that Pillow or OpenCV do not read everywhere
    ".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf",
    ".rw2", ".exr", ".hdr", ".dcm", ".tga", ".pcx", ".ico"})
PILLOW_FORMATS = [name for name in SUFFIXES_OF_FORMAT if name != "MPO"]  # an MPO is a JPEG with several images, opened as JPEG
DECODER_ERRORS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, EOFError, MemoryError,
                  AttributeError, NotImplementedError, struct.error, zlib.error)  # damaged files make Pillow raise any of these
READ_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
HEADERS_AT_ONCE = 64  # per task: a task for each file would take longer than reading its header
LIST_FILES_HINT = "For a dataset, `dvc repro --force --single-item validate` lists every such file"


def read_image(path: Path) -> np.ndarray:
    """Decode an image file.

    Returns:
        (H, W, 3) uint8, RGB; see `decode_image`.

    Raises:
        InputError: the file is missing or is not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {LIST_FILES_HINT}.") from error
    image = decode_image(data)
    if image is None:
        raise InputError(f"{path}: not an image that OpenCV reads. {LIST_FILES_HINT}.")
    return image


def decode_image(data: bytes) -> np.ndarray | None:
    """Decode the bytes of an image file; of an animation, the first frame.

    Boxes refer to the pixels as stored, so an EXIF rotation is not applied (as in COCO's annotations). A truncated JPEG is
    refused or, by older versions of OpenCV, completed in gray; `validate` reports it in either case.

    Returns:
        (H, W, 3) uint8, RGB; grayscale becomes three equal channels, 16 bits become 8, transparency is dropped.
        None if OpenCV cannot decode it.
    """
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), READ_FLAGS) if data else None
    except cv2.error:  # absurd sizes
        return None


def read_sizes(paths: Iterable[Path]) -> np.ndarray:
    """Read the sizes of images from their headers, several at once.

    Guarantees: a size is that of the pixels of `decode_image`, so an EXIF rotation is not applied. No pixel is decoded.

    Returns:
        (N, 2) int64, (width, height) in pixels; (0, 0) where the header cannot be read.
    """
    files = list(paths)
    tasks = [files[at:at + HEADERS_AT_ONCE] for at in range(0, len(files), HEADERS_AT_ONCE)]
    Pillow.init()
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:  # the filters are those of all threads
        warnings.simplefilter("ignore")  # Pillow warns of large images
        sizes = [size for task in pool.map(lambda task: [_header_size(path) for path in task], tasks) for size in task]
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)


def _header_size(path: Path) -> tuple[int, int]:
    try:
        with Pillow.open(path, formats=PILLOW_FORMATS) as header:
            return header.size
    except (*DECODER_ERRORS, Pillow.DecompressionBombError):
        return 0, 0
