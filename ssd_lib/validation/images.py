"""Faults of image files, found by decoding each to its last byte, in parallel. Nothing is changed here."""

import errno
import hashlib
import io
import os
import re
import signal
import stat
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

from PIL import Image as Pillow
from tqdm import tqdm

from ssd_lib.annotations.faults import KINDS, Fault
from ssd_lib.errors import StateError
from ssd_lib.images import DECODER_ERRORS, PILLOW_FORMATS, SUFFIXES_OF_FORMAT, decode_image

CHUNK = 32  # images a task: long enough to make its overhead small, short enough for Ctrl-C
MAX_BYTES = 1 << 28  # a photograph of 256 MiB is none
STARTS = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP|II\*\0|MM\0\*", re.DOTALL)  # though the header may be cut off
FOREIGN = {  # what often bears an image's name and is not read: how its bytes begin
    "a web page, not an image": rb"\s*<(!doctype html|html|head|body|\?xml[^>]*>\s*<html)",
    "a pointer of Git LFS; `git lfs pull` fetches the image": rb"version https://git-lfs",
    "AVIF; convert it to JPEG or PNG": rb"....ftypavi[fs]",
    "HEIC; convert it to JPEG or PNG": rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)",
    "JPEG XL; convert it to JPEG or PNG": rb"\xff\x0a|\0\0\0\x0cJXL \r\n",
    "JPEG 2000; convert it to JPEG or PNG": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ",
    "SVG; convert it to PNG": rb"\s*(<\?xml[^>]*>\s*)?<svg",
}
ORIENTATION = 0x0112  # EXIF's tag: 1 is as stored, 2 to 8 turn or mirror the picture


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
    """The faults of one image file: at most one that spoils it, and `changed`, `wrong_format` or `turned` beside it.

    Guarantees: a file without a fault is decoded by Pillow (which minds missing bytes) and by OpenCV (which training reads with)
    to the same size, and that is the annotated size. Of an animation both decode the first picture alone.
    """
    if Path(photo.name).anchor or ".." in Path(photo.name).parts:
        return [_fault(photo, "missing", "leads out of the folder of the data set; names stay in it")]
    try:
        data = read_file(photo.path)
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


def read_file(path: Path) -> bytes:
    """The bytes of a file, of a huge one as many as show that it is.

    Raises:
        OSError: it cannot be read, or is no file: reading a pipe would wait for ever, a device never end.
        ValueError: no file can have this name.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(mode) else "it is a pipe, a socket or a device")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


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
        with Pillow.open(io.BytesIO(data), formats=PILLOW_FORMATS) as picture:
            kind, size, turn = picture.format or "", picture.size, _orientation(picture)
            fault = _decode_fault(picture, data)
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        yield "too_large", str(error).partition(",")[0]
        return
    except DECODER_ERRORS:
        yield "truncated" if STARTS.match(data) else "not_an_image", _describe(data)
        return
    if fault:
        yield "truncated", f"{kind} of {size[0]}x{size[1]}, {fault}"
        return
    if size != photo.size:
        hint = f"; its EXIF data turn it, boxes must be in the pixels {_pixels_seen(kind)}" if turn != 1 else ""
        yield "size_differs", f"{size[0]}x{size[1]}; annotated as {photo.size[0]}x{photo.size[1]}{hint}"
        return
    if Path(photo.name).suffix.lower() not in SUFFIXES_OF_FORMAT[kind]:
        yield "wrong_format", f"content is {kind}"
    if turn != 1:
        yield "exif_rotated", (f"its EXIF orientation is {turn}, so viewers turn it; training sees the pixels "
                               f"{_pixels_seen(kind)}, "
                         f"{size[0]}x{size[1]}: look whether its boxes fit")


def _pixels_seen(kind: str) -> str:
    return "as turned, being a TIFF" if kind == "TIFF" else "as stored"  # OpenCV and Pillow both turn those


def _orientation(picture: Pillow.Image) -> int:
    """What EXIF says, 1 where it says nothing that viewers would heed."""
    try:
        turn = picture.getexif().get(ORIENTATION, 1)
    except DECODER_ERRORS:  # EXIF data may be broken in a sound picture
        return 1
    return turn if turn in range(2, 9) else 1


def _decode_fault(picture: Pillow.Image, data: bytes) -> str:
    """What is wrong with the bytes after the header, "" where they are sound."""
    try:
        picture.load()
    except DECODER_ERRORS as error:
        return f"cut short or damaged: {' '.join(str(error).split()):.120}"
    image = decode_image(data)
    if image is None:
        return "cut short, damaged or of a kind that OpenCV does not read"
    if image.shape[1::-1] != picture.size:
        return f"which Pillow decodes to {picture.size}, OpenCV to {image.shape[1::-1]}"
    return ""


def _describe(data: bytes) -> str:
    for name, start in FOREIGN.items():
        if re.match(start, data, re.IGNORECASE | re.DOTALL):
            return f"{len(data)} bytes of {name}"
    return f"{len(data)} bytes that start with {data[:12]!r}"


def _fault(photo: Photo, kind: str, what: str) -> Fault:
    return Fault(KINDS[kind].name, (photo.split, photo.name), f"{photo.name}: {what}", photo.name)


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
