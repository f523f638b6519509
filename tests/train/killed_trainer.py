"""The train stage, which sends itself a signal at a chosen point. `python killed_trainer.py POINT:SIGNAL`, with POINT one of
after-step-N (of the run), while-saving-N (half of the N-th checkpoint is written), in-validation-N (of epoch N)."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

import ssd_lib.train.fit as fit_module
from stages import runner, train

point, signal_name = sys.argv[1].split(":")
kind, _, number = point.rpartition("-")
calls = 0


def _strike() -> None:
    os.kill(os.getpid(), signal.Signals[signal_name])


def _count_and_strike() -> None:
    global calls
    calls += 1
    if calls == int(number):
        _strike()


def _after_each(steps: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for result in steps(*args, **kwargs):
            _count_and_strike()
            yield result
    return wrapped


def _half_way(save: Callable[..., None]) -> Callable[..., None]:
    def wrapped(content: Any, file: Any) -> None:
        file.write(b"PK half a checkpoint")
        file.flush()
        _count_and_strike()
        file.seek(0)
        file.truncate()
        save(content, file)
    return wrapped


def _before_each(validate: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _count_and_strike()
        return validate(*args, **kwargs)
    return wrapped


if kind == "after-step":
    fit_module.train_epoch = _after_each(fit_module.train_epoch)
elif kind == "while-saving":
    torch.save = _half_way(torch.save)
elif kind == "in-validation":
    fit_module.validation_losses = _before_each(fit_module.validation_losses)
else:
    raise SystemExit(f"no such point: {kind}")

runner.run(train.main)
