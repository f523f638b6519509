"""Pixel cache (`data.cache`): training reads scaled JPEG images or decoded pixels instead of the original image files.

data/cache/ of the main repository holds one entry per image content. All datasets and runs share it, and no entry can be out of
date. Validation and evaluation read the originals. `ssd cache` lists the caches; `ssd cache --prune` removes entries that the
current params.yaml and data/fixed do not need.
"""

import hashlib
import mmap
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.errors import InputError, StateError, plural
from ssd_lib.files import in_project
from ssd_lib.images import FULL_RANGE, LIST_FILES_HINT, Range, decode_image, find_range
from ssd_lib.manifest import REPAIR_HINT, Manifest, load_manifest
from ssd_lib.params import load_params
from ssd_lib.processes import available_cores

CACHE_FOLDER = "data/cache"
BATCH = 2048  # entries synced to disk together; after a kill at most this many are made again
ABANDONED_S = 3600  # age of a temporary file that no running process still uses
GB = 1e9
CacheKind = Literal["none", "jpeg", "raw"]
RECIPE = 2  # increase it when the pixels made from an image change
JPEG_QUALITY = 95
HEADER_BYTES = 8  # of a raw entry: height and width as little-endian uint32; RGB pixels follow


class CacheFormat(NamedTuple):
    """One way to store pixels in a file.

    Attributes:
        pack: (pixels, bytes of the image file if it has exactly these pixels, else None) -> the bytes of an entry.
        read: the file of an entry -> (H, W, 3) uint8 RGB, read-only.
        bytes_per_pixel: of a scaled image. Exact for raw; JPEG entries of COCO have a mean of 0.40 at a short side of 400 px
            and of 0.48 at 214 px, and a 95th percentile of 0.62 and 0.68.
        keeps_small_files: whether an image that needs no scaling is stored as its file.
    """

    pack: Callable[[np.ndarray, bytes | None], bytes]
    read: Callable[[Path], np.ndarray]
    bytes_per_pixel: float
    keeps_small_files: bool


def open_cache(kind: CacheKind, image_size: int, fixed: FixedSet, manifest: Manifest,
               deep_range: Range = FULL_RANGE) -> Callable[[int], np.ndarray] | None:
    """Fill the cache; return the function from an image index to its pixels, or None for "none".

    Guarantees: an entry is complete and on disk, or absent, even if this process is killed; existing entries are not made
    again. The name of an entry is the SHA-256 of the image file that it was made from.

    Args:
        kind: `data.cache`.
        image_size: of the net.
        fixed: the training images.
        manifest: their files.
        deep_range: see `decode_image`.

    Raises:
        InputError: a file is not an image.
        StateError: the disk is full, or cannot hold all entries; or a file is not what the manifest says.
    """
    if kind == "none":
        return None
    folder = in_project(CACHE_FOLDER) / cache_name(kind, image_size, deep_range)
    cache_format, side = CACHE_FORMATS[kind], short_side(image_size)
    names = [fixed.file_name(index) for index in range(len(fixed))]
    digests = np.array([manifest.files[name][1] for name in names], dtype="S64")  # one array: forked workers share its memory
    existing = _entries(folder)
    missing = {digest: index for index, digest in enumerate(digests.astype(str).tolist()) if digest not in existing}
    if missing:
        indices = list(missing.values())
        file_bytes = np.array([manifest.files[names[index]][0] for index in indices])
        _check_space(folder, cache_format, fixed.sizes[indices], file_bytes, side)
        entry_of = partial(entry_bytes, cache_format=cache_format, side=side, deep_range=deep_range)
        _fill(folder, entry_of, {digest: manifest.path(names[index]) for digest, index in missing.items()})
    return partial(_pixels, cache_format, folder, digests)


def expected_bytes(cache_format: CacheFormat, sizes: np.ndarray, file_bytes: np.ndarray, side: int) -> int:
    """Return the disk space that entries will need, in bytes.

    Args:
        cache_format: a value of `CACHE_FORMATS`.
        sizes: (N, 2), (height, width) of the images.
        file_bytes: (N,) sizes of their files.
        side: from `short_side`.
    """
    scaled = entry_sizes(sizes, side).prod(axis=1) * cache_format.bytes_per_pixel + HEADER_BYTES
    is_file = cache_format.keeps_small_files & (sizes.min(axis=1) <= side)
    return int(np.where(is_file, file_bytes, scaled).sum())


def show_cache(prune: bool) -> list[str]:
    """Describe the caches, one line each, or say that the folder is empty.

    Args:
        prune: first remove entries that the current params.yaml and data/fixed do not need, even if other runs use them.

    Raises:
        InputError, StateError: params.yaml or data/fixed cannot be read.
    """
    needed = _needed() if prune else {}
    lines = []
    for folder in sorted(path for path in in_project(CACHE_FOLDER).glob("*") if path.is_dir()):
        if prune:
            _prune(folder, needed.get(folder.name, set()))
        sizes = [path.stat().st_size for path in folder.glob("[!.]*")]
        lines.append(f"{folder}: {plural(len(sizes), 'image')}, {sum(sizes) / GB:.3f} GB")
    return lines or [f"{in_project(CACHE_FOLDER)}: empty; training fills it if data.cache is jpeg or raw"]


def cache_name(kind: CacheKind, image_size: int, deep_range: Range = FULL_RANGE) -> str:
    """Return the name of the cache for an input size; it has everything that determines the pixels of entries."""
    ranged = "" if deep_range == FULL_RANGE else "-{}-{}".format(*deep_range)
    return f"{kind}-{short_side(image_size)}-{RECIPE}{ranged}"


