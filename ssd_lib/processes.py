"""Processes of this machine: how many can work at once, and a child that ends when its parent does."""

import ctypes
import multiprocessing
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


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


def available_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
