"""Load batches in a reproducible order, in worker processes.

A position in a run is (epoch, step). The seed alone determines which images are loaded there, not the number of processes or
workers, nor what was loaded before. So resuming a run means starting at another position.
"""

import logging
import multiprocessing.queues
import os
import pickle
import signal
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info

from ssd_lib.data.dataset import Batch, DetectionDataset, Key, Sample, collate
from ssd_lib.errors import InputError, StateError, is_out_of_memory
from ssd_lib.processes import available_cores, die_with_parent

MAX_AUTO_WORKERS = 8
PREFETCHED = 2  # batches that each worker has ready: torch's default
SHARED_MEMORY = Path("/dev/shm")
RESERVE_BYTES = 1 << 20  # of shared memory, which the locks of later loader processes need
RAISE_SHARED_MEMORY = "in a container raise it, for example with `docker run --shm-size=8g`"
LESS_MEMORY = "Set runtime.workers lower, then train.batch_size"
KILLED = "a loader process was killed, usually because memory ran out"
FAULTS = {  # words in the messages of torch and Python -> what is wrong, what to do
    ("Bus error", "shared memory", "No space left"): (
        f"{SHARED_MEMORY} is full", f"Free it, or {RAISE_SHARED_MEMORY}, or set runtime.workers: 0"),
    ("ancdata", "Too many open files"): (
        "too many files are open", "Raise the limit, for example with `ulimit -n 4096`, or set runtime.workers lower"),
    ("exited unexpectedly", "killed by signal"): (KILLED, LESS_MEMORY),
}
# a worker ends this long after SIGTERM, which is often sent to the whole group: the trainer first finishes its step
GRACE_S = 20
log = logging.getLogger(__name__)


def images_per_epoch(factors: np.ndarray) -> int:
    """Return how many images an epoch uses; an image used several times is counted each time. See `repeat_factors`."""
    return max(1, round(float(factors.sum())))


