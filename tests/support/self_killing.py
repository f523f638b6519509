"""A train stage that sends itself a signal: `arm("POINT:SIGNAL")` or `arm("POINT:SIGNAL:WHOM")`.

POINT is one of
    after-step-N        of the run
    after-saved-step-N  the same, once a checkpoint is on disk, which another thread writes
    while-saving-N      half of the N-th checkpoint is written
    before-validation-N of epoch N
    in-validation-N     where the loss is computed
    in-barrier-N        while the process waits for the others: at the start, and twice in each validation
SIGNAL is its name, or MEMORY: the process asks for more memory than there is.
WHOM is one of
    loader              a loader process
    rank-R              rank R of several processes, once, however often they are started
    rank-R-always       the same, each time
    all-of-rank-R       all processes of the stage, when rank R is there
    parent-of-rank-R    the parent of rank R
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import torch

import ssd_lib.train.fit as fit_module
from ssd_lib.checkpoint.file import CHECKPOINTS, LAST
from ssd_lib.distributed.collectives import rank_and_size
from support.processes import wait_until


def arm(where: str) -> None:
    """Patch this process; it is a fork made for the purpose."""
    point, signal_name, whom = f"{where}:".split(":")[:3]
    kind, _, number = point.rpartition("-")
    countdown = iter([False] * (int(number) - 1) + [True])

    def strike() -> None:
        if next(countdown, False) and ("rank" not in whom or _is_due(whom)):
            if signal_name == "MEMORY":
                torch.empty(1 << 50)
            targets = {"loader": _first_loader, "all": lambda: -os.getpgid(0), "parent": os.getppid}
            os.kill(targets.get(whom.split("-")[0], os.getpid)(), signal.Signals[signal_name])

    place, name, wrap = POINTS[kind]
    setattr(place, name, wrap(getattr(place, name), strike))


def _first_loader() -> int:
    pid = multiprocessing.active_children()[0].pid
    assert pid is not None
    return pid


def _is_due(whom: str) -> bool:
    rank, *always = whom.partition("rank-")[2].split("-")
    if int(rank) != rank_and_size()[0] or Path("struck").exists():
        return False
    if not always:
        Path("struck").touch()
    return True


def _after_each(steps: Callable[..., Iterator[Any]], strike: Callable[[], None]) -> Callable[..., Iterator[Any]]:
    def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for result in steps(*args, **kwargs):
            strike()
            yield result
    return wrapped


def _half_way(save: Callable[..., None], strike: Callable[[], None]) -> Callable[..., None]:
    def wrapped(content: Any, file: Any) -> None:
        file.write(b"PK half a checkpoint")
        file.flush()
        strike()
        file.seek(0)
        file.truncate()
        save(content, file)
    return wrapped


def _before_each(validate: Callable[..., Any], strike: Callable[[], None]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        strike()
        return validate(*args, **kwargs)
    return wrapped


def _during_each(wait: Callable[..., None], strike: Callable[[], None]) -> Callable[..., None]:
    def wrapped(*args: Any) -> None:
        Timer(0.1, strike).start()
        wait(*args)
    return wrapped


def _after_each_saved(steps: Callable[..., Iterator[Any]], strike: Callable[[], None]) -> Callable[..., Iterator[Any]]:
    first_step = iter([True])  # its checkpoint is asked for after this function

    def strike_once_saved() -> None:
        if not next(first_step, False):
            wait_until((CHECKPOINTS / LAST).exists)
        strike()
    return _after_each(steps, strike_once_saved)


POINTS = {
    "after-step": (fit_module, "train_epoch", _after_each),
    "after-saved-step": (fit_module, "train_epoch", _after_each_saved),
    "while-saving": (torch, "save", _half_way),
    "before-validation": (fit_module, "_validate", _before_each),
    "in-validation": (fit_module, "validation_sums", _before_each),
    "in-barrier": (fit_module, "barrier", _during_each),
}
