"""The pixel cache, `data.cache`: training decodes small images, or none at all, and not whole photographs again and again.

data/cache/ of the main repository holds an entry for each content that a training image has had: all data sets and runs share
them, and nothing in it is ever out of date. Validation and evaluation read the originals.

`ssd cache` shows what is there; `ssd cache --prune` removes what the current params.yaml and data/fixed do not need.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.data.pixel_cache_entries import (
    CACHE_FORMATS,
    HEADER_BYTES,
    Form,
    Kind,
    cache_name,
    entry_bytes,
    entry_sizes,
    short_side,
)
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import in_project
from ssd_lib.images import LIST_FILES_HINT
from ssd_lib.manifest import REPAIR_HINT, Manifest, load_manifest
from ssd_lib.params import load_params
from ssd_lib.processes import available_cores

CACHE_FOLDER = "data/cache"
BATCH = 2048  # entries that reach the disk together; a killed filler makes as many again at most
ABANDONED_S = 3600  # nobody works so long on a batch
GB = 1e9


def open_cache(kind: Kind, image_size: int, fixed: FixedSet, manifest: Manifest) -> Callable[[int], np.ndarray] | None:
    """The function from the index of an image to its pixels, of which every one is in the cache then; None for "none".

    Guarantees: an entry is under its name whole and on the disk, or not at all, whatever stops the filler and whenever; what is
    there is not made again. Its name is the SHA-256 of the image file, and it was made of a file with that hash.

    Args:
        kind: `data.cache`.
        image_size: of the net.
        fixed: the training images.
        manifest: their files.

    Raises:
        InputError: an image is none.
        StateError: the disk is full, or cannot hold all entries; or a file is not what the manifest says.
    """
    if kind == "none":
        return None
    folder, form, side = in_project(CACHE_FOLDER) / cache_name(kind, image_size), CACHE_FORMATS[kind], short_side(image_size)
    names = [fixed.file_name(index) for index in range(len(fixed))]
    digests = np.array([manifest.files[name][1] for name in names], dtype="S64")  # one block: forks of loaders share it
    there = _entries(folder)
    missing = {digest: index for index, digest in enumerate(digests.astype(str).tolist()) if digest not in there}
    if missing:
        indices = list(missing.values())
        file_bytes = np.array([manifest.files[names[index]][0] for index in indices])
        _check_space(folder, form, fixed.sizes[indices], file_bytes, side)
        _fill(folder, form, side, {digest: manifest.path(names[index]) for digest, index in missing.items()})
    return partial(_pixels, form, folder, digests)


def expected_bytes(form: Form, sizes: np.ndarray, file_bytes: np.ndarray, side: int) -> int:
    """What entries will take on the disk.

    Args:
        form: a value of `CACHE_FORMATS`.
        sizes: (N, 2), (height, width) of the images.
        file_bytes: (N,) sizes of their files.
        side: from `short_side`.
    """
    scaled = entry_sizes(sizes, side).prod(axis=1) * form.bytes_per_pixel + HEADER_BYTES
    is_file = form.keeps_small_files & (sizes.min(axis=1) <= side)
    return int(np.where(is_file, file_bytes, scaled).sum())


def show_cache(prune: bool) -> list[str]:
    """Describe the caches, a line each.

    Args:
        prune: first remove what the current params.yaml and data/fixed do not need, even if other runs use it.

    Raises:
        InputError, StateError: what is needed cannot be read.
    """
    needed = _needed() if prune else {}
    lines = []
    for folder in sorted(path for path in in_project(CACHE_FOLDER).glob("*") if path.is_dir()):
        if prune:
            _prune(folder, needed.get(folder.name, set()))
        sizes = [path.stat().st_size for path in folder.glob("[!.]*")]
        lines.append(f"{folder}: {len(sizes)} images, {sum(sizes) / GB:.3f} GB")
    return lines


def _pixels(form: Form, folder: Path, digests: np.ndarray, index: int) -> np.ndarray:
    return form.read(folder / digests[index].decode())


def _entries(folder: Path) -> set[str]:
    """The names of all entries; what a killed filler left half done goes."""
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as found:
        names = {entry.name for entry in found}
    for name in [name for name in names if name.endswith(".tmp")]:
        if time.time() - (folder / name).stat().st_mtime > ABANDONED_S:
            (folder / name).unlink(missing_ok=True)
    return names


def _check_space(folder: Path, form: Form, sizes: np.ndarray, file_bytes: np.ndarray, side: int) -> None:
    need = expected_bytes(form, sizes, file_bytes, side)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise StateError(f"{folder}: {need / GB:.3f} GB are needed for {len(sizes)} images, {free / GB:.3f} GB are free on "
                         "this disk; nothing was started. Free some space (`ssd cache --prune`), or "
                         "set data.cache: none, or jpeg, which takes a seventh of raw.")
    tqdm.write(f"{folder}: {len(sizes)} images will take some {need / GB:.3f} GB; {free / GB:.3f} GB are free", file=sys.stderr)


def _fill(folder: Path, form: Form, side: int, missing: Mapping[str, Path]) -> None:
    """Make entries, of the SHA-256 and file of each image; decoders let other threads work, so that these fill all cores."""
    todo = list(missing.items())
    with (ThreadPoolExecutor(available_cores()) as pool,
          tqdm(desc="cache", total=len(todo), unit="img", leave=False, dynamic_ncols=True, disable=None) as bar):
        for start in range(0, len(todo), BATCH):
            digests, paths = zip(*todo[start:start + BATCH], strict=True)
            made = []
            for temporary in pool.map(partial(_make, folder, form, side), digests, paths):
                made.append(temporary)
                bar.update()
            if hasattr(os, "sync"):
                os.sync()  # one for all: names are given to what a power cut cannot take away
            for digest, temporary in zip(digests, made, strict=True):
                os.replace(temporary, folder / digest)


def _make(folder: Path, form: Form, side: int, digest: str, path: Path) -> Path:
    """Write the entry of an image file under a temporary name, and give that."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. {LIST_FILES_HINT}.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise StateError(f"{path}: has other bytes than the manifest says. {REPAIR_HINT}.")
    entry = entry_bytes(data, form, side)
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
        raise StateError(f"{temporary}: cannot be written: {error.strerror}; what is there is kept. Free some disk space or "
                         "mend the permissions, then run the same command again; or set data.cache: none.") from error
    return temporary


def _needed() -> dict[str, set[str]]:
    """What the present parameters and data need: the name of a cache -> its entries."""
    params = load_params("data", "model")
    if params.data.cache == "none":
        return {}
    fixed, files = load_fixed("train"), load_manifest().files
    digests = {files[fixed.file_name(index)][1] for index in range(len(fixed))}
    return {cache_name(params.data.cache, params.model.image_size): digests}


def _prune(folder: Path, needed: set[str]) -> None:
    for path in list(folder.iterdir()):
        if path.name not in needed:
            path.unlink()
    if not needed:
        folder.rmdir()
