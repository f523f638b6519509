"""A train stage that sends itself a signal. `arm("POINT:SIGNAL")`, with POINT one of after-step-N (of the run), while-saving-N
(half of the N-th checkpoint is written), in-validation-N (of epoch N). With `arm("POINT:SIGNAL:loader")` a loader process gets
it."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import torch

import ssd_lib.train.fit as fit_module


def arm(where: str) -> None:
    """Patch this process; it is a fork made for the purpose."""
    point, signal_name, *loader = where.split(":")
    kind, _, number = point.rpartition("-")
    countdown = iter([False] * (int(number) - 1) + [True])

    def strike() -> None:
        if next(countdown, False):
            pid = multiprocessing.active_children()[0].pid if loader else os.getpid()
            assert pid is not None
            os.kill(pid, signal.Signals[signal_name])

    place, name, wrap = POINTS[kind]
    setattr(place, name, wrap(getattr(place, name), strike))


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


POINTS = {
    "after-step": (fit_module, "train_epoch", _after_each),
    "while-saving": (torch, "save", _half_way),
    "in-validation": (fit_module, "validation_losses", _before_each),
}
