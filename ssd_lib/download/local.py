"""Find, list and hash local datasets; nothing in their folders is copied or changed. A zip is unpacked below data/raw/zips."""

import os
import threading
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ssd_lib.annotations.detect_format import find_dataset
from ssd_lib.annotations.files import join, list_files
from ssd_lib.annotations.listing import files_of, join_listings, move_listing
from ssd_lib.download.archives import Rows, unpack
from ssd_lib.errors import InputError, visible
from ssd_lib.files import in_project, sha256, why_unreadable
from ssd_lib.manifest import Manifest, raw_folder
from ssd_lib.params import DataParams, RuntimeParams

ZIPS = "zips"
RowsOf = Callable[[Path, set[str], Mapping[str, tuple[int, str]]], Rows]  # folder, names, known rows


class Opened(NamedTuple):
    """One of `data.paths`: its folder (or the unpacked one of a zip), all names in it, and rows that are known already."""

    folder: Path
    names: frozenset[str]
    rows: Rows


def local(data: DataParams, runtime: RuntimeParams) -> Manifest:
    """Return the manifest of the datasets in `data.paths` (folders and zips); its root is their common folder.

    Guarantees: the files stay where they are. The same files give the same manifest. Nothing is guessed: if two files could be
    the same thing, the error names both. Each split lists the first path, then the second, and so on.

    Args:
        data: its paths may start with ~ or be relative to the project.
        runtime: not used; all sources have one signature.

    Raises:
        InputError: a path is neither a folder nor a zip, or is given twice, or does not hold a complete dataset.
        StateError: no disk space for the content of a zip.
    """
    return listed(open_paths(data.paths), data, _hashed)


def open_paths(paths: Sequence[str]) -> list[Opened]:
    """Return the folders and zips at these paths, the zips unpacked; raise InputError and StateError as `local` does."""
    places = [_located(path) for path in paths]
    _refuse_twice(paths, places)
    opened = [_opened(place) for place in places]
    _refuse_twice(paths, [one.folder for one in opened])
    return opened


def listed(opened: Sequence[Opened], data: DataParams, rows_of: RowsOf | None = None) -> Manifest:
    """Return the manifest of opened datasets.

    Args:
        opened: of `open_paths`, for `data.paths`.
        data: `format`, `classes`, `val_fraction`, `depictions`.
        rows_of: gives the sizes and hashes of files; None leaves them out, so that only names are read.
    """
    root = _common([one.folder for one in opened])
    forms = data.format if isinstance(data.format, list) else [data.format] * len(opened)
    founds, files = [], Rows()
    for one, form in zip(opened, forms, strict=True):
        found = find_dataset(one.folder, one.names, form, data)
        below = "" if one.folder == root else one.folder.relative_to(root).as_posix()
        founds.append(move_listing(found, below))
        names = files_of(found, one.names)
        rows = dict.fromkeys(names, (0, "")) if rows_of is None else rows_of(one.folder, names, one.rows)
        files |= {join(below, name): row for name, row in rows.items()}
    joined = join_listings(founds)
    return Manifest(source="local", root=_root_name(root), splits=joined.splits, classes=tuple(data.classes),
                    files=dict(sorted(files.items())), counts=joined.counts)


def _located(path: str) -> Path:
    """Return the folder or zip file of a path."""
    try:
        place = in_project(path).resolve()
        if place.is_dir() or (place.is_file() and zipfile.is_zipfile(place)):
            return place
        fault = why_unreadable(place) or "it is a file, but not a zip archive"
    except (OSError, RuntimeError, ValueError) as error:  # no access, circular links, a NUL character
        fault = f"it cannot be read: {error}"
    raise InputError(f"data.paths: {path!r}: {fault}; source: local takes folders and zip files. Correct params.yaml.")


def _refuse_twice(paths: Sequence[str], places: Sequence[Path]) -> None:
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f"data.paths: {paths[places.index(place)]!r} and {paths[number]!r} are the same; each may be "
                             "given once. Remove one.")


def _opened(place: Path) -> Opened:
    if place.is_dir():
        return Opened(place, list_files(place), {})
    folder = raw_folder() / ZIPS / f"{place.stem}-{sha256(place)[:12]}"
    label = f"{visible(place.name, 60)}, unpacking"
    with tqdm(desc=label, unit="B", unit_scale=True, leave=False, dynamic_ncols=True, disable=None) as bar:
        rows = unpack(place, folder, None, bar, threading.Event(), is_own=True)
    return Opened(folder.resolve(), frozenset(rows), rows)


def _common(folders: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise InputError(f"data.paths: {', '.join(map(str, folders))} are on several drives; a dataset must be on one. "
                         "Move them.") from error


def _root_name(root: Path) -> str:
    """Return the root as the manifest names it: relative to data/raw if it is there, so that the project can be moved."""
    raw = raw_folder().resolve()
    return root.relative_to(raw).as_posix() if root.is_relative_to(raw) else str(root)


def _hashed(root: Path, names: set[str], known: Mapping[str, tuple[int, str]]) -> Rows:
    def row(name: str) -> tuple[int, str]:
        try:
            return known.get(name) or ((root / name).stat().st_size, sha256(root / name))
        except OSError as error:
            raise InputError(f"{root / name}: cannot be read: {error.strerror}; every file of a dataset must be readable. "
                             "Correct its permissions.") from error

    ordered = sorted(names)
    with ThreadPoolExecutor() as pool:
        rows = tqdm(pool.map(row, ordered), "hashing", len(ordered), leave=False, unit="files", disable=None)
        return dict(zip(ordered, rows, strict=True))
