"""Download files over HTTP: retried, resumed and verified, whole or some lines only. What they contain is known elsewhere.

urllib3's Retry is not used: it sleeps where no stop signal reaches it, and a transfer that keeps bringing bytes must not use up
its attempts.
"""

import hashlib
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import IncompleteRead
from pathlib import Path
from typing import TypeVar

import requests
from tqdm import tqdm

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
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import CHUNK_BYTES
from ssd_lib.manifest import Archive

RECEIVE_BYTES = 1 << 16  # a broken connection loses at most this much
LONGEST_WAIT_S = 30.0
LONGEST_ASKED_S = 120.0  # a longer Retry-After is not obeyed
BUSY = (408, 425, 429)  # HTTP codes below 500 that mean "ask again later"
AS_STORED = {"Accept-Encoding": "identity"}  # sizes and ranges count the file's bytes, not a compressed transfer's
LINE_EVERY_S = 30.0

T = TypeVar("T")
Append = Callable[[Path, Partial, Iterable[bytes]], Partial]


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server: `attempts` in a row without new bytes end the transfer."""

    attempts: int = 8
    first_wait_s: float = 1.0  # doubles with each attempt, up to LONGEST_WAIT_S
    timeout_s: float = 20.0  # without a single byte


RETRY_POLICY = RetryPolicy()


class BrokenError(Exception):
    """An attempt failed; another may succeed, after `asked_s` seconds if the server sent Retry-After."""

    def __init__(self, reason: str, asked_s: float = 0.0) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


def fetch(url: str, target: Path, expect_bytes: int | None, expect_md5: str | None, progress: tqdm, *,
          stop: threading.Event | None = None, retry_policy: RetryPolicy = RETRY_POLICY) -> Archive:
    """Download the file at `url` to `target`; return its size and MD5.

    Guarantees: `target` is complete and verified, or absent. Bytes that a broken transfer left are not requested again, and
    bytes of two versions of a file are never mixed. A correct `target` costs no request.

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
        StateError: `retry_policy.attempts` without new bytes, a wrong file twice, a full disk, or `stop` was set.
    """
    job = _Job(url, target, expect_bytes, progress, stop or threading.Event(), retry_policy)
    for _ in range(2):  # a wrong file is downloaded once more, from the start
        if not target.exists():
            _transfer(job)
        arrived = target if target.exists() else part_path(target)
        found = _measure(arrived, job.stop)
        if found.bytes == (expect_bytes or found.bytes) and found.md5 == (expect_md5 or found.md5):
            os.replace(arrived, target)
            forget_partial(target)
            return found
        arrived.unlink()
    raise StateError(f"{url}: a wrong file, twice: {found.bytes} bytes with MD5 {found.md5}; expected {expect_bytes} "
                     f"bytes with MD5 {expect_md5}. Something on the way changes it: try another network.")


def fetch_lines(url: str, target: Path, line_filter: LineFilter, progress: tqdm, *, stop: threading.Event | None = None,
                retry_policy: RetryPolicy = RETRY_POLICY) -> None:
    """Download the lines of the text file at `url` that `line_filter` keeps to `target`.

    Guarantees: the file itself is never complete in memory or on the disk. `target` appears after the last line was filtered,
    or not at all. A broken transfer continues after the last filtered lines, at most NOTE_BYTES before the break. An existing
    `target` costs no request.

    Args:
        url, target, progress, stop, retry_policy: see `fetch`.
        line_filter: called with every line once; with all of them again if the file on the server changes.

    Raises:
        InputError, StateError: see `fetch`; also what `line_filter` raises.
    """
    if not target.exists():
        _transfer(_Job(url, target, None, progress, stop or threading.Event(), retry_policy,
                       partial(append_lines, line_filter)))
        os.replace(part_path(target), target)
    forget_partial(target)


def offered_bytes(url: str, retry_policy: RetryPolicy = RETRY_POLICY) -> int | None:
    """Return the size of the file at `url` as the server states it; None if it does not."""
    try:
        response = requests.head(url, headers=AS_STORED, allow_redirects=True, timeout=retry_policy.timeout_s)
    except requests.RequestException:
        return None  # `fetch` meets the same error, tries longer, and reports it
    return content_length(response) if response.ok else None


def transfer_bar(name: str, unit: str = "B", total: int | None = None) -> tqdm:
    """Return a progress bar that is removed when closed; without a terminal it prints a line every half minute."""
    every_s = 0.2 if sys.stderr.isatty() else LINE_EVERY_S
    return tqdm(desc=name, total=total, unit=unit, unit_scale=unit == "B", leave=False, dynamic_ncols=True, delay=every_s,
                mininterval=every_s)


def with_retries(attempt: Callable[[], T], url: str, say: Callable[[str], None], stop: threading.Event,
                 retry_policy: RetryPolicy,
            reached: Callable[[], int] = lambda: 0) -> T:
    """Return the result of the first attempt that does not raise BrokenError.

    Args:
        attempt: raises BrokenError where another attempt may succeed.
        url: for the messages.
        say: called with the reason for each wait.
        stop: once set, waiting ends.
        retry_policy: how often to try and how long to wait.
        reached: returns how many bytes have arrived; an attempt that brought some does not count as a failure.

    Raises:
        StateError: `retry_policy.attempts` without new bytes, or `stop` was set.
    """
    failures, most_bytes = 0, 0
    while True:
        try:
            return attempt()
        except BrokenError as error:
            there = reached()
            failures = 1 if there > most_bytes else failures + 1
            most_bytes = max(there, most_bytes)
            if failures >= retry_policy.attempts:
                raise StateError(f"{url}: {error}; given up after {failures} attempts, {there} bytes are kept. "
                                 "Run the same command again to continue.") from error
            wait_s = max(_backoff_s(failures, retry_policy), error.asked_s)
            say(f"{error}; attempt {failures + 1} of {retry_policy.attempts} in {wait_s:.0f} s")
            stop.wait(wait_s)
            raise_if_stopped(stop, url)


def raise_if_stopped(stop: threading.Event, where: str) -> None:
    """Raise StateError if `stop` is set."""
    if stop.is_set():
        raise StateError(f"{where}: stopped; what has arrived is kept. Run the same command again to continue.")


@contextmanager
def network_faults(url: str) -> Iterator[None]:
    """Translate the errors of a connection.

    Raises:
        BrokenError: it was refused, cut off, or silent for too long.
        InputError: the URL is invalid or redirects without end.
    """
    try:
        yield
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise BrokenError(_reason(error)) from error
    except requests.RequestException as error:
        said = str(error).rstrip(".")
        raise InputError(f"{url}: {said}; a plain http address is needed. Check data.base_url.") from error


def check_response(url: str, response: requests.Response) -> None:
    """Raise an error unless the response holds the bytes of a file.

    Raises:
        BrokenError: the server is busy or failing.
        InputError: it has no such file, or sends a web page or compressed bytes.
    """
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code >= 500 or response.status_code in BUSY:
        asked = response.headers.get("Retry-After", "")
        raise BrokenError(status, min(float(asked), LONGEST_ASKED_S) if asked.isdecimal() else 0.0)
    if response.status_code not in (200, 206):
        raise InputError(f"{url}: the server answers {status}; this file must exist. Check data.base_url, or "
                         "open the address in a browser.")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise InputError(f"{url}: the server sent a web page (text/html); a file of data was expected. Check "
                         "data.base_url, and whether this network requires a login.")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise InputError(f"{url}: the server sent it compressed (Content-Encoding: {encoding}); the plain bytes of "
                         "the file are needed, to check their number. Configure it to serve files as they are, or look for a "
                         "proxy in between.")


def content_length(response: requests.Response) -> int | None:
    """Return the size of the body as the server states it; None if it does not."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else None


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    expect_bytes: int | None
    progress: tqdm
    stop: threading.Event
    retry_policy: RetryPolicy
    append: Append = append_bytes  # how arriving bytes are stored


