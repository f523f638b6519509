"""Processes of this machine: how many can work at once, a child that ends when its parent does, memory that is kept."""

import ctypes
import multiprocessing
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>


def die_with_parent(signal_number: int) -> bool:
    """Ask the kernel to send this process a signal when its parent ends; a kill -9 of the parent included.

    Returns:
        Whether that is to be had: only Linux has it.
    """
    if not sys.platform.startswith("linux"):
        return False
    known = multiprocessing.parent_process()  # who forked it, even if that one has ended since
    parent = os.getppid() if known is None else known.pid
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:  # it ended before the kernel knew
        signal.raise_signal(signal.Signals(signal_number))
    return True


def die_with_dvc(signal_number: int) -> None:
    """As `die_with_parent`, for a stage: where the shell in which DVC starts it stays between the two, as dash does, the kernel
    tells of the shell's end alone. A thread waits for the end of DVC there."""
    if not die_with_parent(signal_number) or "DVC_STAGE" not in os.environ:
        return
    shell = Path("/proc", str(os.getppid()))
    with suppress(OSError):  # the shell has ended, and the signal is on its way; or a kernel before Linux 5.3
        if (shell / "cmdline").read_bytes().split(b"\0")[-3:-2] == [b"-c"]:  # sh -c COMMAND
            dvc = os.pidfd_open(int((shell / "stat").read_text().rpartition(") ")[2].split()[1]))
            threading.Thread(target=_signal_at_end, args=(dvc, signal_number), daemon=True).start()


def _signal_at_end(pidfd: int, signal_number: int) -> None:
    select.select([pidfd], [], [])
    os.kill(os.getpid(), signal_number)


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees. glibc gives big blocks back to the kernel, which must hand them out
    zeroed again: on a processor that is up to half the time of a training step.

    Returns:
        Whether it was to be had: only glibc has it.
    """
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def available_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
