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

import numpy as np
from PIL import Image as Pillow
from tqdm import tqdm

from ssd_lib.annotations.faults import KINDS, Fault
from ssd_lib.errors import StateError, no_memory
from ssd_lib.exif import UPRIGHT, read_orientation, upright_size
from ssd_lib.images import (
    DECODER_ERRORS,
    MAX_BYTES,
    MAX_SCANS,
    SUFFIXES_OF_FORMAT,
    decode_image,
    jpeg_scans,
    missing_plugin,
    pillow_formats,
    png_fault,
    read_image_file,
    upright_header_size,
)

MIN_GREY_LEVELS = 32  # of 256 that the values of a 16-bit image span once it is reduced to 8 bits; fewer are a warning
BITS_PER_SAMPLE = 258  # a tag of TIFF
SPAN = (0.1, 99.9)  # percentiles between which they are counted, so that single defective pixels do not count
BYTES_OF_A_PIXEL = 8  # that a decoder needs at most
CHUNK = 32  # images per task: large enough for a small overhead, small enough to react to Ctrl-C
SIGNATURES = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n|GIF8|RIFF....WEBP|II\*\0|MM\0\*", re.DOTALL)  # the header may be damaged
OTHER_CONTENT = {  # unsupported content that is often found under an image's name, by its first bytes
    "a web page, not an image": rb"\s*<(!doctype html|html|head|body|\?xml[^>]*>\s*<html)",
    "a pointer of Git LFS; `git lfs pull` fetches the image": rb"version https://git-lfs",
    "JPEG XL; convert it to JPEG or PNG": rb"\xff\x0a|\0\0\0\x0cJXL \r\n",
    "JPEG 2000; convert it to JPEG or PNG": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ",
    "SVG; convert it to PNG": rb"\s*(<\?xml[^>]*>\s*)?<svg",
}


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
    """Return the faults of one image file: at most one that makes it unusable, `changed`, `wrong_format`, and one on EXIF.

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
        try:
            found = [*_check_bytes(file, data), *_check_pixels(file, data)]
        except MemoryError as error:
            raise StateError(f"{file.path}: while it was decoded, {no_memory(error)}") from error
    return [_fault(file, *fault) for fault in found]


def _check_bytes(file: ImageFile, data: bytes) -> Iterator[tuple[str, str]]:
    if file.recorded is None:
        return
    length, digest = file.recorded
    if len(data) != length:
        yield "changed", f"{len(data)} bytes; the manifest says {length}"
    elif hashlib.sha256(data).hexdigest() != digest:
        yield "changed", "its hash differs from that in the manifest"


def _check_pixels(file: ImageFile, data: bytes) -> Iterator[tuple[str, str] | tuple[str, str, int]]:
    if jpeg_scans(data) > MAX_SCANS:
        yield "too_large", f"a JPEG of more than {MAX_SCANS} scans, which takes too long to decode"
        return
    try:
        with Pillow.open(io.BytesIO(data), formats=pillow_formats()) as image:
            kind, size = image.format or "", upright_header_size(image, data)
            fault, is_deep = _decode_fault(image, data, size), _has_sixteen_bits(image, data)
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        yield "too_large", str(error).partition(",")[0]
        return
    except MemoryError:
        raise
    except DECODER_ERRORS:
        yield "truncated" if SIGNATURES.match(data) else "not_an_image", _describe(data)
        return
    if fault:
        yield "truncated", f"{kind} of {size[0]}x{size[1]}, {fault}"
        return
    orientation = read_orientation(data)
    stored = upright_size(size, orientation)
    if file.size not in (size, stored):
        hint = f" after EXIF turns it from {stored[0]}x{stored[1]}" if stored != size else ""
        yield "size_differs", f"{size[0]}x{size[1]}{hint}; annotated as {file.size[0]}x{file.size[1]}"
        return
    if Path(file.name).suffix.lower() not in SUFFIXES_OF_FORMAT[kind]:
        yield "wrong_format", f"content is {kind}"
    if is_deep and (levels := _grey_levels(data)) < MIN_GREY_LEVELS:
        yield "low_contrast", (f"16 bits, of which the upper 8 are read: its values span {levels} of 256 grey levels, fewer "
                               f"than {MIN_GREY_LEVELS}; set model.sixteen_bit_range: auto")
    if file.size != size:
        text = (f"its labels state {stored[0]}x{stored[1]}, as it is stored; its EXIF orientation is {orientation}, so it is "
                f"read as {size[0]}x{size[1]} and its boxes are turned as well")
        yield "labels_as_stored", text, orientation
    elif orientation != UPRIGHT:
        yield "exif_rotated", (f"its EXIF orientation is {orientation}, so it is read upright, {size[0]}x{size[1]}, as viewers "
                               "show it: check whether its boxes fit")


def _decode_fault(image: Pillow.Image, data: bytes, size: tuple[int, int]) -> str:
    """Return what is wrong with the bytes after the header; "" if nothing is. `size` is that of the upright image."""
    try:
        image.load()
        pixels = None if png_fault(data) else decode_image(data)
    except DECODER_ERRORS as error:
        if isinstance(error, MemoryError):
            np.empty(BYTES_OF_A_PIXEL * size[0] * size[1], dtype=np.uint8)  # if that much is free, the fault is in the file
        return f"cut short or damaged: {' '.join(str(error).split()):.120}"
    if pixels is None:
        return "cut short, damaged or of a kind that OpenCV cannot read"
    if pixels.shape[1::-1] != size:
        return f"which Pillow decodes to {size}, OpenCV to {pixels.shape[1::-1]}"
    return ""


def _has_sixteen_bits(image: Pillow.Image, data: bytes) -> bool:
    """Return whether a PNG, TIFF or binary PNM has 16 bits for each value; Pillow's mode tells it of grayscale only."""
    if image.format == "PNG":
        return data[24] == 16
    if data[:2] in (b"P5", b"P6"):
        return len(data) > 2 * len(image.getbands()) * image.width * image.height
    return max(getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))) == 16


def _grey_levels(data: bytes) -> int:
    """Return how many of the 256 grey levels lie between the darkest and the brightest values that training sees."""
    pixels = decode_image(data)
    low, high = (0, 255) if pixels is None else np.percentile(pixels, SPAN).round().astype(int).tolist()
    return int(high - low + 1)


def _describe(data: bytes) -> str:
    if name := missing_plugin(data):
        return f"{len(data)} bytes of {name}"
    for name, start in OTHER_CONTENT.items():
        if re.match(start, data, re.IGNORECASE | re.DOTALL):
            return f"{len(data)} bytes of {name}"
    return f"{len(data)} bytes that start with {data[:12]!r}"


def _fault(file: ImageFile, kind: str, text: str, orientation: int = UPRIGHT) -> Fault:
    return Fault(KINDS[kind].name, (file.split, file.name), f"{file.name}: {text}", file.name, orientation=orientation)


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