def _transfer(job: _Job) -> None:
    """Try until the part is complete."""
    def say(text: str) -> None:
        job.progress.write(f"{job.target.name}: {text}", file=sys.stderr)

    with_retries(partial(_attempt, job), job.url, say, job.stop, job.retry_policy, lambda: read_partial(job.target).bytes)


def _attempt(job: _Job) -> None:
    """Request what is missing once, and append it."""
    there = read_partial(job.target)
    if there.is_complete:
        return  # the last run ended before the file was verified
    rest = {"Range": f"bytes={there.bytes}-", "If-Range": there.version} if there.bytes else {}
    try:
        with network_faults(job.url), requests.get(job.url, headers=rest | AS_STORED, stream=True,
                                                   timeout=job.retry_policy.timeout_s) as response:
            if response.status_code == 416:  # the server's file ends before the part does
                forget_partial(job.target)
                raise BrokenError(f"HTTP 416 {response.reason}")
            check_response(job.url, response)
            _receive(job, response, _accept(job, response, there))
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
    begin_partial(job.target, version, total_bytes)
    return Partial(0, version, total_bytes)


def _receive(job: _Job, response: requests.Response, there: Partial) -> None:
    """Append the body to the part."""
    job.progress.total, job.progress.n, job.progress.initial = there.total_bytes, there.bytes, there.bytes
    there = job.append(job.target, there, _chunks(job, response))
    if there.total_bytes not in (None, there.bytes):
        raise BrokenError(f"the transfer ended at {there.bytes} of {there.total_bytes} bytes")


def _chunks(job: _Job, response: requests.Response) -> Iterator[bytes]:
    for chunk in response.iter_content(RECEIVE_BYTES):
        yield chunk
        job.progress.update(len(chunk))
        raise_if_stopped(job.stop, job.url)


def _measure(path: Path, stop: threading.Event) -> Archive:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            raise_if_stopped(stop, str(path))
    return Archive(bytes=size, md5=digest.hexdigest())


def _backoff_s(failures: int, retry_policy: RetryPolicy) -> float:
    """Return a random share of a doubling time, so that many clients do not return at once."""
    return min(retry_policy.first_wait_s * 2 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _reason(error: BaseException) -> str:
    """Return the innermost cause, the operating system's message, without the wrappings of the libraries."""
    while error.__context__ is not None:
        error = error.__context__
    return "the connection was cut off" if isinstance(error, IncompleteRead) else str(error) or type(error).__name__
