"""Download files over HTTP: resumed and verified, whole or some lines only. What they contain is known elsewhere."""

import hashlib
import os
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests
from tqdm import tqdm

from ssd_lib.download.archives import DAMAGED
from ssd_lib.download.connection import (
    AS_STORED,
    LARGEST_BYTES,
    RETRY_POLICY,
    Answer,
    BrokenError,
    RetryPolicy,
    ask,
    check_response,
    content_length,
    raise_if_stopped,
    with_retries,
)
from ssd_lib.download.part_file import (
    LineFilter,
    Partial,
    append_bytes,
    append_lines,
    begin_partial,
    forget_partial,
    part_path,
    read_partial,
)
from ssd_lib.errors import InputError, StateError, visible, visible_lines
from ssd_lib.files import CHUNK_BYTES
from ssd_lib.manifest import Archive

LINE_EVERY_S = 30.0

Append = Callable[[Path, Partial, Iterable[bytes]], Partial]


def fetch(url: str, target: Path, expect_bytes: int | None, expect_md5: str | None, progress: tqdm, *,
          stop: threading.Event | None = None, retry_policy: RetryPolicy = RETRY_POLICY) -> Archive:
    """Download the file at `url` to `target`; return its size and MD5.

    Guarantees: `target` is complete and verified, or absent. Bytes that a broken transfer left are not requested again, and
    bytes of two versions of a file are never mixed: where the server names no version, the MD5 or the CRCs of the zip archive
    show it, and the file is fetched once more. No more than the expected size is read. A correct `target` costs no request.

    Args:
        url: http or https.
        target: the local file; missing folders are made.
        expect_bytes: the required size; None accepts any.
        expect_md5: the required MD5, 32 hex digits; None accepts any.
        progress: a bar of bytes; the reason for a wait is printed above it.
        stop: once set, the transfer ends at the next chunk and keeps what has arrived.
        retry_policy: how often to try and how long to wait.

    Raises:
        InputError: the server has no such file, or sends a web page or a file of another size.
        StateError: `retry_policy.attempts` without new bytes, a wrong file twice, a full disk, a folder in place of `target`,
            or `stop` was set.
    """
    _refuse_folder(target)
    needs_version = not expect_md5 and target.suffix != ".zip"
    job = _Job(url, target, expect_bytes, progress, stop or threading.Event(), retry_policy, needs_version)
    for _ in range(2):  # a wrong file is downloaded once more, from the start
        if not target.exists():
            _transfer(job)
        arrived = target if target.exists() else part_path(target)
        found = _measure(arrived, job.stop)
        fault = _fault(job, arrived, found, expect_md5)
        if not fault:
            os.replace(arrived, target)
            forget_partial(target)
            return found
        arrived.unlink()
    raise StateError(f"{url}: a wrong file, twice: {fault}. Something on the way changes it: try another network.")


def fetch_lines(url: str, target: Path, line_filter: LineFilter, progress: tqdm, retry_policy: RetryPolicy) -> None:
    """Download the lines of the text file at `url` that `line_filter` keeps to `target`.

    Guarantees: the file itself is never complete in memory or on the disk. `target` appears after the last line was filtered,
    or not at all. A broken transfer continues after the last filtered lines, at most NOTE_BYTES before the break. An existing
    `target` costs no request.

    Args:
        url, target, progress, retry_policy: see `fetch`.
        line_filter: called with every line once; with all of them again if the file on the server changes.

    Raises:
        InputError, StateError: see `fetch`; also what `line_filter` raises.
    """
    _refuse_folder(target)
    if not target.exists():
        _transfer(_Job(url, target, None, progress, threading.Event(), retry_policy, append=partial(append_lines, line_filter)))
        os.replace(part_path(target), target)
    forget_partial(target)


def offered_bytes(url: str, retry_policy: RetryPolicy = RETRY_POLICY) -> int | None:
    """Return the size of the file at `url` as the server states it; None if it does not."""
    try:
        with ask(url, retry_policy, method="HEAD") as answer:
            return content_length(answer.response) if answer.response.ok else None
    except (BrokenError, InputError):
        return None  # `fetch` meets the same error, tries longer, and reports it


def transfer_bar(name: str, unit: str = "B", total: int | None = None) -> tqdm:
    """Return a progress bar that is removed when closed; without a terminal it prints a line every half minute."""
    every_s = 0.2 if sys.stderr.isatty() else LINE_EVERY_S
    return tqdm(desc=visible(name, 60), total=total, unit=unit, unit_scale=unit == "B", leave=False, dynamic_ncols=True,
                delay=every_s, mininterval=every_s)


def write_line(text: str) -> None:
    """Print a line to standard error; in a terminal above the bars. tqdm.write would move bars in a file, too."""
    line = visible_lines(text)
    if sys.stderr.isatty():
        tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    expect_bytes: int | None
    progress: tqdm
    stop: threading.Event
    retry_policy: RetryPolicy
    needs_version: bool = True  # to continue; False where the whole file is verified
    append: Append = append_bytes  # how arriving bytes are stored


