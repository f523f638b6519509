"""The order of the images, which is a function and not a state, and the processes that load them.

A position in a run is (epoch, step). What is loaded there follows from the seed alone: not from how many processes or
workers there are, nor from what was loaded before. To resume is to start at another position.
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
SIGNS_OF_DEATH = ("exited unexpectedly", "killed by signal")  # in torch's messages
GRACE_S = 20  # after SIGTERM, which mostly went to the whole group, the trainer has this long to finish its step


def images_shown(factors: np.ndarray) -> int:
    """How many images an epoch shows, those that it shows again counted again; see `show_factors`."""
    return max(1, round(float(factors.sum())))


def steps_per_epoch(factors: np.ndarray, batch_size: int) -> int:
    """How many batches an epoch has: the last one is filled up from the epoch's start.

    Args:
        factors: (N,) how often an epoch shows each image, on average; see `show_factors`.
        batch_size: images a step.
    """
    return -(-images_shown(factors) // batch_size)


def epoch_batches(factors: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The image indices of an epoch: (steps, batch_size) int64.

    Guarantees: image i is there floor or ceil of factors[i] times (of what the rounded sum leaves of it), over many epochs factors[i]
    times on average; where all factors are 1, once. What fills the last batch comes on top.
    A batch is never short, since batch norm cannot train on a single image where a map has a single cell.
    """
    total = images_shown(factors)
    order = np.random.default_rng([seed, epoch]).permutation(total)
    ends = np.cumsum(factors) * (total / factors.sum())
    offset = np.random.default_rng([seed, epoch, 1]).random() * (1 - 1e-6)  # systematic sampling: one draw, evenly spaced
    shown = np.searchsorted(ends, order + offset, side="right").clip(max=len(factors) - 1)
    return np.resize(shown, (steps_per_epoch(factors, batch_size), batch_size))


def batches_from(factors: np.ndarray, batch_size: int, seed: int, epoch: int, step: int, epochs: int,
                 rank: int = 0, processes: int = 1) -> Iterator[list[Key]]:
    """All batches of a run from position (epoch, step) on, as keys (epoch, index, times before) of this process's share.

    An image that an epoch shows several times has another key, and so another augmentation, each time.
    """
    share = batch_size // processes
    for now in range(epoch, epochs):
        indices = epoch_batches(factors, batch_size, seed, now)
        rows = np.stack([indices, _times_before(indices)], axis=2)[step if now == epoch else 0:]
        for row in rows[:, rank * share:(rank + 1) * share].tolist():
            yield [(now, index, times) for index, times in row]


def evaluation_batches(images: int, batch_size: int, rank: int = 0, processes: int = 1) -> list[list[Key]]:
    """Every image of this process's share once, in order; the last batch may be short."""
    indices = range(rank, images, processes)
    return [[(0, index) for index in indices[i:i + batch_size]] for i in range(0, len(indices), batch_size)]


def _times_before(indices: np.ndarray) -> np.ndarray:
    """How often each index stands before itself, row by row; in the shape of `indices`."""
    flat = indices.ravel()
    order = np.argsort(flat, kind="stable")
    group = np.searchsorted(flat[order], flat[order])  # where the run of equal ones begins
    result = np.empty_like(flat)
    result[order] = np.arange(len(flat)) - group
    return result.reshape(indices.shape)


def worker_count(workers: int | str, processes: int = 1) -> int:
    """`runtime.workers` as a number for each training process."""
    if workers != "auto":
        return int(workers)
    return max(1, min(available_cores() // processes, MAX_AUTO_WORKERS))


def load_batches(dataset: DetectionDataset, keys: Any, workers: int, pin_memory: bool = False) -> Generator[Batch, None, None]:
    """Load the batches of `keys`, an iterable of lists of keys, in order.

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
        raise StateError(f"a loader process was killed ({first_line(error)}); most often memory ran out. "
                         "Set runtime.workers lower, then run the same command again.") from error
    finally:
        if workers:
            iterator._shutdown_workers()  # type: ignore[attr-defined]  # now, and not when the last traceback that holds it is forgotten


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches on a device. A GPU copies each while it still works on the one before: the host, which waits for no
    result, asks for it by then, and copies go their own way (a stream of their own)."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copies, work = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(copies):
            there = batch.to(device)
        work.wait_stream(copies)
        for tensor in there[:-1]:
            tensor.record_stream(work)  # its memory is not given to a later copy before the work is done
        yield there


def _start_worker(worker: int) -> None:
    """A loader process leaves Ctrl-C and, for a while, SIGTERM to the trainer, which stops it; it never outlives it."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE_S))
    die_with_parent(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
