"""Ask a server: requests that end within stated limits of time and size, and are repeated where another attempt may succeed.

urllib3's Retry is not used: it sleeps where no stop signal reaches it, and a transfer that keeps bringing bytes must not use up
its attempts. Its timeout is that of one read, so a server that sends a byte now and then never reaches it: see `ask`.
"""

import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.client import IncompleteRead
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from ssd_lib.errors import InputError, StateError

RECEIVE_BYTES = 1 << 16  # a broken connection loses at most this much
LONGEST_WAIT_S = 30.0
LONGEST_ASKED_S = 120.0  # a longer Retry-After is not obeyed
LARGEST_BYTES = 10**11  # of a file whose size is not known before; COCO's largest archive has 2 * 10^10
BUSY = (408, 425, 429)  # HTTP codes below 500 that mean "ask again later"
AS_STORED = {"Accept-Encoding": "identity"}  # sizes and ranges count the file's bytes, not a compressed transfer's

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server: `attempts` in a row without new bytes end the transfer."""

    attempts: int = 8
    first_wait_s: float = 1.0  # doubles with each attempt, up to LONGEST_WAIT_S
    timeout_s: float = 20.0  # without a single byte
    slowest_s: float = 60.0  # for the headers, and for each RECEIVE_BYTES of the body; up to twice as long is waited


RETRY_POLICY = RetryPolicy()


class BrokenError(Exception):
    """An attempt failed; another may succeed, after `asked_s` seconds if the server sent Retry-After."""

    def __init__(self, reason: str, asked_s: float = 0.0) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


class Answer:
    """A response and its body.

    Attributes:
        response: status and headers; use `chunks` for the body.
    """

    def __init__(self, response: requests.Response, watch: "_Watch") -> None:
        self.response, self._watch = response, watch

    def chunks(self, most_bytes: int) -> Iterator[bytes]:
        """Yield the body, RECEIVE_BYTES at a time; what follows after `most_bytes` is not read."""
        for chunk in self.response.iter_content(RECEIVE_BYTES):
            self._watch.steps += 1
            yield chunk[:most_bytes]
            most_bytes -= len(chunk)
            if most_bytes <= 0:
                return


@contextmanager
def ask(url: str, retry_policy: RetryPolicy, session: requests.Session | None = None, *, method: str = "GET",
        headers: dict[str, str] = AS_STORED) -> Iterator[Answer]:
    """Send a request and yield the answer, which is read in the context.

    Args:
        url: http or https.
        retry_policy: its times.
        session: whose connection is used again; None uses a new one.
        method: GET or HEAD.
        headers: of the request.

    Raises:
        BrokenError: the connection was refused, cut off, silent for too long or too slow.
        InputError: the URL is invalid or redirects without end.
    """
    used = nullcontext(session) if session else new_session()
    with used as session, _watched(retry_policy) as watch, _network_faults(url), session.request(
            method, url, headers=headers, stream=True, allow_redirects=True, timeout=retry_policy.timeout_s) as response:
        watch.steps += 1
        yield Answer(response, watch)


def new_session() -> requests.Session:
    """Return a session for `ask`; several requests may use it, one after the other."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return session


def with_retries(attempt: Callable[[], T], url: str, say: Callable[[str], None], stop: threading.Event,
                 retry_policy: RetryPolicy, reached: Callable[[], int] = lambda: 0) -> T:
    """Return the result of the first attempt that does not raise BrokenError.

    Args:
        attempt: raises BrokenError where another attempt may succeed.
        url: for the messages.
        say: called with the reason for each wait.
        stop: once set, waiting ends.
        retry_policy: how often to try and how long to wait.
        reached: returns how many bytes are kept; an attempt that brought some does not count as a failure.

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
    """Return the size of the body as the server states it; None if it does not, or not as a number of at most 18 digits."""
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


class _Watch:
    """Ends a connection that makes no step for too long, by closing its socket."""

    def __init__(self) -> None:
        self.steps, self.is_cut = 0, False
        self.socket: socket.socket | None = None
        self.done, self.lock = threading.Event(), threading.Lock()

    def run(self, every_s: float) -> None:
        seen = -1
        while not self.done.wait(every_s):
            with self.lock:
                if self.steps == seen and self.socket is not None and not self.done.is_set():
                    self.is_cut = True
                    with suppress(OSError):  # it is closed already
                        socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # wakes the thread that reads, TLS or not
                seen = self.steps


@contextmanager
def _watched(retry_policy: RetryPolicy) -> Iterator[_Watch]:
    watch = _ON_THREAD.watch = _Watch()
    threading.Thread(target=watch.run, args=(retry_policy.slowest_s,), daemon=True).start()
    try:
        yield watch
    except BrokenError:
        if not watch.is_cut:
            raise
    finally:
        with watch.lock:  # afterwards another request may use the connection
            watch.done.set()
    if watch.is_cut:  # a body without a stated length just seems to end
        raise BrokenError(f"less than {RECEIVE_BYTES} bytes in {retry_policy.slowest_s:g} s, which is too slow")


_ON_THREAD = threading.local()  # .watch: of the request that this thread makes


def _with_watch(connection: type[Any]) -> type[Any]:
    """Return a class of connections whose sockets are watched from the moment at which the request is sent."""
    class Watched(connection):
        def getresponse(self, *args: Any, **options: Any) -> Any:
            _ON_THREAD.watch.socket = self.sock
            return super().getresponse(*args, **options)
    return Watched


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _with_watch(HTTPConnectionPool.ConnectionCls)


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _with_watch(HTTPSConnectionPool.ConnectionCls)


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager


@contextmanager
def _network_faults(url: str) -> Iterator[None]:
    """Translate the errors of a connection; see `ask`."""
    try:
        yield
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise BrokenError(_reason(error)) from error
    except requests.RequestException as error:
        said = str(error).rstrip(".")
        raise InputError(f"{url}: {said}; a plain http address is needed. Check data.base_url.") from error


def _backoff_s(failures: int, retry_policy: RetryPolicy) -> float:
    """Return a random share of a doubling time, so that many clients do not return at once."""
    return min(retry_policy.first_wait_s * 2 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


def _reason(error: BaseException) -> str:
    """Return the innermost cause, the operating system's message, without the wrappings of the libraries."""
    while error.__context__ is not None:
        error = error.__context__
    return "the connection was cut off" if isinstance(error, IncompleteRead) else str(error) or type(error).__name__
