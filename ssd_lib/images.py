"""Read image files: decode pixels, and read sizes from file headers. All stages use this decoder."""

import io
import mmap
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from ssd_lib.errors import InputError
from ssd_lib.exif import EXIF_ORIENTATION, TURNS, UPRIGHT, remaining_turn, turn_pixels, upright_size
from ssd_lib.files import open_regular

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # OpenCV's warnings do not name the file; our errors do
cv2.setNumThreads(0)  # images are loaded by several processes; threads would compete for the same cores
SUFFIXES_OF_FORMAT = {  # by Pillow's name of the format
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif"}, "MPO": {".jpg", ".jpeg", ".mpo"}, "PNG": {".png"},
    "BMP": {".bmp", ".dib"},
    "GIF": {".gif"}, "WEBP": {".webp"}, "TIFF": {".tif", ".tiff"}, "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "AVIF": {".avif"}, "HEIF": {".heic", ".heif", ".hif"},
}
IMAGE_SUFFIXES = frozenset().union(*SUFFIXES_OF_FORMAT.values())  # the only list of image suffixes
UNREADABLE_SUFFIXES = frozenset({  # of images that Pillow or OpenCV do not read everywhere
    ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf",
    ".rw2", ".exr", ".hdr", ".dcm", ".tga", ".pcx", ".ico"})
BY_PILLOW = {  # formats that Pillow decodes, if it can: first bytes, and what makes it able to
    "AVIF": (re.compile(rb"....ftypavi[fs]", re.DOTALL), "pip install --upgrade Pillow"),
    "HEIF": (re.compile(rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL), "pip install pillow-heif"),
}
DECODER_ERRORS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, EOFError, MemoryError,
                  AttributeError, NotImplementedError, struct.error, zlib.error)  # damaged files make Pillow raise any of these
READ_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION  # `decode_image` turns them: see exif.py
READ_DEEP_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION  # BGR: OpenCV 5.0.0 gives random
# pixels for a colour TIFF with 16 bits if it is asked for RGB
HEADERS_AT_ONCE = 64  # per task: a task for each file would take longer than reading its header
Range = tuple[int, int]  # values of 16-bit images that become 0 and 255
FULL_RANGE: Range = (0, 65535)
SIXTEEN_BIT_SUFFIXES = SUFFIXES_OF_FORMAT["PNG"] | SUFFIXES_OF_FORMAT["TIFF"] | SUFFIXES_OF_FORMAT["PPM"]
MEASURED_IMAGES = 500  # of a larger dataset so many images, evenly spread, are enough to find its range
OUTLIERS = 0.001  # of the values, at each end of the range
MAX_BYTES = 1 << 28  # 256 MiB; a larger file is not read
MAX_PIXELS = 89_478_485  # the limit from which Pillow warns; a decoder needs up to 8 bytes for each
MAX_SCANS = 100  # of a JPEG: each costs up to 1 s at MAX_PIXELS; usual are 1 to 12
MAX_SEGMENTS = 100_000  # of a JPEG or a PNG
JPEG_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")  # of a segment with a length, or of the end; never in pixels
UNKNOWN = "not an image that OpenCV reads"
LIST_FILES_HINT = "For a dataset, `dvc repro --force --single-item validate` lists every such file"


def read_image(path: Path, deep_range: Range = FULL_RANGE) -> np.ndarray:
    """Decode an image file.

    Returns:
        (H, W, 3) uint8, RGB; see `decode_image`.

    Raises:
        InputError: the file is missing or is not an image.
    """
    try:
        data = read_image_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {LIST_FILES_HINT}.") from error
    return decode_foreign_image(data, str(path), LIST_FILES_HINT, deep_range)


def read_image_file(path: Path) -> bytes:
    """Return the bytes of a file; of a file above MAX_BYTES one byte more than that.

    Raises:
        OSError, ValueError: see `open_regular`.
    """
    with open_regular(path) as file:
        return file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES) + 1)  # it takes so much memory