def steps_per_epoch(factors: np.ndarray, batch_size: int) -> int:
    """Return how many batches an epoch has; the last one is filled with images from the start of the epoch.

    Args:
        factors: (N,) how often an epoch uses each image, on average; see `repeat_factors`.
        batch_size: images per step.
    """
    return -(-images_per_epoch(factors) // batch_size)


def epoch_batches(factors: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the image indices of an epoch, (steps, batch_size) int64.

    Guarantees: image i occurs floor(f) or ceil(f) times, where f is factors[i], scaled so that the sum of all factors is a
    whole number; on average over many epochs it occurs f times. If all factors are 1, every image occurs once. Images that fill
    the last batch are additional. All batches are full: batch norm cannot train on a single image where a feature map has a
    single cell.
    """
    total = images_per_epoch(factors)
    order = np.random.default_rng([seed, epoch]).permutation(total)
    ends = np.cumsum(factors) * (total / factors.sum())
    offset = np.random.default_rng([seed, epoch, 1]).random() * (1 - 1e-6)  # systematic sampling: one draw, evenly spaced
    images = np.searchsorted(ends, order + offset, side="right").clip(max=len(factors) - 1)
    return np.resize(images, (steps_per_epoch(factors, batch_size), batch_size))


def batches_from(factors: np.ndarray, batch_size: int, seed: int, epoch: int, step: int, epochs: int,
                 rank: int = 0, processes: int = 1) -> Iterator[list[Key]]:
    """Yield this process's share of all batches from position (epoch, step) on, as keys (epoch, index, earlier uses).

    An image that an epoch uses several times has a different key, and so a different augmentation, each time.
    """
    share = batch_size // processes
    for now in range(epoch, epochs):
        indices = epoch_batches(factors, batch_size, seed, now)
        rows = np.stack([indices, _times_before(indices)], axis=2)[step if now == epoch else 0:]
        for row in rows[:, rank * share:(rank + 1) * share].tolist():
            yield [(now, index, times) for index, times in row]


def evaluation_batches(images: int, batch_size: int, rank: int = 0, processes: int = 1) -> list[list[Key]]:
    """Return batches with every image of this process's share once, in order; the last batch may be smaller."""
    indices = range(rank, images, processes)
    return [[(0, index) for index in indices[i:i + batch_size]] for i in range(0, len(indices), batch_size)]


def _times_before(indices: np.ndarray) -> np.ndarray:
    """Return, for each element, how often its value occurs earlier in the array, in row-major order."""
    flat = indices.ravel()
    order = np.argsort(flat, kind="stable")
    group = np.searchsorted(flat[order], flat[order])  # start of each run of equal values
    result = np.empty_like(flat)
    result[order] = np.arange(len(flat)) - group
    return result.reshape(indices.shape)


def worker_count(workers: int | str, processes: int = 1) -> int:
    """Return the number of workers of each training process for `runtime.workers`."""
    if workers != "auto":
        return int(workers)
    return max(1, min(available_cores() // processes, MAX_AUTO_WORKERS))


def warn_of_small_shared_memory(workers: int, batch_bytes: int, folder: Path = SHARED_MEMORY) -> None:
    """Warn if the batches that wait between loader processes and training do not fit in shared memory.

    Args:
        workers: loader processes of all training processes of this machine.
        batch_bytes: of the pixels of a batch of one training process.
        folder: where the system keeps shared memory; a system that has it elsewhere does not limit it.
    """
    waiting = 2 * (PREFETCHED * workers + 1)  # twice: those of training wait while validation loads its own
    needed = RESERVE_BYTES + waiting * batch_bytes
    if workers and folder.is_dir() and (free := free_bytes(folder)) < needed:
        log.warning("%s has %.1f MB free, and the batches of %d loader processes need up to %.1f MB: what does not fit goes "
                    "through pipes, which is slower. To change that, %s.", folder, free / 1e6, workers, needed / 1e6,
                    RAISE_SHARED_MEMORY)


def free_bytes(folder: Path) -> int:
    """Return how many bytes a user may still write to the file system of a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def load_batches(dataset: DetectionDataset, keys: Any, workers: int, pin_memory: bool = False) -> Generator[Batch, None, None]:
    """Load the batches of `keys`, an iterable of lists of keys, in order.

    On Linux workers are forked, also where training processes were spawned: a spawned worker would import torch again. Batches
    come through shared memory, and through a pipe while that is full.

    Raises:
        InputError: an image cannot be read; the message names it.
        StateError: memory ran out, or a worker was killed, usually for that reason.
    """
    iterator = None
    _end_workers_on_send_error()
    try:
        loader = DataLoader(dataset, batch_sampler=keys, num_workers=workers, pin_memory=pin_memory,
                            collate_fn=_collate_to_send if workers else collate, worker_init_fn=_start_worker,
                            generator=torch.Generator(), prefetch_factor=PREFETCHED if workers else None,
                            multiprocessing_context="fork" if workers and sys.platform.startswith("linux") else None)
        iterator = iter(loader)
        # torch's handler raises even in the middle of a step; `next` detects dead workers, too
        if workers and hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for batch in iterator:
            yield pickle.loads(batch) if isinstance(batch, bytes) else batch
    except (InputError, StateError) as error:
        kind = InputError if isinstance(error, InputError) else StateError
        raise kind(str(error).rsplit(f"{kind.__name__}: ", 1)[-1].strip()) from None  # without the worker's traceback
    except Exception as error:
        if (fault := _fault(error)) is None:
            raise
        raise fault from error
    finally:
        if workers and iterator is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # at once, even if a traceback keeps a reference


def _fault(error: Exception) -> StateError | None:
    """Return what to raise for an exception of a worker or of the exchange with one; None if it is a bug."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[-1]  # above it is the worker's traceback
    found = next((found for words, found in FAULTS.items() if any(word in str(error) for word in words)), None)
    if found is None and is_out_of_memory(error):
        found = "memory ran out while a batch was loaded", LESS_MEMORY
    elif found is None and isinstance(error, OSError | EOFError):  # the worker was killed while it sent a batch
        found = KILLED, LESS_MEMORY
    return found and StateError(f"{found[0]} ({text:.200}). {found[1]}, then run the same command again.")


def _collate_to_send(samples: Sequence[Sample]) -> Batch | bytes:
    """Return a batch in shared memory; pickled, to be sent through a pipe, if that is full.

    Left to torch, a thread would do this after collating, lose the batch where it fails, and training would wait for ever.
    """
    batch = collate(samples)
    if SHARED_MEMORY.is_dir() and free_bytes(SHARED_MEMORY) < RESERVE_BYTES + sum(tensor.nbytes for tensor in batch):
        return pickle.dumps(batch)
    try:
        for tensor in batch:
            tensor.share_memory_()
        return batch
    except RuntimeError:  # other processes were faster
        for left in SHARED_MEMORY.glob(f"torch_{os.getpid()}_*"):  # torch leaves an empty file
            left.unlink(missing_ok=True)
        return pickle.dumps(batch)


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on a device. A GPU copies a batch in a separate stream while it computes on the previous one."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copies, work = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(copies):
            moved = batch.to(device)
        work.wait_stream(copies)
        for tensor in moved[:-1]:
            tensor.record_stream(work)  # a later copy must not reuse its memory before the computation ends
        yield moved


def _start_worker(worker: int) -> None:
    """Prepare a loader process: it ignores Ctrl-C, ends GRACE_S after SIGTERM, and always ends with the trainer."""
    cv2.setNumThreads(0)
    _end_workers_on_send_error()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
    die_with_parent(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)


def _end_workers_on_send_error() -> None:
    """End loader processes where an object cannot be sent to or from one: Python leaves it out, and training waits for ever."""
    def end(error: Exception, _: Any) -> None:
        with suppress(OSError):
            os.write(2, f"\nloader process: {type(error).__name__}: {error}\n".encode())
        if get_worker_info() is not None:
            os._exit(1)
        for worker in multiprocessing.active_children():
            worker.kill()
    setattr(multiprocessing.queues.Queue, "_on_queue_feeder_error", staticmethod(end))  # noqa: B010
