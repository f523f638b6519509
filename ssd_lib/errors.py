"""What is raised for people: printed as it is, without a traceback. Anything else that is raised is our bug.

Their text says: where, what is wrong, the value found, what is allowed, what to do.
"""


class InputError(ValueError):
    """What the user gave is wrong: a parameter, a data set, a file."""


class StateError(RuntimeError):
    """The world is not as it must be: a full disk, a server that is away, a lock that another process holds."""


class Stopped(Exception):  # noqa: N818 - being stopped is no error
    """A signal asked us to stop; all is saved. The exit code is 128 + `signal_number`, as the shell does it."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message, signal_number)
        self.message, self.signal_number = message, signal_number