def _transfer(job: _Job) -> None:
    """Try until the part is complete."""
    def say(text: str) -> None:
        write_line(f"{job.target.name}: {text}")

    with_retries(partial(_attempt, job), job.url, say, job.stop, job.retry_policy, lambda: _there(job).bytes)


def _there(job: _Job) -> Partial:
    return read_partial(job.target, job.needs_version)


def _attempt(job: _Job) -> None:
    """Request what is missing once, and append it."""
    there = _there(job)
    if there.is_complete:
        return  # the last run ended before the file was verified
    rest = {"Range": f"bytes={there.bytes}-"} if there.bytes else {}
    rest |= {"If-Range": there.version} if there.bytes and there.version else {}
    try:
        with ask(job.url, job.retry_policy, headers=rest | AS_STORED) as answer:
            if answer.response.status_code == 416:  # the server's file ends before the part does
                forget_partial(job.target)
                raise BrokenError(f"HTTP 416 {answer.response.reason}")
            check_response(job.url, answer.response)
            _receive(job, answer, _accept(job, answer.response, there))
    except OSError as error:
        raise StateError(f"{part_path(job.target)}: cannot be written: {error.strerror}; what has arrived is kept. "
                         "Free some disk space or correct the permissions, then run the same command again.") from error


def _accept(job: _Job, response: requests.Response, there: Partial) -> Partial:
    """Return what the body continues: the existing part, or an empty part of a new version."""
    etag = response.headers.get("ETag", "")
    is_strong = etag.startswith('"')  # a weak ETag does not identify bytes
    version = etag if is_strong else response.headers.get("Last-Modified", "")
    if response.status_code == 206:
        span, _, total = response.headers.get("Content-Range", "").partition("/")
        same = span.startswith(f"bytes {there.bytes}-") and total == str(there.total_bytes)
        if not same or version not in ("", there.version):
            forget_partial(job.target)
            raise BrokenError("the file changed on the server")
        return there
    total_bytes = content_length(response)
    if None not in (job.expect_bytes, total_bytes) and job.expect_bytes != total_bytes:
        raise InputError(f"{job.url}: the server has {total_bytes} bytes; the official file has {job.expect_bytes}. "
                         "Check data.base_url, and whether a proxy is in the way.")
    total_bytes = job.expect_bytes if total_bytes is None else total_bytes
    if (total_bytes or 0) > LARGEST_BYTES:
        raise InputError(f"{job.url}: the server says that it has {total_bytes} bytes; at most {LARGEST_BYTES} are allowed. "
                         "Check data.base_url.")
    if there.bytes:
        write_line(f"{job.target.name}: the server sends all of it again, not the rest from byte {there.bytes} on; it has a "
                   "new version, or does not know ranges")
    begin_partial(job.target, version, total_bytes)
    return Partial(0, version, total_bytes)


def _receive(job: _Job, answer: Answer, there: Partial) -> None:
    """Append the body to the part."""
    job.progress.total, job.progress.n, job.progress.initial = there.total_bytes, there.bytes, there.bytes
    there = job.append(job.target, there, _chunks(job, answer, there))
    if there.total_bytes not in (None, there.bytes):
        raise BrokenError(f"the transfer ended at {there.bytes} of {there.total_bytes} bytes")


def _chunks(job: _Job, answer: Answer, there: Partial) -> Iterator[bytes]:
    most_bytes = (LARGEST_BYTES if there.total_bytes is None else there.total_bytes) - there.bytes
    for chunk in answer.chunks(most_bytes):
        yield chunk
        most_bytes -= len(chunk)
        job.progress.update(len(chunk))
        raise_if_stopped(job.stop, job.url)
    if most_bytes == 0 and there.total_bytes is None:
        forget_partial(job.target)
        raise InputError(f"{job.url}: the server sent {LARGEST_BYTES} bytes, the most that are read, and no end. Check "
                         "data.base_url.")


def _measure(path: Path, stop: threading.Event) -> Archive:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            raise_if_stopped(stop, str(path))
    return Archive(bytes=size, md5=digest.hexdigest())


def _fault(job: _Job, arrived: Path, found: Archive, expect_md5: str | None) -> str:
    """Return what is wrong with a file that has arrived; "" if nothing is."""
    if found.bytes != (job.expect_bytes or found.bytes) or found.md5 != (expect_md5 or found.md5):
        return (f"{found.bytes} bytes with MD5 {found.md5}; expected {job.expect_bytes or 'any number of'} bytes with MD5 "
                f"{expect_md5}")
    is_unsure = arrived == part_path(job.target) and not job.needs_version and not _there(job).version
    return _zip_fault(arrived) if is_unsure and not expect_md5 else ""


def _zip_fault(path: Path) -> str:
    """Return what is wrong with the CRCs of a zip archive: its bytes may be those of two versions."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except RuntimeError:
        return ""  # it is encrypted, which unpacking tells
    except DAMAGED as error:
        return f"not a zip archive, or damaged ({error})"
    return f"its member {damaged!r} is damaged" if damaged else ""


def _refuse_folder(target: Path) -> None:
    if target.is_dir():
        raise StateError(f"{target}: a folder is in the place of this file, which is downloaded. Move or delete it, then run "
                         "the same command again.")
