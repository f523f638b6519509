"""Find faults of image files by decoding each completely, in parallel. No file is changed."""

import hashlib
import io
import os
import re
import signal
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
from ssd_lib.images import (
    DECODER_ERRORS,
    MAX_BYTES,
    MAX_SCANS,
    PILLOW_FORMATS,
    SUFFIXES_OF_FORMAT,
    decode_image,
    jpeg_scans,
    png_fault,
    read_image_file,
)

CHUNK = 32  # images per task: large enough for a small overhead, small enough to react to Ctrl-C
SIGNATURES = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP|II\*\0|MM\0\*", re.DOTALL)  # the header may be damaged
OTHER_CONTENT = {  # unsupported content that is often found under an image's name, by its first bytes
    "a web page, not an image": rb"\s*<(!doctype html|html|head|body|\?xml[^>]*>\s*<html)",
    "a pointer of Git LFS; `git lfs pull` fetches the image": rb"version https://git-lfs",
    "AVIF; convert it to JPEG or PNG": rb"....ftypavi[fs]",
    "HEIC; convert it to JPEG or PNG": rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)",
    "JPEG XL; convert it to JPEG or PNG": rb"\xff\x0a|\0\0\0\x0cJXL \r\n",
    "JPEG 2000; convert it to JPEG or PNG": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ",
    "SVG; convert it to PNG": rb"\s*(<\?xml[^>]*>\s*)?<svg",
}
EXIF_ORIENTATION = 0x0112  # the tag: 1 is as stored, 2 to 8 rotate or mirror the image


class ImageFile(NamedTuple):
    """An image file to check.

    Attributes:
        split: the name of its split.
        name: its name in the manifest.
        path: where the file is.
        size: (width, height) as annotated.
        recorded: (size in bytes, SHA-256) of the manifest, if it has the file.
    """

    split: str
    name: str
    path: Path
    size: tuple[int, int]
    recorded: tuple[int, str] | None


def check_images(files: list[ImageFile], workers: int) -> Iterator[Fault]:
    """Yield every fault of the image files, in their order, and show a progress bar.

    Args:
        files: the files to check.
        workers: number of processes; 0 checks in this process.

    Raises:
        StateError: a worker process died; the message names the images that may be the cause.
    """
    chunks = [files[start:start + CHUNK] for start in range(0, len(files), CHUNK)]
    with tqdm(total=len(files), unit="img", desc="validate", smoothing=0.02, leave=False, dynamic_ncols=True,
              disable=None) as bar:
        for chunk, faults in zip(chunks, _run_all(chunks, workers), strict=True):
            yield from faults
            bar.update(len(chunk))


def check_image(file: ImageFile) -> list[Fault]:
    """Return the faults of one image file: at most one that makes it unusable, and `changed`, `wrong_format` or `exif_rotated`.

    Guarantees: a file without faults is decoded by Pillow (which detects missing bytes) and by OpenCV (which training uses) to
    the same size, the annotated one. Of an animation only the first frame is decoded.
    """
    if Path(file.name).anchor or ".." in Path(file.name).parts:
        return [_fault(file, "missing", "leads out of the folder of the dataset")]
    try:
        data = read_image_file(file.path)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        return [_fault(file, "missing", f"cannot be read: {getattr(error, 'strerror', error)}")]
    if not data:
        return [_fault(file, "empty", "0 bytes")]
    if len(data) > MAX_BYTES:
        return [_fault(file, "too_large", f"more than {MAX_BYTES >> 20} MiB")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)  # raised before a pixel is decoded
        found = [*_check_bytes(file, data), *_check_pixels(file, data)]
    return [_fault(file, kind, text) for kind, text in found]


def _check_bytes(file: ImageFile, data: bytes) -> Iterator[tuple[str, str]]:
    if file.recorded is None:
        return
    length, digest = file.recorded
    if len(data) != length:
        yield "changed", f"{len(data)} bytes; the manifest says {length}"
    elif hashlib.sha256(data).hexdigest() != digest:
        yield "changed", "its hash differs from that in the manifest"


def _check_pixels(file: ImageFile, data: bytes) -> Iterator[tuple[str, str]]:
    Pillow.init()  # runs once; without it Pillow knows only the most frequent formats
    if jpeg_scans(data) > MAX_SCANS:
        yield "too_large", f"a JPEG of more than {MAX_SCANS} scans, which takes too long to decode"
        return
    try:
        with Pillow.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            kind, size, orientation = image.format or "", image.size, _orientation(image)
            fault = _decode_fault(image, data)
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        yield "too_large", str(error).partition(",")[0]
        return
    except DECODER_ERRORS:
        yield "truncated" if SIGNATURES.match(data) else "not_an_image", _describe(data)
        return
    if fault:
        yield "truncated", f"{kind} of {size[0]}x{size[1]}, {fault}"
        return
    if size != file.size:
        hint = f"; EXIF rotates it, boxes must refer to the pixels {_pixel_order(kind)}" if orientation != 1 else ""
        yield "size_differs", f"{size[0]}x{size[1]}; annotated as {file.size[0]}x{file.size[1]}{hint}"
        return
    if Path(file.name).suffix.lower() not in SUFFIXES_OF_FORMAT[kind]:
        yield "wrong_format", f"content is {kind}"
    if orientation != 1:
        yield "exif_rotated", (f"its EXIF orientation is {orientation}, so viewers rotate it; training sees the pixels "
                               f"{_pixel_order(kind)}, {size[0]}x{size[1]}: check whether its boxes fit")


def _pixel_order(kind: str) -> str:
    return "as rotated, because it is a TIFF" if kind == "TIFF" else "as stored"  # OpenCV and Pillow both rotate TIFF files


def _orientation(image: Pillow.Image) -> int:
    """Return the EXIF orientation; 1 where it is missing or invalid."""
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except DECODER_ERRORS:  # EXIF data may be damaged in a sound image
        return 1
    return orientation if orientation in range(2, 9) else 1


def _decode_fault(image: Pillow.Image, data: bytes) -> str:
    """Return what is wrong with the bytes after the header; "" if nothing is."""
    try:
        image.load()
    except DECODER_ERRORS as error:
        return f"cut short or damaged: {' '.join(str(error).split()):.120}"
    pixels = None if png_fault(data) else decode_image(data)
    if pixels is None:
        return "cut short, damaged or of a kind that OpenCV cannot read"
    if pixels.shape[1::-1] != image.size:
        return f"which Pillow decodes to {image.size}, OpenCV to {pixels.shape[1::-1]}"
    return ""


def _describe(data: bytes) -> str:
    for name, start in OTHER_CONTENT.items():
        if re.match(start, data, re.IGNORECASE | re.DOTALL):
            return f"{len(data)} bytes of {name}"
    return f"{len(data)} bytes that start with {data[:12]!r}"


def _fault(file: ImageFile, kind: str, text: str) -> Fault:
    return Fault(KINDS[kind].name, (file.split, file.name), f"{file.name}: {text}", file.name)


def _run_all(chunks: list[list[ImageFile]], workers: int) -> Iterator[list[Fault]]:
    """Yield the faults of each chunk, in order."""
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
                         "the usual cause is too little memory. Lower runtime.workers; 0 starts no processes.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _check_chunk(chunk: list[ImageFile]) -> list[Fault]:
    return [fault for file in chunk for fault in check_image(file)]


def _start_worker() -> None:
    """Leave Ctrl-C to the parent process, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