def decode_foreign_image(data: bytes, where: str, hint: str, deep_range: Range = FULL_RANGE) -> np.ndarray:
    """Decode the bytes of an image file that `validate` has not checked; see `decode_image`.

    Raises:
        InputError: it is not an image, or would take too much time or memory; the message begins with `where`.
    """
    fault = cost_fault(data)
    image = None if fault else decode_image(data, deep_range)
    if image is None:
        raise InputError(f"{where}: {fault or UNKNOWN}. {hint}.")
    return image


def cost_fault(data: bytes) -> str:
    """Return why an image must not be decoded, from its headers: the time or the memory that it would take; "" if it may be."""
    if len(data) > MAX_BYTES:
        return f"more than {MAX_BYTES >> 20} MiB; that is the most for an image"
    if jpeg_scans(data) > MAX_SCANS:
        return f"a JPEG of more than {MAX_SCANS} scans; that is the most"
    if fault := png_fault(data):
        return fault
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(io.BytesIO(data), formats=pillow_formats()) as header:
                width, height = header.size
    except Pillow.DecompressionBombError as error:
        return str(error).partition(",")[0]
    except DECODER_ERRORS:
        return missing_plugin(data) or UNKNOWN
    return f"{width}x{height} pixels; {MAX_PIXELS} are the most" if width * height > MAX_PIXELS else ""


def jpeg_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG, 0 of other bytes; MAX_SCANS + 1 of one with too many segments.

    No pixel is decoded.
    """
    scans, at, components = 0, 2, 0
    for _ in range(MAX_SEGMENTS if data.startswith(b"\xff\xd8") else 0):
        marker = JPEG_MARKER.search(data, at)
        if marker is None or marker[1] == b"\xd9":
            return scans
        at = marker.end()
        if marker[1] in (b"\xc0", b"\xc1"):
            components = data[at + 7] if at + 7 < len(data) else 0
        if marker[1] == b"\xda":
            scans += 1
            if components and data[at + 2:at + 3] == bytes([components]):
                return scans  # not progressive: one scan with all components is the whole image
        at += int.from_bytes(data[at:at + 2], "big")
    return MAX_SCANS + 1 if scans or at > 2 else 0


def png_fault(data: bytes) -> str:
    """Return what is wrong with the chunks of a PNG, whose lengths OpenCV believes and allocates; "" if nothing is."""
    if not data.startswith(b"\x89PNG"):
        return ""
    at = 8
    for _ in range(MAX_SEGMENTS):
        length = int.from_bytes(data[at:at + 4], "big")
        if data[at + 4:at + 8] in (b"IEND", b""):
            return ""  # data that end early: the decoder reports it
        if length > MAX_BYTES:
            return f"a PNG with a chunk that claims {length} bytes: it is damaged"
        at += 12 + length
    return f"a PNG of more than {MAX_SEGMENTS} chunks; that is the most"


def decode_image(data: bytes, deep_range: Range = FULL_RANGE) -> np.ndarray | None:
    """Decode the bytes of an image file; of an animation, the first frame.

    For bytes that `validate` or `cost_fault` has checked: others can take minutes and gigabytes.

    Images are upright: turned by their EXIF orientation, as viewers and labelling tools show them. A truncated JPEG is
    refused or, by older versions of OpenCV, completed in gray; `validate` reports it in either case.

    Args:
        data: the bytes of the file.
        deep_range: which values of an image of 16 bits become 0 and 255; those of 8 bits stay as they are.

    Returns:
        (H, W, 3) uint8, RGB; grayscale becomes three equal channels, 16 bits become 8, transparency is dropped.
        None if OpenCV, or Pillow for those `BY_PILLOW`, cannot decode it.

    Raises:
        MemoryError: there is too little memory for it.
    """
    if _pillow_format(data):
        return _decode_with_pillow(data)
    try:
        flags = READ_FLAGS if deep_range == FULL_RANGE else READ_DEEP_FLAGS
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags) if data else None
        if pixels is not None and deep_range != FULL_RANGE:
            eight_bits = _to_eight_bits(deep_range)[pixels] if pixels.dtype == np.uint16 else pixels
            pixels = np.ascontiguousarray(eight_bits[..., ::-1])
        return None if pixels is None or pixels.dtype != np.uint8 else turn_pixels(pixels, remaining_turn(data))
    except cv2.error as error:
        if error.code == cv2.Error.STS_NO_MEM:
            raise MemoryError(error.err) from error
        return None  # absurd sizes


def find_range(setting: str | Sequence[int], paths: Sequence[Path]) -> Range:
    """Return the range that `model.sixteen_bit_range` stands for, given the training images.

    Of "auto" it is that of all but OUTLIERS of the values of their 16-bit images at each end; full if there are none.
    """
    if setting != "auto":
        return FULL_RANGE if isinstance(setting, str) else (int(setting[0]), int(setting[1]))
    counts = np.zeros(1 << 16, dtype=np.int64)
    for at in np.linspace(0, len(paths) - 1, min(len(paths), MEASURED_IMAGES)).round().astype(int).tolist():
        if paths[at].suffix.lower() in SIXTEEN_BIT_SUFFIXES:
            with suppress(OSError, ValueError, cv2.error):  # validate has reported it
                data = read_image_file(paths[at])
                pixels = None if cost_fault(data) else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH)
                if pixels is not None and pixels.dtype == np.uint16:
                    counts += np.bincount(pixels.ravel(), minlength=1 << 16)
    if not counts.any():
        return FULL_RANGE
    low, high = np.searchsorted(counts.cumsum() / counts.sum(), (OUTLIERS, 1 - OUTLIERS), side="right").tolist()
    return (low, high) if low < high else FULL_RANGE


@cache
def _to_eight_bits(deep_range: Range) -> np.ndarray:
    """Return (65536,) uint8: the eight bits of each value."""
    low, high = deep_range
    return ((np.arange(1 << 16) - low) * (255 / (high - low))).round().clip(0, 255).astype(np.uint8)


@cache
def pillow_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that can be read here; an MPO is a JPEG with several images, opened as JPEG."""
    Pillow.init()
    with suppress(ImportError):
        import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in SUFFIXES_OF_FORMAT if name != "MPO" and name in Pillow.OPEN)


