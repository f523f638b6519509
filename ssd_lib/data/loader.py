"""Load batches in a reproducible order, in worker processes.

A position in a run is (epoch, step). The seed alone determines which images are loaded there, not the number of processes or
workers, nor what was loaded before. So resuming a run means starting at another position.
"""

import os
import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from ssd_lib.data.dataset import Batch, DetectionDataset, Key, collate
from ssd_lib.errors import InputError, StateError, first_line
from ssd_lib.processes import available_cores, die_with_parent

MAX_AUTO_WORKERS = 8
KILLED_WORKER_TEXTS = ("exited unexpectedly", "killed by signal")  # in torch's messages
# a worker ends this long after SIGTERM, which is often sent to the whole group: the trainer first finishes its step
GRACE_S = 20


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


def load_batches(dataset: DetectionDataset, keys: Any, workers: int, pin_memory: bool = False) -> Generator[Batch, None, None]:
    """Load the batches of `keys`, an iterable of lists of keys, in order.

    On Linux workers are forked, also where training processes were spawned: a spawned worker would import torch again.

    Raises:
        InputError: an image cannot be read; the message names it.
        StateError: a worker was killed, usually because memory ran out.
    """
    loader = DataLoader(dataset, batch_sampler=keys, num_workers=workers, collate_fn=collate, pin_memory=pin_memory,
                        worker_init_fn=_start_worker, generator=torch.Generator(),
                        multiprocessing_context="fork" if workers and sys.platform.startswith("linux") else None)
    iterator = iter(loader)
    # torch's handler raises even in the middle of a step; `next` detects dead workers, too
    if workers and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield from iterator
    except InputError as error:
        raise InputError(str(error).rsplit("InputError: ", 1)[-1].strip()) from None  # without the worker's traceback
    except (RuntimeError, OSError, EOFError) as error:  # the last two: killed while sending a batch
        if isinstance(error, RuntimeError) and not any(text in str(error) for text in KILLED_WORKER_TEXTS):
            raise
        raise StateError(f"a loader process was killed ({first_line(error)}); usually because memory ran out. "
                         "Set runtime.workers lower, then run the same command again.") from error
    finally:
        if workers:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # at once, even if a traceback keeps a reference


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
    die_with_parent(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
