"""One file over HTTP, whole and verified, or some lines of one, or an error that says why. What is in the file is known
elsewhere; how a server is dealt with, in `patience.py`."""

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests
from tqdm import tqdm

from ssd_lib.download.line_filter import LineFilter, append_lines
from ssd_lib.download.part_file import Partial, append_bytes, begin_partial, forget_partial, part_path, read_partial
from ssd_lib.download.retries import (
    AS_STORED,
    RETRY_POLICY,
    BrokenError,
    RetryPolicy,
    check_response,
    content_length,
    network_faults,
    raise_if_stopped,
    with_retries,
)
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import CHUNK_BYTES
from ssd_lib.manifest import Archive

RECEIVE_BYTES = 1 << 16  # what a broken connection can lose

Append = Callable[[Path, Partial, Iterable[bytes]], Partial]


@dataclass(frozen=True)
class _Job:
    url: str
    target: Path
    expect_bytes: int | None
    progress: tqdm
    stop: threading.Event
    patience: RetryPolicy
    append: Append = append_bytes  # what becomes of the bytes that arrive


def fetch(url: str, target: Path, expect_bytes: int | None, expect_md5: str | None, progress: tqdm, *,
          stop: threading.Event | None = None, patience: RetryPolicy = RETRY_POLICY) -> Archive:
    """Put the file at `url` under `target`; its size and MD5.

    Guarantees: `target` is there whole and verified, or not at all. Bytes that a broken transfer left are not asked for again,
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


def fetch_lines(url: str, target: Path, sift: LineFilter, progress: tqdm, *, stop: threading.Event | None = None,
                patience: RetryPolicy = RETRY_POLICY) -> None:
    """Put those lines of the text file at `url` under `target` that `sift` keeps.

    Guarantees: the file itself is never whole in memory or on the disk. `target` is there after the last line was sifted, or not at
    all. A broken transfer goes on after the last lines that were sifted, at the latest NOTE_BYTES before the break. A `target`
    that is there costs no request.

    Args:
        url, target, progress, stop, patience: as of `fetch`.
        sift: is given every line once, unless the file on the server changes: then all of them again.

    Raises:
        InputError, StateError: as of `fetch`; and what `sift` raises.
    """
    if not target.exists():
        _transfer(_Job(url, target, None, progress, stop or threading.Event(), patience, partial(append_lines, sift)))
        os.replace(part_path(target), target)
    forget_partial(target)


def offered_bytes(url: str, patience: RetryPolicy = RETRY_POLICY) -> int | None:
    """The size of the file at `url` as the server states it; None where it does not."""
    try:
        response = requests.head(url, headers=AS_STORED, allow_redirects=True, timeout=patience.timeout_s)
    except requests.RequestException:
        return None  # `fetch` meets the same fault, tries longer, and says what it is
    return content_length(response) if response.ok else None


def _transfer(job: _Job) -> None:
    """Attempt after attempt until the part is complete."""
    def say(text: str) -> None:
        job.progress.write(f"{job.target.name}: {text}", file=sys.stderr)

    with_retries(partial(_attempt, job), job.url, say, job.stop, job.patience, lambda: read_partial(job.target).bytes)


def _attempt(job: _Job) -> None:
    """Ask once for what is missing, and append it."""
    there = read_partial(job.target)
    if there.is_complete:
        return  # what stopped the last run did so before the file was verified
    rest = {"Range": f"bytes={there.bytes}-", "If-Range": there.version} if there.bytes else {}
    try:
        with network_faults(job.url), requests.get(job.url, headers=rest | AS_STORED, stream=True,
                                                   timeout=job.patience.timeout_s) as response:
            if response.status_code == 416:  # the server's file ends before the part does
                forget_partial(job.target)
                raise BrokenError(f"HTTP 416 {response.reason}")
            check_response(job.url, response)
            _receive(job, response, _accept(job, response, there))
    except OSError as error:
        raise StateError(f"{part_path(job.target)}: cannot be written: {error.strerror}; what is there is kept. "
                         "Free some disk space or mend the permissions, then run the same command again.") from error


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