def missing_plugin(data: bytes) -> str:
    """Return what an image is, and what makes it readable, if only Pillow could read it and cannot here; "" for others."""
    name = _pillow_format(data)
    return "" if not name or name in pillow_formats() else (
        f"{name}, which cannot be read here: `{BY_PILLOW[name][1]}`, or convert it to JPEG or PNG")


def upright_header_size(header: Pillow.Image, data: bytes | mmap.mmap) -> tuple[int, int]:
    """Return the (width, height) that the pixels of an open image have in `decode_image`."""
    by_pillow = header.format in BY_PILLOW
    turn = header.getexif().get(EXIF_ORIENTATION, UPRIGHT) if by_pillow else remaining_turn(data)
    return upright_size(header.size, turn if turn in TURNS else UPRIGHT)


def _pillow_format(data: bytes) -> str:
    return next((name for name, (start, _) in BY_PILLOW.items() if start.match(data)), "")


def _decode_with_pillow(data: bytes) -> np.ndarray | None:
    try:
        with Pillow.open(io.BytesIO(data), formats=pillow_formats()) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except MemoryError:
        raise
    except DECODER_ERRORS:
        return None


def read_sizes(paths: Iterable[Path]) -> np.ndarray:
    """Read the sizes of images from their headers, several at once.

    Guarantees: a size is that of the upright pixels of `decode_image`. No pixel is decoded.

    Returns:
        (N, 2) int64, (width, height) in pixels; (0, 0) where the header cannot be read.
    """
    files = list(paths)
    tasks = [files[at:at + HEADERS_AT_ONCE] for at in range(0, len(files), HEADERS_AT_ONCE)]
    pillow_formats()
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:  # the filters are those of all threads
        warnings.simplefilter("ignore")  # Pillow warns of large images
        sizes = [size for task in pool.map(lambda task: [_header_size(path) for path in task], tasks) for size in task]
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)


def _header_size(path: Path) -> tuple[int, int]:
    try:
        with (open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
              Pillow.open(file, formats=pillow_formats()) as header):
            return upright_header_size(header, data)
    except (*DECODER_ERRORS, Pillow.DecompressionBombError):
        return 0, 0
