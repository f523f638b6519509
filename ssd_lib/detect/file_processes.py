"""A process for each model file, which loads it with `Detector` and runs functions on it."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from ssd_lib.detect.detector import Detector
from ssd_lib.detect.exported_net import thread_count
from ssd_lib.errors import InputError, StateError
from ssd_lib.export.runtimes import RUNTIMES

Ask = Callable[..., Any]  # (function, *arguments): the result of function(detector, *arguments) in the process of a file


class Loaded(NamedTuple):
    """What the process of a file says of it.

    Attributes:
        ask: runs a function there.
        class_names: of the model.
        device: "cpu" | "cuda".
        precision: "fp32" | "int8".
        threads: that compute on a CPU.
    """

    ask: Ask
    class_names: tuple[str, ...]
    device: str
    precision: str
    threads: int


def format_of(path: Path) -> str:
    """Return what computes a model file."""
    titles = {Path(row.files[0]).suffix: row.title for row in RUNTIMES.values()} | {".onnx": "ONNX Runtime"}
    return titles.get(path.suffix.lower(), "PyTorch")


@contextmanager
def processes_of(files: Sequence[Path], device: str, batch: int) -> Iterator[dict[Path, Loaded]]:
    """Yield what the process of each file says, all of them loaded."""
    context, ends = multiprocessing.get_context("spawn"), []
    try:
        for path in files:
            ours, theirs = context.Pipe()
            context.Process(target=_serve, args=(theirs, path, device, batch), daemon=True).start()
            theirs.close()
            ends.append(ours)
        yield {path: Loaded(_asker(end, path), *_received(end, path)) for path, end in zip(files, ends, strict=True)}
    finally:
        for end in ends:
            end.close()  # which ends the process


def _asker(end: Connection, path: Path) -> Ask:
    def ask(*request: Any) -> Any:
        end.send(request)
        return _received(end, path)
    return ask


def _received(end: Connection, path: Path) -> Any:
    """Return the answer of a process, or raise the error that is its answer."""
    try:
        answer = end.recv()
    except EOFError as error:
        raise StateError(f"{path}: the process that measured it was killed, probably for lack of memory. Close other programs, "
                         "then run the same command again.") from error
    if isinstance(answer, InputError | StateError):
        raise answer
    return answer


def _serve(end: Connection, path: Path, device: str, batch: int) -> None:
    """Load a file and answer requests until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that asks, and thereby this one
    try:
        detector = Detector(path, device, batch_size=batch)
        end.send((detector.class_names, detector.device, detector.precision, _threads(path)))
        while True:
            function, *arguments = end.recv()
            end.send(function(detector, *arguments))
    except (InputError, StateError) as error:
        end.send(error)
    except (EOFError, BrokenPipeError):
        pass


def _threads(path: Path) -> int:
    """Return with how many threads a file is computed on a CPU."""
    if format_of(path) != "PyTorch":
        return thread_count()
    import torch

    return torch.get_num_threads()