def short_side(image_size: int) -> int:
    """Return the short side of entries in pixels: 4/3 of the net's input, so that a crop of 3/4 still has enough pixels."""
    return -(-4 * image_size // 3)


def entry_sizes(sizes: np.ndarray, side: int) -> np.ndarray:
    """Return the sizes of images in the cache.

    Guarantees: the short side is `side`, and the long side is rounded to whole pixels; smaller images keep their size.

    Args:
        sizes: (N, 2) integers.
        side: from `short_side`.

    Returns:
        (N, 2) int64.
    """
    scale = np.minimum(1, side / sizes.min(axis=1, keepdims=True))
    return np.rint(sizes * scale).astype(np.int64)


def entry_bytes(data: bytes, cache_format: CacheFormat, side: int, deep_range: Range = FULL_RANGE) -> bytes | None:
    """Return the entry of an image file with the content `data`; None if that is not an image."""
    image = decode_image(data, deep_range)
    if image is None:
        return None
    height, width = entry_sizes(np.array([image.shape[:2]]), side)[0].tolist()
    if (height, width) == image.shape[:2]:
        return cache_format.pack(image, data if deep_range == FULL_RANGE else None)
    return cache_format.pack(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), None)


def _pixels(cache_format: CacheFormat, folder: Path, digests: np.ndarray, index: int) -> np.ndarray:
    return cache_format.read(folder / digests[index].decode())


def _entries(folder: Path) -> set[str]:
    """Return the names of all entries; delete temporary files that a killed process left."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as found:
        names = {entry.name for entry in found}
    for name in [name for name in names if name.endswith(".tmp")]:
        if time.time() - (folder / name).stat().st_mtime > ABANDONED_S:
            (folder / name).unlink(missing_ok=True)
    return names


def _check_space(folder: Path, cache_format: CacheFormat, sizes: np.ndarray, file_bytes: np.ndarray, side: int) -> None:
    need = expected_bytes(cache_format, sizes, file_bytes, side)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise StateError(f"{folder}: {need / GB:.3f} GB are needed for {plural(len(sizes), 'image')}, {free / GB:.3f} GB are "
                         "free on this disk; nothing was written. Free some space (`ssd cache --prune`), or set "
                         "data.cache: none, or jpeg, which takes a seventh of raw.")
    tqdm.write(f"{folder}: {plural(len(sizes), 'image')} need about {need / GB:.3f} GB; {free / GB:.3f} GB are free",
               file=sys.stderr)


def _fill(folder: Path, entry_of: Callable[[bytes], bytes | None], missing: Mapping[str, Path]) -> None:
    """Make an entry for each SHA-256 and image file, in threads: decoders release the GIL."""
    todo = list(missing.items())
    with (ThreadPoolExecutor(available_cores()) as pool,
          tqdm(desc="cache", total=len(todo), unit="img", leave=False, dynamic_ncols=True, disable=None) as bar):
        for start in range(0, len(todo), BATCH):
            digests, paths = zip(*todo[start:start + BATCH], strict=True)
            temporaries = []
            for temporary in pool.map(partial(_make, folder, entry_of), digests, paths):
                temporaries.append(temporary)
                bar.update()
            if hasattr(os, "sync"):
                os.sync()  # once per batch; entries get their final names afterwards
            for digest, temporary in zip(digests, temporaries, strict=True):
                os.replace(temporary, folder / digest)


def _make(folder: Path, entry_of: Callable[[bytes], bytes | None], digest: str, path: Path) -> Path:
    """Write the entry of an image file; return its temporary name."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {LIST_FILES_HINT}.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise StateError(f"{path}: differs from the manifest. {REPAIR_HINT}.")
    entry = entry_of(data)
    if entry is None:
        raise InputError(f"{path}: not an image that OpenCV reads. {LIST_FILES_HINT}.")
    temporary = folder / f".{digest}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(entry)
            if not hasattr(os, "sync"):
                os.fsync(file.fileno())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StateError(f"{temporary}: cannot be written: {error.strerror}; existing entries are kept. Free some disk space "
                         f"or correct the permissions, then run the same command again; or set data.cache: none.") from error
    return temporary


def _needed() -> dict[str, set[str]]:
    """Return the entries that the current parameters and data need: name of a cache -> names of its entries."""
    params = load_params("data", "model")
    if params.data.cache == "none":
        return {}
    fixed, files = load_fixed("train"), load_manifest().files
    digests = {files[fixed.file_name(index)][1] for index in range(len(fixed))}
    paths = [load_manifest().path(fixed.file_name(index)) for index in range(len(fixed))]
    deep_range = find_range(params.model.sixteen_bit_range, paths)
    return {cache_name(params.data.cache, params.model.image_size, deep_range): digests}


def _prune(folder: Path, needed: set[str]) -> None:
    for path in list(folder.iterdir()):
        if path.name not in needed:
            path.unlink()
    if not needed:
        folder.rmdir()


def _pack_jpeg(pixels: np.ndarray, file: bytes | None) -> bytes:
    if file is not None:  # encoding again would lose quality
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
    """Map the file into memory, so that pixels outside the crop are not read."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        height, width = np.frombuffer(content, "<u4", 2)
        return np.frombuffer(content, np.uint8, offset=HEADER_BYTES).reshape(height, width, 3)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, why: object) -> InputError:
    return InputError(f"{path}: not an entry of the pixel cache: {why}. Delete it if it exists; the same command makes it "
                      "again.")


CACHE_FORMATS = {
    "jpeg": CacheFormat(_pack_jpeg, _read_jpeg, bytes_per_pixel=0.5, keeps_small_files=True),
    "raw": CacheFormat(_pack_raw, _read_raw, bytes_per_pixel=3, keeps_small_files=False),
}
