"""Folders of checkpoints: one writer at a time, and old runs in runs/resume are deleted."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from ssd_lib.errors import StateError
from ssd_lib.files import in_project

DAY_S = 24 * 3600
log = logging.getLogger(__name__)


def runs_folder() -> Path:
    """Return runs/ of the main repository, which DVC does not roll back before `dvc exp run`."""
    return in_project("runs")


def prepare_folder(folder: Path) -> None:
    """Make a writable folder and remove the temporary files of a killed writer. The caller holds the lock.

    Raises:
        StateError: the folder is not writable; better reported now than after the first minute of training.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise StateError(f"{folder}: cannot be written: {error.strerror or error}. Free some disk space or correct the "
                         "permissions, then run the same command again.") from error


@contextmanager
def only_writer(folder: Path, name: str = "lock") -> Iterator[None]:
    """Lock `folder` by the lock file `name` in it. The lock ends with the process, however it ends.

    Raises:
        StateError: another process holds the lock.
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
            is_taken = os.path.samestat(os.stat(lock.name), os.fstat(lock.fileno()))  # False if `prune` deleted the folder
    except OSError as error:
        raise StateError(f"{folder / name}: cannot be locked: {error.strerror or error}. Free some disk space or correct the "
                         "permissions, then run the same command again.") from error
    with lock, _released_in_forks(lock):
        lock.seek(0)
        if not is_taken:
            raise StateError(f"{folder}: another trainer works on this run ({lock.read().strip() or 'unknown process'}). "
                             "Wait for it, or stop it: it saves before it ends.")
        yield


def prune(resume_root: Path, needed: Collection[Path], keep_runs: int, keep_days: float) -> None:
    """Delete the runs that are too old or too many, and log each. A run whose lock is held stays.

    Args:
        resume_root: runs/resume, with a folder for each run.
        needed: folders in it that stay: those of the current run. They are not counted.
        keep_runs: how many of the others stay, the most recently written ones.
        keep_days: how many days they stay after they were last written.
    """
    if not resume_root.is_dir():
        return
    stay = {folder.resolve() for folder in needed}
    others = {folder: _last_written(folder) for folder in resume_root.iterdir()
              if folder.is_dir() and folder.resolve() not in stay}
    now = time.time()
    for place, folder in enumerate(sorted(others, key=lambda folder: others[folder], reverse=True)):
        days = (now - others[folder]) / DAY_S
        if place >= keep_runs or days > keep_days:
            with suppress(StateError), only_writer(folder):
                shutil.rmtree(folder, ignore_errors=True)
                log.info("deleted %s, last written %.0f days ago (runtime.keep_runs: %d, runtime.keep_days: %g)",
                            folder, days, keep_runs, keep_days)


def _last_written(folder: Path) -> float:
    """Return the time of the newest checkpoint, else of the folder; now if another trainer is deleting it."""
    try:
        return max(path.stat().st_mtime for path in [*folder.rglob("*.pt")] or [folder])
    except OSError:
        return time.time()


@contextmanager
def _released_in_forks(lock: IO[str]) -> Iterator[None]:
    """Close the lock in forks of this process: a loader process that outlives its trainer would keep it locked."""
    _HELD.add(lock)
    try:
        yield
    finally:
        _HELD.discard(lock)


def _release() -> None:
    for lock in _HELD:
        lock.close()
    _HELD.clear()


_HELD: set[IO[str]] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release)


def _take(lock: IO[str]) -> None:
    """Lock an open file, or raise BlockingIOError."""
    try:
        import fcntl
    except ImportError:
        log.warning("no file locks on %s: do not start two trainers on one run", sys.platform)
    else:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
