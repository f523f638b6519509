"""How long the journal of runs keeps what no run has continued."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

from ssd_lib.checkpoint.lock import only_writer
from ssd_lib.errors import StateError

DAY_S = 24 * 3600


def prune(journal: Path, own: Path, keep_runs: int, keep_days: float) -> list[str]:
    """Delete the runs of a journal that are too old or too many.

    Args:
        journal: runs/resume: a folder for each run.
        own: the folder of the run that is going on; it stays, and so does that of any other run that is going on.
        keep_runs: how many of the others stay, the last written ones.
        keep_days: how long they stay after they were last written.

    Returns:
        A line for each run that was deleted.
    """
    if not journal.is_dir():
        return []
    others = {folder: _last_written(folder) for folder in journal.iterdir() if folder.is_dir() and folder != own}
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
    """Seconds since 1970; of an empty folder, its own."""
    return max((path.stat().st_mtime for path in folder.rglob("*.pt")), default=folder.stat().st_mtime)
