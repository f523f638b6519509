"""Read an image file into pixels: one way for training, evaluation, checks and pictures."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

from ssd_lib.errors import InputError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # its warnings name no file; errors of ours do
cv2.setNumThreads(0)  # parallelism is by process; OpenCV's own threads would fight for the same cores
SUFFIXES_OF_FORMAT = {  # by Pillow's name of the format
    "JPEG": {".jpg", ".jpeg", ".jpe"}, "MPO": {".jpg", ".jpeg", ".mpo"}, "PNG": {".png"}, "BMP": {".bmp", ".dib"},
    "GIF": {".gif"}, "WEBP": {".webp"}, "TIFF": {".tif", ".tiff"}, "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
}
IMAGE_SUFFIXES = frozenset().union(*SUFFIXES_OF_FORMAT.values())  # the one list of what counts as an image, in lower case
PILLOW_FORMATS = [name for name in SUFFIXES_OF_FORMAT if name != "MPO"]  # an MPO is a JPEG with several images, opened as JPEG
DECODER_ERRORS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, EOFError, MemoryError,
                  AttributeError, NotImplementedError, struct.error, zlib.error)  # damaged files make Pillow raise any of these
READ_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
LIST_FILES_HINT = "Of a data set, `dvc repro --force --single-item validate` lists every such file"


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
    """Decode the bytes of an image file; of an animation, the first picture.

    Boxes refer to the pixels as they are stored, so an EXIF rotation is not applied (COCO's annotations are made so).
    A JPEG that is cut short is refused or, by older versions of OpenCV, decoded with a grey rest: `validate` finds it anyway.

    Returns:
        (H, W, 3) uint8, RGB; grayscale becomes three equal channels, 16 bits become 8, transparency is dropped.
        None where OpenCV sees no image.
    """
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), READ_FLAGS) if data else None
    except cv2.error:  # absurd sizes
        return None
