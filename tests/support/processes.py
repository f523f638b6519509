"""Wait, until a time limit, for what another process or thread does."""

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], object], what: str = "", seconds: float = 60) -> None:
    """Return once the condition holds; fail with what was waited for if it does not within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what or 'what was waited for'}: not within {seconds:g} s"
        time.sleep(0.005)


def ends(pid: int, seconds: float = 20) -> bool:
    """Return whether a process, which need not be a child of this one, ends within that time."""
    deadline = time.monotonic() + seconds
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _is_running(pid)


def _is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
