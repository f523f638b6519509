"""Wait for processes that are not children of this one."""

import time
from pathlib import Path


def ends(pid: int, seconds: float = 20) -> bool:
    """Return whether a process ends within that time."""
    deadline = time.monotonic() + seconds
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
