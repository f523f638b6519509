"""Faults of image files, found by decoding each to its last byte, in parallel. Nothing is changed here."""

import hashlib
import io
import os
import signal
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import skimage.io
from PIL import Image as Pillow
from tqdm import tqdm

from ssd_lib.annotations.faults import KINDS, Fault
from ssd_lib.errors import StateError
from ssd_lib.images import decode_image

CHUNK = 32  # images a task: long enough to make its overhead small, short enough for Ctrl-C
MAX_BYTES = 1 << 28  # a photograph of 256 MiB is none
DECODER_FAULTS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, EOFError, MemoryError,
                  AttributeError, NotImplementedError, struct.error, zlib.error)  # broken files make Pillow raise any
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8")  # an image's first bytes, though its header may be cut off
SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe"}, "MPO": {".jpg", ".jpeg", ".mpo"}, "PNG": {".png"}, "BMP": {".bmp", ".dib"},
    "GIF": {".gif"}, "WEBP": {".webp"}, "TIFF": {".tif", ".tiff"}, "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
}
OPENED = [kind for kind in SUFFIXES if kind != "MPO"]  # that is a JPEG with several pictures, and opened as one


class Photo(NamedTuple):
    """One file to check: name and row in the manifest, where it lies, (width, height) as annotated."""

    split: str
    name: str
    path: Path
    size: tuple[int, int]
    downloaded: tuple[int, str] | None


def check_photos(photos: list[Photo], workers: int) -> Iterator[Fault]:
    """Every fault of the image files, in their order; a progress bar goes along.

    Args:
        photos: what to check.
        workers: processes; 0 is this one.

    Raises:
        StateError: a worker died; the images that it may have died of are named.
    """
    chunks = [photos[at:at + CHUNK] for at in range(0, len(photos), CHUNK)]
    with tqdm(total=len(photos), unit="img", desc="validate", smoothing=0.02) as bar:
        for chunk, faults in zip(chunks, _run_all(chunks, workers), strict=True):
            yield from faults
            bar.update(len(chunk))


def check_photo(photo: Photo) -> list[Fault]:
    """The faults of one image file: at most one that spoils it, and `changed` or `wrong_format` beside it.

    Law: a file without a fault is decoded by scikit-image (Pillow underneath, which minds missing bytes) and by OpenCV
    (which training reads with) to the same size, and that is the annotated size.
    """
    try:
        data = _read(photo.path)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        return [_fault(photo, "missing", f"cannot be read: {getattr(error, 'strerror', error)}")]
    if not data:
        return [_fault(photo, "empty", "0 bytes")]
    if len(data) > MAX_BYTES:
        return [_fault(photo, "too_large", f"more than {MAX_BYTES >> 20} MiB")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)  # raised before a pixel is decoded
        found = [*_check_bytes(photo, data), *_check_pixels(photo, data)]
    return [_fault(photo, kind, what) for kind, what in found]


def _check_bytes(photo: Photo, data: bytes) -> Iterator[tuple[str, str]]:
    if photo.downloaded is None:
        return
    length, digest = photo.downloaded
    if len(data) != length:
        yield "changed", f"{len(data)} bytes; the manifest says {length}"
    elif hashlib.sha256(data).hexdigest() != digest:
        yield "changed", "other bytes than the manifest says"


def _check_pixels(photo: Photo, data: bytes) -> Iterator[tuple[str, str]]:
    Pillow.init()  # does its work once; before, Pillow knows only the commonest formats
    try:
        with Pillow.open(io.BytesIO(data), formats=OPENED) as header:
            kind, size, turned = header.format or "", header.size, header.getexif().get(0x0112, 1) != 1
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        yield "too_large", str(error).partition(",")[0]
        return
    except DECODER_FAULTS:
        kind = "truncated" if data.startswith(STARTS) else "not_an_image"
        yield kind, f"{len(data)} bytes that start with {data[:12]!r}"
        return
    if fault := _decode_fault(data, kind, size):
        yield fault
    elif size != photo.size:
        hint = "; its EXIF data turn it, boxes must be in the pixels as stored" if turned else ""
        yield "size_differs", f"{size[0]}x{size[1]}; annotated as {photo.size[0]}x{photo.size[1]}{hint}"
    elif Path(photo.name).suffix.lower() not in SUFFIXES[kind]:
        yield "wrong_format", f"content is {kind}"


def _decode_fault(data: bytes, kind: str, size: tuple[int, int]) -> tuple[str, str] | None:
    """What is wrong with the bytes after the header."""
    try:
        pixels = skimage.io.imread(io.BytesIO(data))
    except DECODER_FAULTS as error:
        return "truncated", f"{kind} of {size[0]}x{size[1]}, cut short or damaged: {' '.join(str(error).split()):.120}"
    image = decode_image(data)
    if image is None:
        return "truncated", f"{kind} of {size[0]}x{size[1]}, cut short, damaged or of a kind that OpenCV does not read"
    shape = size[::-1]
    if image.shape[:2] != shape or shape not in (pixels.shape[:2], pixels.shape[1:3]):  # frames may come first
        return "truncated", f"{kind}: scikit-image decodes {pixels.shape}, OpenCV {image.shape}"
    return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _fault(photo: Photo, kind: str, what: str) -> Fault:
    return Fault(KINDS[kind].name, (photo.split, photo.name), f"{photo.name}: {what}")


def _run_all(chunks: list[list[Photo]], workers: int) -> Iterator[list[Fault]]:
    """The faults of each chunk, in order."""
    if workers == 0 or len(chunks) < 2:
        yield from map(_check_chunk, chunks)
        return
    pool = ProcessPoolExecutor(min(workers, len(chunks)), get_context("spawn"), _start_worker)
    done = 0
    try:
        for future in [pool.submit(_check_chunk, chunk) for chunk in chunks]:
            yield future.result()
            done += 1
    except BrokenProcessPool as error:
        first, last = chunks[done][0].name, chunks[done:done + workers][-1][-1].name
        raise StateError(f"validate: a worker process died while it checked an image from '{first}' to '{last}'; "
                         "most often memory is short. Set runtime.workers lower; with 0 there are none.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _check_chunk(chunk: list[Photo]) -> list[Fault]:
    return [fault for photo in chunk for fault in check_photo(photo)]


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
