"""Stop signals: one is noted when it arrives and raised between two steps, where the training state is consistent."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ssd_lib.processes import STOP_SIGNALS

SIGHUP = getattr(signal, "SIGHUP", None)  # Windows does not have it


class StopRequested(Exception):  # noqa: N818 - a stop is not an error
    """Raised where it is safe to stop."""


class StopSignal:
    """Note the first stop signal since `listen`; a second Ctrl-C raises KeyboardInterrupt at once.

    Args:
        alone: whether no other process forwards signals to this one; else one Ctrl-C may arrive here twice.
        prints: whether to print that a signal has arrived.

    Attributes:
        signal_number: the signal, or None.
    """

    def __init__(self, alone: bool = True, prints: bool = True) -> None:
        self.signal_number: int | None = None
        self._alone, self._prints = alone, prints
        self._raises_now = False

    @contextmanager
    def listen(self) -> Iterator["StopSignal"]:
        """Handle the stop signals inside this context."""
        before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS
                  if not (number == SIGHUP and signal.getsignal(number) is signal.SIG_IGN)}  # nohup sets SIG_IGN
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def raise_now(self) -> Iterator[None]:
        """Let a signal raise StopRequested wherever it arrives: for code that does not change the training state."""
        self._raises_now = True
        try:
            self.check()
            yield
        finally:
            self._raises_now = False

    def check(self) -> None:
        """Raise StopRequested if a signal has arrived."""
        if self.signal_number is not None:
            raise StopRequested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT and self._alone:
            raise KeyboardInterrupt
        if self.signal_number is None:
            self.signal_number = number
            if self._prints:
                with suppress(OSError):  # the terminal may be closed; print() is not safe in a signal handler
                    os.write(2, f"\n{signal.Signals(number).name}: saving a checkpoint after this step...\n".encode())
        if self._raises_now:
            self._raises_now = False
            raise StopRequested
