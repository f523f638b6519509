"""The two errors that are for people: printed as they are, without a traceback. Anything else that is raised is our bug.

Their text says: where, what is wrong, the value found, what is allowed, what to do.
"""


class InputError(ValueError):
    """What the user gave is wrong: a parameter, a data set, a file."""


class StateError(RuntimeError):
    """The world is not as it must be: a full disk, a server that is away, a lock that another process holds."""
