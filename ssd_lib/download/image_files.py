"""Many small image files from a server, each whole or absent. Which ones, and what is on them, is known elsewhere."""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import requests

from ssd_lib.download.archives import require_space
from ssd_lib.download.progress import transfer_bar
from ssd_lib.download.retries import (
    AS_STORED,
    BrokenError,
    RetryPolicy,
    check_response,
    content_length,
    network_faults,
    with_retries,
)
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import write_json, write_text

PHOTO_BYTES = 300_000  # of an image of Open Images, whose longer side is 1024 pixels: a generous mean, for the disk space
JPEG = b"\xff\xd8\xff"
MISSING = (403, 404, 410)  # HTTP codes of S3 for a key that is not there; 403 where the store may not be listed
FORGIVEN = 5  # so many missing photos, or 1 % where that is more, are left out; more are a sign of a wrong server
FIRST = 50  # and so are these, where they are all missing
GRACE_S = 0.5  # how long threads may finish after Ctrl-C; one that hangs in a silent connection is left to end with the process

Row = tuple[int, str]  # size in bytes, SHA-256


def collect_photos(folder: Path, base_url: str, names: Sequence[str], threads: int, patience: RetryPolicy) -> dict[str, Row]:
    """Have the photos on the disk; size and SHA-256 of each that the server has, by its name.

    Guarantees: a photo is there whole or not at all, and is fetched once. When all are there, the server is asked nothing, and no
    photo is read that was recorded with its size. Those that the server does not have are written down in FOLDER-missing.txt
    and not asked for again until that is deleted.

    Args:
        folder: where they go.
        base_url: what their names are below.
        names: of the photos, each once.
        threads: how many are fetched at the same time.
        patience: see `with_retries`.

    Raises:
        InputError: too many are missing, or the server sends web pages.
        StateError: no disk space, or a server that is away.
    """
    record_path, missing_path = folder.parent / ".done" / f"{folder.name}.json", folder.parent / f"{folder.name}-missing.txt"
    record = _read_record(record_path)
    missing = set(missing_path.read_text(encoding="utf-8").split()) if missing_path.exists() else set()
    rows = _rows_there(folder, names, record)
    wanted = [name for name in names if name not in rows and name not in missing]
    if wanted:
        require_space(folder, len(wanted) * PHOTO_BYTES)
        found = _fetch_all(folder, base_url, wanted, threads, patience)
        rows |= {name: row for name, row in found.items() if row is not None}
        missing |= {name for name, row in found.items() if row is None}
    if missing:
        write_text(missing_path, "".join(f"{name}\n" for name in sorted(missing)))
    if not rows.items() <= record.items():
        if hasattr(os, "sync"):
            os.sync()  # the record speaks of photos that a power cut cannot take away
        write_json(record_path, record | rows)
    return {name: rows[name] for name in names if name in rows}


def fetch_photos(folder: Path, base_url: str, names: Sequence[str], threads: int, say: Callable[[str], None],
                 patience: RetryPolicy) -> Generator[tuple[str, Row | None], None, None]:
    """Each photo as soon as it lies in `folder`: its name, and its size and SHA-256; None where the server has none.

    Guarantees: once the iterator is closed, no thread begins another photo, and it is closed within GRACE_S.

    Raises:
        InputError, StateError: of the first photo that fails.
    """
    todo: SimpleQueue[str] = SimpleQueue()
    done: SimpleQueue[tuple[str, Row | BaseException | None]] = SimpleQueue()
    stop = threading.Event()
    for name in names:
        todo.put(name)

    def work() -> None:
        with requests.Session() as session:  # a thread's own: its connection is kept from photo to photo
            while not stop.is_set() and (name := _next(todo)) is not None:
                try:
                    done.put((name, _fetch_photo(session, f"{base_url}/{name}", folder / name, say, stop, patience)))
                except BaseException as error:  # noqa: BLE001 - raised again below
                    done.put((name, error))

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, len(names)))]
    for worker in workers:
        worker.start()
    try:
        for _ in names:
            name, outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield name, outcome
    finally:
        stop.set()
        end_s = time.monotonic() + GRACE_S
        for worker in workers:
            worker.join(max(0.0, end_s - time.monotonic()))


def _next(todo: SimpleQueue[str]) -> str | None:
    try:
        return todo.get_nowait()
    except Empty:
        return None


def _fetch_photo(session: requests.Session, url: str, path: Path, say: Callable[[str], None], stop: threading.Event,
                 patience: RetryPolicy) -> Row | None:
    content = with_retries(lambda: _ask(session, url, patience), url, say, stop, patience)
    if content is None:
        return None
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StateError(f"{path}: cannot be written: {error.strerror or error}; what is there is kept. Free some disk space "
                         "or mend the permissions, then run the same command again.") from error
    return len(content), hashlib.sha256(content).hexdigest()


def _ask(session: requests.Session, url: str, patience: RetryPolicy) -> bytes | None:
    """The bytes of a photo; None where the server has none, or what it has is no JPEG."""
    with network_faults(url):
        response = session.get(url, headers=AS_STORED, timeout=patience.timeout_s)
    if response.status_code in MISSING:
        return None
    check_response(url, response)
    if content_length(response) not in (None, len(response.content)):
        raise BrokenError(f"{len(response.content)} of {content_length(response)} bytes came")
    return response.content if response.content.startswith(JPEG) else None


def _fetch_all(folder: Path, base_url: str, names: Sequence[str], threads: int, patience: RetryPolicy) -> dict[str, Row | None]:
    """Fetch the photos under one bar; None stands for a missing one."""
    found: dict[str, Row | None] = {}
    with transfer_bar(folder.name, " images", len(names)) as bar, closing(
        fetch_photos(folder, base_url, names, threads, bar.set_postfix_str, patience)
    ) as photos:
        for name, row in photos:
            found[name] = row
            bar.update()
            if row is None:
                _check_missing(base_url, [each for each, there in found.items() if there is None], len(found), len(names))
    return found


def _check_missing(base_url: str, missing: Sequence[str], asked: int, total: int) -> None:
    most = max(FORGIVEN, total // 100)
    if len(missing) > most or len(missing) == asked == min(FIRST, total):
        raise InputError(f"{base_url}: {len(missing)} of {asked} images are not there (HTTP 403 or 404, or no JPEG), such as "
                         f"{missing[0]!r}; at most {most} of {total} may be missing. Check data.base_url: is it the right "
                         "server?")


def _rows_there(folder: Path, names: Iterable[str], record: dict[str, Row]) -> dict[str, Row]:
    """Those photos that are on the disk: as recorded where the size is the recorded one, else looked at and hashed."""
    sizes = _sizes(folder)
    there = [name for name in names if name in sizes]
    known = {name: record[name] for name in there if name in record and record[name][0] == sizes[name]}
    with ThreadPoolExecutor() as pool:
        unknown = [name for name in there if name not in known]
        hashed = zip(unknown, pool.map(lambda name: _look_at(folder / name), unknown), strict=True)
        return known | {name: row for name, row in hashed if row is not None}


def _look_at(path: Path) -> Row | None:
    """Size and SHA-256 of a file; None where it does not begin as a JPEG does: a power cut leaves files without their bytes."""
    content = path.read_bytes()
    return (len(content), hashlib.sha256(content).hexdigest()) if content.startswith(JPEG) else None


def _sizes(folder: Path) -> dict[str, int]:
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


def _read_record(path: Path) -> dict[str, Row]:
    try:
        return {name: (int(size), str(digest)) for name, (size, digest) in json.loads(path.read_bytes()).items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}  # nothing is known: the photos are hashed again
