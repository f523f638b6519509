"""One writer a folder: a second trainer on the same run is refused, and what a killed one left half written is removed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from ssd_lib.errors import StateError


def make_ready(folder: Path) -> None:
    """Make a folder that can be written, without the temporary files of a killed writer. Only for whoever holds the lock.

    Raises:
        StateError: it cannot be written; better now than after the first minute of training.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise StateError(f"{folder}: cannot be written: {error.strerror or error}. Free some disk space or mend the "
                         "permissions, then run the same command again.") from error


@contextmanager
def only_writer(folder: Path, name: str = "lock") -> Iterator[None]:
    """Hold `folder` alone, by the lock file `name` in it; the lock goes with the process, however it ends.

    Raises:
        StateError: another process holds it.
    """
    is_taken = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / name).open("a+")
        with suppress(BlockingIOError):
            _take(lock)
            lock.truncate(0)
            lock.write(f"process {os.getpid()}\n")
            lock.flush()
            is_taken = os.path.samestat(os.stat(lock.name), os.fstat(lock.fileno()))  # else the folder was pruned meanwhile
    except OSError as error:
        raise StateError(f"{folder / name}: cannot be locked: {error.strerror or error}. Free some disk space or mend the "
                         "permissions, then run the same command again.") from error
    with lock, _held(lock):
        lock.seek(0)
        if not is_taken:
            raise StateError(f"{folder}: another trainer works on this run ({lock.read().strip() or 'unknown process'}). "
                             "Wait for it, or stop it: it saves before it ends.")
        yield


@contextmanager
def _held(lock: IO[str]) -> Iterator[None]:
    """Let no fork of this process hold the lock, too: it would stay locked by a loader process that outlives its trainer."""
    _HELD.add(lock)
    try:
        yield
    finally:
        _HELD.discard(lock)


def _let_go() -> None:
    for lock in _HELD:
        lock.close()
    _HELD.clear()


_HELD: set[IO[str]] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _take(lock: IO[str]) -> None:
    """Lock an open file, or raise BlockingIOError."""
    try:
        import fcntl
    except ImportError:
        print(f"WARNING no file locks on {sys.platform}: do not start two trainers on one run", file=sys.stderr)
    else:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
