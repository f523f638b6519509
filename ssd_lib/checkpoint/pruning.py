"""How long the journal of runs keeps what no run has continued."""

import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ssd_lib.checkpoint.lock import only_writer
from ssd_lib.errors import StateError

DAY_S = 24 * 3600


def prune(journal: Path, needed: Collection[Path], keep_runs: int, keep_days: float) -> list[str]:
    """Delete the runs of a journal that are too old or too many.

    Args:
        journal: runs/resume: a folder for each run.
        needed: folders in it that stay, those of the run that begins; those of other runs that are going on stay, too.
        keep_runs: how many of the others stay, the last written ones.
        keep_days: how long they stay after they were last written.

    Returns:
        A line for each run that was deleted.
    """
    if not journal.is_dir():
        return []
    stay = {folder.resolve() for folder in needed}
    others = {folder: _last_written(folder) for folder in journal.iterdir() if folder.is_dir() and folder.resolve() not in stay}
    newest_first = sorted(others, key=lambda folder: others[folder], reverse=True)
    now, lines = time.time(), []
    for place, folder in enumerate(newest_first):
        days = (now - others[folder]) / DAY_S
        if place >= keep_runs or days > keep_days:
            with suppress(StateError), only_writer(folder):
                shutil.rmtree(folder, ignore_errors=True)
                lines.append(f"deleted {folder}, last written {days:.0f} days ago (runtime.keep_runs: {keep_runs}, "
                             f"runtime.keep_days: {keep_days:g})")
    return lines


def _last_written(folder: Path) -> float:
    """Seconds since 1970; of an empty folder, its own; now, where another trainer deletes it at this moment."""
    try:
        return max(path.stat().st_mtime for path in [*folder.rglob("*.pt")] or [folder])
    except OSError:
        return time.time()
