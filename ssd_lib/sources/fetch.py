"""One file over HTTP, whole and verified, or an error that says why. What is in the file is known elsewhere."""

import hashlib
import os
import random
import sys
import threading
from dataclasses import dataclass
from http.client import IncompleteRead
from pathlib import Path

import requests
from tqdm import tqdm

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import CHUNK_BYTES
from ssd_lib.manifest import Archive
from ssd_lib.sources.partial import Partial, begin_partial, forget_partial, part_path, read_partial

RECEIVE_BYTES = 1 << 16  # what a broken connection can lose
LONGEST_WAIT_S = 30.0
BUSY = (408, 425, 429)  # HTTP codes below 500 that mean "ask again later"
AS_STORED = {"Accept-Encoding": "identity"}  # sizes and ranges count the file's bytes, not a compressed transfer's


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for: `attempts` in a row that bring nothing new are the end."""

    attempts: int = 8
    first_wait_s: float = 1.0  # doubles with each attempt, up to LONGEST_WAIT_S
    timeout_s: float = 20.0  # without a single byte


PATIENCE = Patience()


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    expect_bytes: int | None
    progress: tqdm
    stop: threading.Event
    patience: Patience


class _BrokenError(Exception):
    """This attempt came to nothing; another one may do better."""


def fetch(url: str, target: Path, expect_bytes: int | None, expect_md5: str | None, progress: tqdm, *,
          stop: threading.Event | None = None, patience: Patience = PATIENCE) -> Archive:
    """Put the file at `url` under `target`; its size and MD5.

    Law: `target` is there whole and verified, or not at all. Bytes that a broken transfer left are not asked for again,
    and bytes of two versions of a file are never mixed. A `target` that is there and right costs no request.

    Args:
        url: http or https.
        target: where it goes; the folder is made if need be.
        expect_bytes: the only right size; None takes what the server has.
        expect_md5: the only right MD5, 32 hex digits; None takes what the server has.
        progress: a bar of bytes; above it a line says why a transfer waits.
        stop: once set, the transfer ends at the next chunk; what is there is kept.
        patience: how often and how long to try.

    Raises:
        InputError: the server has no such file, or a web page or a file of another size in its place.
        StateError: no more bytes in `patience.attempts`, a wrong file twice, a full disk, or `stop` was set.
    """
    job = _Job(url, target, expect_bytes, progress, stop or threading.Event(), patience)
    for _ in range(2):  # a wrong file gets a second chance, from zero
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


def offered_bytes(url: str, patience: Patience = PATIENCE) -> int | None:
    """The size of the file at `url` as the server states it; None where it does not."""
    try:
        response = requests.head(url, headers=AS_STORED, allow_redirects=True, timeout=patience.timeout_s)
    except requests.RequestException:
        return None  # `fetch` meets the same fault, tries longer, and says what it is
    return _content_length(response) if response.ok else None


def _transfer(job: _Job) -> None:
    """Attempt after attempt until the part is complete."""
    failures, most_bytes = 0, 0
    while True:
        try:
            return _attempt(job)
        except _BrokenError as error:
            there = read_partial(job.target).bytes
            failures = 1 if there > most_bytes else failures + 1
            most_bytes = max(there, most_bytes)
            if failures >= job.patience.attempts:
                raise StateError(f"{job.url}: {error}; given up after {failures} attempts, {there} bytes are kept. "
                                 "Run the same command again: it goes on from there.") from error
            _wait(job, failures, str(error))


def _wait(job: _Job, failures: int, reason: str) -> None:
    """Back off, a random share of the time so that many clients do not come back all at once."""
    wait_s = min(job.patience.first_wait_s * 2 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
    attempt = f"attempt {failures + 1} of {job.patience.attempts}"
    job.progress.write(f"{job.target.name}: {reason}; {attempt} in {wait_s:.0f} s", file=sys.stderr)
    job.stop.wait(wait_s)
    _obey(job.stop, job.url)


def _attempt(job: _Job) -> None:
    """Ask once for what is missing, and append it."""
    there = read_partial(job.target)
    if there.is_complete:
        return  # what stopped the last run did so before the file was verified
    rest = {"Range": f"bytes={there.bytes}-", "If-Range": there.version} if there.bytes else {}
    try:
        with requests.get(job.url, headers=rest | AS_STORED, stream=True, timeout=job.patience.timeout_s) as response:
            _check_status(job, response)
            _receive(job, response, _accept(job, response, there))
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _BrokenError(_reason(error)) from error
    except requests.RequestException as error:
        raise InputError(f"{job.url}: {error}; a plain http address is needed. Check data.base_url.") from error
    except OSError as error:
        raise StateError(f"{part_path(job.target)}: cannot be written: {error.strerror}; what is there is kept. "
                         "Free some disk space or mend the permissions, then run the same command again.") from error


def _check_status(job: _Job, response: requests.Response) -> None:
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code >= 500 or response.status_code in BUSY:
        raise _BrokenError(status)
    if response.status_code == 416:  # the server's file ends before the part does
        forget_partial(job.target)
        raise _BrokenError(status)
    if response.status_code not in (200, 206):
        raise InputError(f"{job.url}: the server answers {status}; this file must be there. Check data.base_url, or "
                         "open the address in a browser.")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise InputError(f"{job.url}: the server sent a web page (text/html); an archive was expected. Check "
                         "data.base_url, and whether this network wants a log-in first.")


def _accept(job: _Job, response: requests.Response, there: Partial) -> Partial:
    """What the body of the response goes on from: the part that is there, or zero bytes of a version of its own."""
    etag = response.headers.get("ETag", "")
    is_strong = etag.startswith('"')  # a weak one vouches for no bytes
    version = etag if is_strong else response.headers.get("Last-Modified", "")
    if response.status_code == 206:
        span, _, total = response.headers.get("Content-Range", "").partition("/")
        same = span.startswith(f"bytes {there.bytes}-") and total == str(there.total_bytes)
        if not same or version not in ("", there.version):
            forget_partial(job.target)
            raise _BrokenError("the file changed on the server")
        return there
    total_bytes = _content_length(response)
    if None not in (job.expect_bytes, total_bytes) and job.expect_bytes != total_bytes:
        raise InputError(f"{job.url}: the server has {total_bytes} bytes; the official file has {job.expect_bytes}. "
                         "Check data.base_url, and whether a proxy is in the way.")
    begin_partial(job.target, version, total_bytes)
    return Partial(0, version, total_bytes)


def _receive(job: _Job, response: requests.Response, there: Partial) -> None:
    """Append the body to the part."""
    part = part_path(job.target)
    job.progress.total, job.progress.n, job.progress.initial = there.total_bytes, there.bytes, there.bytes
    with part.open("ab") as file:
        for chunk in response.iter_content(RECEIVE_BYTES):
            file.write(chunk)
            job.progress.update(len(chunk))
            _obey(job.stop, job.url)
        file.flush()
        os.fsync(file.fileno())
    size = part.stat().st_size
    if there.total_bytes not in (None, size):
        raise _BrokenError(f"the transfer ended at {size} of {there.total_bytes} bytes")


def _content_length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _measure(path: Path, stop: threading.Event) -> Archive:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            _obey(stop, str(path))
    return Archive(bytes=size, md5=digest.hexdigest())


def _obey(stop: threading.Event, where: str) -> None:
    if stop.is_set():
        raise StateError(f"{where}: stopped; what is there is kept. Run the same command again: it goes on from there.")


def _reason(error: BaseException) -> str:
    """The innermost cause: what the operating system said, without the wrappings of the libraries."""
    while error.__context__ is not None:
        error = error.__context__
    return "the connection was cut off" if isinstance(error, IncompleteRead) else str(error) or type(error).__name__
