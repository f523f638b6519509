"""Download many small image files; each is complete or absent."""

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

from ssd_lib.download.archives import file_sizes, require_space
from ssd_lib.download.connection import BrokenError, RetryPolicy, ask, check_response, content_length, new_session, with_retries
from ssd_lib.download.http import transfer_bar
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import write_json, write_text

IMAGE_BYTES = 300_000  # generous mean size of an Open Images image (longer side 1024 px), to estimate disk space
LARGEST_IMAGE_BYTES = 1 << 28  # 256 MiB; validate reads no larger one
JPEG = b"\xff\xd8\xff"
MISSING = (403, 404, 410)  # HTTP codes of S3 for a missing key; 403 if the store may not be listed
MOST_MISSING = 5  # this many missing images, or 1 % if that is more, are left out; more mean a wrong server
FIRST_IMAGES = 50  # the same if the first 50 are all missing
GRACE_S = 0.5  # how long threads may take to end after Ctrl-C; one in a silent connection ends with the process

Row = tuple[int, str]  # size in bytes, SHA-256


def download_images(folder: Path, base_url: str, names: Sequence[str], threads: int,
                    retry_policy: RetryPolicy) -> dict[str, Row]:
    """Provide the images below `folder`; return size and SHA-256 of each that the server has, by name.

    Guarantees: an image is complete or absent, and fetched once. If all exist, the server is not contacted, and no image is
    read whose recorded size matches. Those that the server does not have are listed in FOLDER-missing.txt and not requested
    again until that file is deleted.

    Args:
        folder: where they go.
        base_url: the URL that their names are relative to.
        names: of the images, each once.
        threads: how many are fetched at the same time.
        retry_policy: see `with_retries`.

    Raises:
        InputError: too many are missing, or the server sends web pages.
        StateError: no disk space, or an unreachable server.
    """
    record_path, missing_path = folder.parent / ".done" / f"{folder.name}.json", folder.parent / f"{folder.name}-missing.txt"
    record = _read_record(record_path)
    missing = set(missing_path.read_text(encoding="utf-8").split()) if missing_path.is_file() else set()
    rows = _existing_rows(folder, names, record)
    wanted = [name for name in names if name not in rows and name not in missing]
    if wanted:
        require_space(folder, len(wanted) * IMAGE_BYTES)
        found = _fetch_all(folder, base_url, wanted, threads, retry_policy)
        rows |= {name: row for name, row in found.items() if row is not None}
        missing |= {name for name, row in found.items() if row is None}
    if missing:
        write_text(missing_path, "".join(f"{name}\n" for name in sorted(missing)))
    if not rows.items() <= record.items():
        if hasattr(os, "sync"):
            os.sync()  # the record names only images that survive a power cut
        write_json(record_path, record | rows)
    return {name: rows[name] for name in names if name in rows}


def fetch_images(folder: Path, base_url: str, names: Sequence[str], threads: int, say: Callable[[str], None],
                 retry_policy: RetryPolicy) -> Generator[tuple[str, Row | None], None, None]:
    """Yield each image once it is in `folder`: its name, and its size and SHA-256; None if the server has no such image.

    Guarantees: once the iterator is closed, no thread begins another image; closing takes at most GRACE_S.

    Raises:
        InputError, StateError: of the first image that fails.
    """
    todo: SimpleQueue[str] = SimpleQueue()
    done: SimpleQueue[tuple[str, Row | BaseException | None]] = SimpleQueue()
    stop = threading.Event()
    for name in names:
        todo.put(name)

    def work() -> None:
        with new_session() as session:  # one for each thread: its connection is reused
            while not stop.is_set() and (name := _next(todo)) is not None:
                try:
                    done.put((name, _fetch_image(session, f"{base_url}/{name}", folder / name, say, stop, retry_policy)))
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


def _fetch_image(session: requests.Session, url: str, path: Path, say: Callable[[str], None], stop: threading.Event,
                 retry_policy: RetryPolicy) -> Row | None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        row = with_retries(lambda: _save(session, url, temporary, retry_policy), url, say, stop, retry_policy)
        if row is not None:
            os.replace(temporary, path)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror or error}; what has arrived is kept. Free some disk "
                         f"space or correct the permissions, then run the same command again.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return row


def _save(session: requests.Session, url: str, temporary: Path, retry_policy: RetryPolicy) -> Row | None:
    """Write an image to a file as it arrives; return None if the server has none, or it is not a JPEG."""
    with ask(url, retry_policy, session) as answer:
        if answer.response.status_code in MISSING:
            return None
        check_response(url, answer.response)
        stated, size, digest = content_length(answer.response), 0, hashlib.sha256()
        with temporary.open("wb") as file:
            for chunk in answer.chunks(LARGEST_IMAGE_BYTES + 1):
                if size == 0 and not chunk.startswith(JPEG):
                    return None
                size += file.write(chunk)
                digest.update(chunk)
    if size > LARGEST_IMAGE_BYTES:
        raise InputError(f"{url}: the server sends more than {LARGEST_IMAGE_BYTES} bytes, the most for an image. Check "
                         "data.base_url.")
    if stated not in (None, size):
        raise BrokenError(f"{size} of {stated} bytes arrived")
    return (size, digest.hexdigest()) if size else None


def _fetch_all(folder: Path, base_url: str, names: Sequence[str], threads: int,
               retry_policy: RetryPolicy) -> dict[str, Row | None]:
    """Fetch the images under one progress bar; None stands for a missing one."""
    found: dict[str, Row | None] = {}
    with transfer_bar(folder.name, " images", len(names)) as bar, closing(
        fetch_images(folder, base_url, names, threads, bar.set_postfix_str, retry_policy)
    ) as fetched:
        for name, row in fetched:
            found[name] = row
            bar.update()
            if row is None:
                _check_missing(base_url, [each for each, there in found.items() if there is None], len(found), len(names))
    return found


def _check_missing(base_url: str, missing: Sequence[str], asked: int, total: int) -> None:
    most = max(MOST_MISSING, total // 100)
    if len(missing) > most or len(missing) == asked == min(FIRST_IMAGES, total):
        raise InputError(f"{base_url}: {len(missing)} of {asked} images do not exist (HTTP 403 or 404, or not a JPEG), such as "
                         f"{missing[0]!r}; at most {most} of {total} may be missing. Check data.base_url: is it the right "
                         "server?")


def _existing_rows(folder: Path, names: Iterable[str], record: dict[str, Row]) -> dict[str, Row]:
    """Return the rows of images that exist: as recorded if the size matches, else hashed."""
    sizes = file_sizes(folder)
    there = [name for name in names if name in sizes]
    known = {name: record[name] for name in there if name in record and record[name][0] == sizes[name]}
    with ThreadPoolExecutor() as pool:
        unknown = [name for name in there if name not in known]
        hashed = zip(unknown, pool.map(lambda name: _hash_jpeg(folder / name), unknown), strict=True)
        return known | {name: row for name, row in hashed if row is not None}


def _hash_jpeg(path: Path) -> Row | None:
    """Return size and SHA-256 of a file; None if it is not a JPEG: a power cut leaves files without their bytes."""
    content = path.read_bytes()
    return (len(content), hashlib.sha256(content).hexdigest()) if content.startswith(JPEG) else None


def _read_record(path: Path) -> dict[str, Row]:
    try:
        return {name: (int(size), str(digest)) for name, (size, digest) in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # without a record the images are hashed again
