"""How a server is dealt with: what is worth another attempt, how long is waited for it, and what is said of the rest. What is
fetched, and where it goes, is known elsewhere (`fetch.py`, `photos.py`)."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import TypeVar

import requests

from ssd_lib.errors import InputError, StateError

LONGEST_WAIT_S = 30.0
LONGEST_ASKED_S = 120.0  # a server that asks for more time than this is asked again after it
BUSY = (408, 425, 429)  # HTTP codes below 500 that mean "ask again later"
AS_STORED = {"Accept-Encoding": "identity"}  # sizes and ranges count the file's bytes, not a compressed transfer's

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How long a server is waited for: `attempts` in a row that bring nothing new are the end."""

    attempts: int = 8
    first_wait_s: float = 1.0  # doubles with each attempt, up to LONGEST_WAIT_S
    timeout_s: float = 20.0  # without a single byte


RETRY_POLICY = RetryPolicy()


class BrokenError(Exception):
    """This attempt came to nothing; another one may do better, after `asked_s` if the server named a time."""

    def __init__(self, reason: str, asked_s: float = 0.0) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


def with_retries(attempt: Callable[[], T], url: str, say: Callable[[str], None], stop: threading.Event, patience: RetryPolicy,
            reached: Callable[[], int] = lambda: 0) -> T:
    """What the first attempt gives that does not break.

    Args:
        attempt: raises BrokenError where another one may do better.
        url: for the messages.
        say: is told why it waits.
        stop: once set, it waits no more.
        patience: how often and how long to try.
        reached: how many bytes there are by now; an attempt that brought some does not count as a failure.

    Raises:
        StateError: no more bytes in `patience.attempts`, or `stop` was set.
    """
    failures, most_bytes = 0, 0
    while True:
        try:
            return attempt()
        except BrokenError as error:
            there = reached()
            failures = 1 if there > most_bytes else failures + 1
            most_bytes = max(there, most_bytes)
            if failures >= patience.attempts:
                raise StateError(f"{url}: {error}; given up after {failures} attempts, {there} bytes are kept. "
                                 "Run the same command again: it goes on from there.") from error
            wait_s = max(_backoff_s(failures, patience), error.asked_s)
            say(f"{error}; attempt {failures + 1} of {patience.attempts} in {wait_s:.0f} s")
            stop.wait(wait_s)
            raise_if_stopped(stop, url)


def raise_if_stopped(stop: threading.Event, where: str) -> None:
    """Go on unless `stop` is set.

    Raises:
        StateError: it is.
    """
    if stop.is_set():
        raise StateError(f"{where}: stopped; what is there is kept. Run the same command again: it goes on from there.")


@contextmanager
def network_faults(url: str) -> Iterator[None]:
    """Turn the faults of a connection into ours.

    Raises:
        BrokenError: it was refused, cut off or silent for too long.
        InputError: the address is none, or leads from one place to another without end.
    """
    try:
        yield
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise BrokenError(_reason(error)) from error
    except requests.RequestException as error:
        said = str(error).rstrip(".")
        raise InputError(f"{url}: {said}; a plain http address is needed. Check data.base_url.") from error


def check_response(url: str, response: requests.Response) -> None:
    """Let pass what holds the bytes of a file.

    Raises:
        BrokenError: the server is busy or out of order.
        InputError: it has no such file, or sends a web page, or bytes that are compressed on the way.
    """
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code >= 500 or response.status_code in BUSY:
        asked = response.headers.get("Retry-After", "")
        raise BrokenError(status, min(float(asked), LONGEST_ASKED_S) if asked.isdecimal() else 0.0)
    if response.status_code not in (200, 206):
        raise InputError(f"{url}: the server answers {status}; this file must be there. Check data.base_url, or "
                         "open the address in a browser.")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise InputError(f"{url}: the server sent a web page (text/html); a file of data was expected. Check "
                         "data.base_url, and whether this network wants a log-in first.")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise InputError(f"{url}: the server sent it compressed (Content-Encoding: {encoding}); it was asked for the bytes "
                         "of the file, whose number can be checked. Have it serve files as they are, or check whether a "
                         "proxy is in the way.")


def content_length(response: requests.Response) -> int | None:
    """The size of the body as the server states it; None where it does not."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _backoff_s(failures: int, patience: RetryPolicy) -> float:
    """A random share of a time that doubles, so that many clients do not come back all at once."""
    return min(patience.first_wait_s * 2 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _reason(error: BaseException) -> str:
    """The innermost cause: what the operating system said, without the wrappings of the libraries."""
    while error.__context__ is not None:
        error = error.__context__
    return "the connection was cut off" if isinstance(error, IncompleteRead) else str(error) or type(error).__name__
