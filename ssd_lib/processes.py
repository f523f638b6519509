"""Functions of the operating system: CPU cores, processes that end with their parent, output, and the memory allocator."""

import atexit
import ctypes
import gc
import io
import math
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # <malloc.h>
# Signals that ask training to save and stop. SIGUSR1: Slurm sends it before the time limit, with `sbatch --signal=USR1@120`.
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]


def die_with_parent(signal_number: int) -> bool:
    """Ask the kernel to send this process a signal when its parent ends, even by SIGKILL.

    Returns:
        Whether the system can do so; only Linux can.
    """
    if not sys.platform.startswith("linux"):
        return False
    known = multiprocessing.parent_process()  # the process that forked this one, even if it has ended since
    parent = os.getppid() if known is None else known.pid
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:  # the parent ended before the call
        signal.raise_signal(signal.Signals(signal_number))
    return True


def die_with_dvc(signal_number: int) -> None:
    """Send a stage a signal when DVC ends, as `die_with_parent` does.

    Some shells, such as dash, stay between DVC and the stage, and the kernel signals only the end of the shell. So a thread
    waits for the end of DVC.
    """
    if not die_with_parent(signal_number) or "DVC_STAGE" not in os.environ:
        return
    shell = Path("/proc", str(os.getppid()))
    with suppress(OSError):  # the shell has ended and the signal follows, or the kernel is older than Linux 5.3
        if (shell / "cmdline").read_bytes().split(b"\0")[-3:-2] == [b"-c"]:  # sh -c COMMAND
            dvc = os.pidfd_open(int((shell / "stat").read_text().rpartition(") ")[2].split()[1]))
            threading.Thread(target=_signal_at_end, args=(dvc, signal_number), daemon=True).start()


def _signal_at_end(pidfd: int, signal_number: int) -> None:
    select.select([pidfd], [], [])
    os.kill(os.getpid(), signal_number)


def end_quickly() -> None:
    """Let the garbage collector not search the objects that are left when this process ends.

    After torch and torchvision were imported they are some 300,000, and their search took two seconds of each process.
    """
    atexit.register(gc.freeze)


def keep_freed_memory() -> bool:
    """Tell the allocator to keep freed memory in this process instead of returning it to the kernel.

    glibc returns large blocks, and the kernel must zero them when they are allocated again: up to half the time of a training
    step on a CPU.

    Returns:
        Whether the allocator can do so; only glibc can.
    """
    if not sys.platform.startswith("linux") or not hasattr(libc := ctypes.CDLL(None), "mallopt"):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def free_addresses() -> float:
    """Return how many bytes of memory this process may still map under the limit of `ulimit -v`; inf without one.

    Few are as good as none: where a thread does not get the few it needs, the C library ends the process, without an exception.
    """
    if not sys.platform.startswith("linux"):
        return math.inf
    import resource  # it is missing on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return math.inf if limit == resource.RLIM_INFINITY else limit - mapped


def available_cores() -> int:
    """Return the number of CPU cores that this process may use: its affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Return how many cores the control groups of this process grant, as `docker run --cpus` sets it; inf without a limit.

    Args:
        root: where control groups are mounted, version 2, or version 1 with a folder for each controller.
        own: the file that names the groups of the process.
    """
    quotas = [math.inf]
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        inner = base / group.lstrip("/")
        for folder in (inner, *(parent for parent in inner.parents if parent.is_relative_to(base))):
            with suppress(OSError, ValueError):  # no such file, or "max": no limit
                texts = ((folder / "cpu.max").read_text().split() if not controllers else
                         [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")])
                quotas.append(int(texts[0]) / int(texts[1]))
    return min((quota for quota in quotas if quota > 0), default=math.inf)


def free_cores(seconds: float = 0.5) -> float:
    """Sleep, and return how many of the available cores no other process used in that time; without Linux, all of them.

    The load average would not do: it still holds what this pipeline itself has done in the last minute.
    """
    before = _core_times()
    time.sleep(seconds if before else 0)
    spent = [[now - then for then, now in zip(*pair, strict=True)] for pair in zip(before, _core_times(), strict=True)]
    free = sum((times[3] + times[4]) / max(1, sum(times)) for times in spent)  # idle, and waiting for a disk
    return min(free if before else math.inf, available_cores())


def _core_times() -> list[list[int]]:
    """Return for each core of this process the times user, nice, system, idle, iowait, irq, softirq, steal; see proc(5)."""
    try:
        rows = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
        return [[int(value) for value in row[1:9]] for row in rows if row[0][3:] and int(row[0][3:]) in os.sched_getaffinity(0)]
    except (OSError, ValueError, AttributeError):
        return []


def secure_output() -> None:
    """Let the work go on where standard output or standard error cannot be written: a full disk, a pipe whose reader has ended.

    What cannot be written is lost, and the other stream says so once. A stream that is closed leads to nowhere: else the next
    file that is opened would get its number, and what libraries print would go into that file. What an encoding cannot express
    is written as escapes. Only the streams of the process itself are changed, not those that a program has put in their place.
    """
    if os.name != "posix":
        return
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
    for number, name in enumerate(("stdout", "stderr"), 1):
        stream = getattr(sys, name)
        with suppress(OSError, ValueError, AttributeError):  # in a notebook or a test it has no number
            raw = None if stream is None else getattr(stream.buffer, "raw", stream.buffer)  # no buffer: PYTHONUNBUFFERED
            if raw is None or (stream.fileno() == number and not isinstance(raw, _Output)):
                buffer = io.BufferedWriter(_Output(number, "w", closefd=False))
                encoding = getattr(stream, "encoding", "utf-8")
                setattr(sys, name, io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True))


class _Output(io.FileIO):
    """A standard stream that loses what cannot be written, and never raises."""

    has_failed = False

    def write(self, data: Any, /) -> int:
        """Write bytes, or lose them with one warning on the other stream; return their number."""
        try:
            while (written := super().write(data)) is None:  # another program has made it non-blocking, and it is full
                select.select([], [self], [])
            return written
        except OSError as error:
            if not self.has_failed:
                self.has_failed = True
                name = ("output", "error")[self.fileno() - 1]
                with suppress(OSError):
                    os.write(3 - self.fileno(), f"WARNING standard {name} cannot be written ({error.strerror}); the work goes "
                                                "on without it\n".encode())
            return memoryview(data).nbytes


def has_cuda_driver() -> bool:
    """Return whether a driver for GPUs is here that torch's device cuda may use: NVIDIA's, or AMD's. torch is not imported."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True
