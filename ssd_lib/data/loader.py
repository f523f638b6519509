"""The order of the images, which is a function and not a state, and the processes that load them.

A position in a run is (epoch, step). What is loaded there follows from the seed alone: not from how many processes or
workers there are, nor from what was loaded before. To resume is to start at another position.
"""

import os
import signal
import sys
from collections.abc import Generator, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from ssd_lib.data.dataset import Batch, DetectionDataset, collate
from ssd_lib.errors import InputError, StateError
from ssd_lib.processes import available_cores, die_with_parent

MAX_AUTO_WORKERS = 8
SIGNS_OF_DEATH = ("exited unexpectedly", "killed by signal")  # in torch's messages
GRACE_S = 20  # after SIGTERM, which mostly went to the whole group, the trainer has this long to finish its step


def steps_per_epoch(images: int, batch_size: int) -> int:
    """How many batches an epoch has: every image is seen, the last batch is filled up from the epoch's start."""
    return -(-images // batch_size)


def epoch_batches(images: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The image indices of an epoch: (steps, batch_size) int64. Every image is there once; what fills the last batch, twice.

    A batch is never short, since batch norm cannot train on a single image where a map has a single cell.
    """
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return np.resize(order, (steps_per_epoch(images, batch_size), batch_size))


def batches_from(images: int, batch_size: int, seed: int, epoch: int, step: int, epochs: int,
                 rank: int = 0, processes: int = 1) -> Iterator[list[tuple[int, int]]]:
    """All batches of a run from position (epoch, step) on, as keys (epoch, index) of this process's share."""
    share = batch_size // processes
    for now in range(epoch, epochs):
        rows = epoch_batches(images, batch_size, seed, now)[step if now == epoch else 0:]
        for row in rows[:, rank * share:(rank + 1) * share]:
            yield [(now, int(index)) for index in row]


def evaluation_batches(images: int, batch_size: int, rank: int = 0, processes: int = 1) -> list[list[tuple[int, int]]]:
    """Every image of this process's share once, in order; the last batch may be short."""
    indices = range(rank, images, processes)
    return [[(0, index) for index in indices[i:i + batch_size]] for i in range(0, len(indices), batch_size)]


def worker_count(workers: int | str, processes: int = 1) -> int:
    """`runtime.workers` as a number for each training process."""
    if workers != "auto":
        return int(workers)
    return max(1, min(available_cores() // processes, MAX_AUTO_WORKERS))


def load_batches(dataset: DetectionDataset, keys: Any, workers: int, pin_memory: bool = False) -> Generator[Batch, None, None]:
    """Load the batches of `keys`, an iterable of lists of (epoch, index), in order.

    Loader processes are forks where that is safe: one of several training processes would else start each anew, with torch.

    Raises:
        InputError: an image cannot be read; it is named.
        StateError: a worker was killed, most often for memory.
    """
    loader = DataLoader(dataset, batch_sampler=keys, num_workers=workers, collate_fn=collate, pin_memory=pin_memory,
                        worker_init_fn=_start_worker, generator=torch.Generator(),
                        multiprocessing_context="fork" if workers and sys.platform.startswith("linux") else None)
    iterator = iter(loader)
    if workers and hasattr(signal, "SIGCHLD"):  # torch raises in its handler, be it in mid-step; `next` notices, too
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield from iterator
    except InputError as error:
        raise InputError(str(error).rsplit("InputError: ", 1)[-1].strip()) from None  # without the worker's traceback
    except (RuntimeError, OSError, EOFError) as error:  # the last two: it was killed while it handed over a batch
        if isinstance(error, RuntimeError) and not any(sign in str(error) for sign in SIGNS_OF_DEATH):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StateError(f"a loader process was killed ({reason}); most often memory ran out. "
                         "Set runtime.workers lower, then run the same command again.") from error
    finally:
        if workers:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # now, and not when the last traceback that holds it is forgotten


def _start_worker(worker: int) -> None:
    """A loader process leaves Ctrl-C and, for a while, SIGTERM to the trainer, which stops it; it never outlives it."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
    die_with_parent(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
