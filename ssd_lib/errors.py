"""Messages for the user. Exceptions of these kinds are printed without a traceback; any other exception is a bug.

An error's message says: where, what is wrong, the value found, what is allowed, what to do.
"""

import logging


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
    """Return the first line of an exception's message, or the name of its class where the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


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
        print(("WARNING " if record.levelno >= logging.WARNING else "") + record.getMessage(), flush=True)
