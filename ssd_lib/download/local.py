"""Data sets of the user's own, where they lie: found, listed and hashed; nothing in their folders is copied or changed. A zip
file is unpacked below data/raw/zips."""

import os
import threading
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ssd_lib.annotations.detect_format import find_dataset
from ssd_lib.annotations.files import files_of, join, join_listings, list_files, move_listing
from ssd_lib.download.archives import Rows, unpack
from ssd_lib.errors import InputError
from ssd_lib.files import in_project, sha256, why_unreadable
from ssd_lib.manifest import Manifest, raw_folder
from ssd_lib.params import DataParams, RuntimeParams

ZIPS = "zips"


class Opened(NamedTuple):
    """One of `data.paths`: the folder, or the one that a zip was unpacked to; all names in it; rows that are known already."""

    folder: Path
    names: frozenset[str]
    rows: Rows


def local(data: DataParams, runtime: RuntimeParams) -> Manifest:
    """List the data sets in the folders and zip files `data.paths`; the folder around all of them is the root of the manifest.

    Guarantees: the files stay where they are. The same files give the same manifest. Which file is what is never guessed:
    where two would fit, both are named. Each split is that of the first path, then that of the second, and so on.

    Args:
        data: its paths may start with ~, or be relative to the project.
        runtime: not used; all sources are called alike.

    Raises:
        InputError: a path is no folder and no zip file, or is there twice; or what is in it is no data set, or not whole.
        StateError: no room for what is in a zip.
    """
    places = [_located(path) for path in data.paths]
    _refuse_twice(data.paths, places)
    opened = [_opened(place) for place in places]
    _refuse_twice(data.paths, [one.folder for one in opened])
    root = _common([one.folder for one in opened])
    forms = data.format if isinstance(data.format, list) else [data.format] * len(opened)
    founds, files = [], Rows()
    for one, form in zip(opened, forms, strict=True):
        found = find_dataset(one.folder, one.names, form, data)
        below = "" if one.folder == root else one.folder.relative_to(root).as_posix()
        founds.append(move_listing(found, below))
        rows = _hashed(one.folder, files_of(found, one.names), one.rows)
        files |= {join(below, name): row for name, row in rows.items()}
    return Manifest(source="local", root=_root_name(root), splits=join_listings(founds).splits, classes=tuple(data.classes),
                    files=dict(sorted(files.items())))


def _located(path: str) -> Path:
    """The folder or zip file of a path."""
    try:
        place = in_project(path).resolve()
        if place.is_dir() or (place.is_file() and zipfile.is_zipfile(place)):
            return place
        fault = why_unreadable(place) or "it is a file, but no zip archive"
    except (OSError, RuntimeError, ValueError) as error:  # no access, links in a circle, a NUL in it
        fault = f"it cannot be read: {error}"
    raise InputError(f"data.paths: {path!r}: {fault}; source: local takes folders and zip files. Correct params.yaml.")


def _refuse_twice(paths: Sequence[str], places: Sequence[Path]) -> None:
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f"data.paths: {paths[places.index(place)]!r} and {paths[number]!r} are the same; each may be "
                             "there once. Remove one.")


def _opened(place: Path) -> Opened:
    if place.is_dir():
        return Opened(place, list_files(place), {})
    folder = raw_folder() / ZIPS / f"{place.stem}-{sha256(place)[:12]}"
    with tqdm(desc=f"{place.name}, unpacking", unit="B", unit_scale=True, leave=False, dynamic_ncols=True, disable=None) as bar:
        rows = unpack(place, folder, None, bar, threading.Event())
    return Opened(folder.resolve(), frozenset(rows), rows)


def _common(folders: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise InputError(f"data.paths: {', '.join(map(str, folders))} are on several drives; all of a data set are on one. "
                         "Move them.") from error


def _root_name(root: Path) -> str:
    """What the manifest calls its root: relative to data/raw if it lies there, so that the project may be moved."""
    raw = raw_folder().resolve()
    return root.relative_to(raw).as_posix() if root.is_relative_to(raw) else str(root)


def _hashed(root: Path, names: set[str], known: Mapping[str, tuple[int, str]]) -> Rows:
    def row(name: str) -> tuple[int, str]:
        try:
            return known.get(name) or ((root / name).stat().st_size, sha256(root / name))
        except OSError as error:
            raise InputError(f"{root / name}: cannot be read: {error.strerror}; all of a data set must be readable. "
                             "Mend its permissions.") from error

    ordered = sorted(names)
    with ThreadPoolExecutor() as pool:
        rows = tqdm(pool.map(row, ordered), "hashing", len(ordered), leave=False, unit="files", disable=None)
        return dict(zip(ordered, rows, strict=True))
