"""Messages for the user, and how they show text of data and models.

Exceptions of these kinds are printed without a traceback; any other exception is a bug. An error's message says: where, what is
wrong, the value found, what is allowed, what to do.
"""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

# in the messages of torch, CUDA, oneDNN, OpenCV, ONNX Runtime, the C++ library and the dynamic linker
NO_MEMORY = ("allocate memory", "unable to allocate", "not enough memory", "out of memory", "insufficient memory", "bad_alloc",
             "bad allocation", "alloc_failed", "could not create a primitive", "can't start new thread",
             "resource temporarily unavailable", "failed to map segment")

OF_OPENVINO = ("Exception from ", "Check '", "FrontEnd API failed ")  # lines on where in its source an error arose
JOINERS = "\u200c\u200d"  # invisible, and part of words in Persian and Indic scripts, and of emoji
ELLIPSIS = "…"
MAX_LINE = 2000  # characters of a line on the terminal


class InputError(ValueError):
    """The user's input is wrong: a parameter, a dataset, a file."""


class StateError(RuntimeError):
    """The environment prevents the work: a full disk, an unreachable server, a lock that another process holds."""


class Stopped(Exception):  # noqa: N818 - being stopped is no error
    """A signal stopped the work after everything was saved. The exit code is 128 + `signal_number`, as in shells."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)
        self.message, self.signal_number = message, signal_number


class ReportedElsewhere(Exception):  # noqa: N818 - the process that reported the error raised it
    """Another process of the group has reported why the run ends; this one ends with `exit_code` and without a message."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message that says what is wrong, or else the name of its class."""
    lines = [line for line in str(error).splitlines() if not line.startswith(OF_OPENVINO)]
    return (lines or [type(error).__name__])[0]


def plural(number: int, word: str) -> str:
    """Return for example "1 image" or "1,200 boxes"."""
    ending = "" if number == 1 else "es" if word.endswith(("x", "s")) else "s"
    return f"{number:,} {word}{ending}"


def visible(text: str, length: int | None = None) -> str:
    """Return text of data or models as it is shown to people: on one line, and nothing that a terminal or a format interprets.

    Every character that cannot be printed (control, lone surrogate, direction of writing) is escaped. Of what is longer than
    `length` characters the middle is left out, because names differ at their ends.
    """
    shown = "".join(char if char.isprintable() or char in JOINERS else char.encode("unicode_escape").decode() for char in text)
    if length is None or len(shown) <= length:
        return shown
    head = (length - 1) // 3
    return shown[:head] + ELLIPSIS + shown[len(shown) - (length - 1 - head):]


def visible_lines(text: str) -> str:
    """Return a message for the terminal: its lines as `visible` shows them, each of MAX_LINE characters at most."""
    return "\n".join(visible(line, MAX_LINE) for line in text.split("\n"))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory could not be allocated; each library says it in its own way."""
    if isinstance(error, InputError | StateError):
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN)):
        return True
    return isinstance(error, Exception) and any(text in str(error).lower() for text in NO_MEMORY)


def no_memory(error: BaseException) -> StateError:
    """Return the error to raise for one of which `is_out_of_memory` is true."""
    return StateError(f"memory ran out ({visible(first_line(error), 200)}). Close other programs or raise the limit (of "
                      "`ulimit -v`, of the container), or use less: lower runtime.workers, then train.micro_batch, "
                      "train.batch_size or eval.batch_size. The same command continues from what is saved.")


@contextmanager
def memory_as_state_error() -> Iterator[None]:
    """Raise a StateError where memory runs out inside this context."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise no_memory(error) from error
        raise


def print_messages(is_printing: bool = True) -> None:
    """Print what `ssd_lib` logs as plain lines on standard output, warnings after the word WARNING.

    Args:
        is_printing: False where another of several training processes prints for all.
    """
    logger = logging.getLogger("ssd_lib")
    logger.handlers = [_Printer()]
    logger.setLevel(logging.INFO if is_printing else logging.CRITICAL)


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(visible_lines(("WARNING " if record.levelno >= logging.WARNING else "") + record.getMessage()), flush=True)
