"""Exceptions whose message is for the user: a stage prints it without a traceback. Any other exception is a bug.

The message says: where, what is wrong, the value found, what is allowed, what to do.
"""


class InputError(ValueError):
    """The user's input is wrong: a parameter, a dataset, a file."""


class StateError(RuntimeError):
    """The environment prevents the work: a full disk, an unreachable server, a lock that another process holds."""


class Stopped(Exception):  # noqa: N818 - being stopped is no error
    """A signal stopped the work after everything was saved. The exit code is 128 + `signal_number`, as in shells."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)
        self.message, self.signal_number = message, signal_number


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class where the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]
