"""Being asked to stop: a signal becomes a wish, granted between two steps, where the state is whole."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StopRequested(Exception):  # noqa: N818 - being stopped is no error
    """Raised where stopping is safe."""


class StopSignal:
    """Remembers the first stop signal since `listen`; a second Ctrl-C stops at once, as Ctrl-C does.

    Args:
        alone: whether this is the only process. In a group the one that started it speaks, and passes Ctrl-C on once more.

    Attributes:
        signal_number: the signal, or None.
    """

    def __init__(self, alone: bool = True) -> None:
        self.signal_number: int | None = None
        self._alone = alone
        self._at_once = False

    @contextmanager
    def listen(self) -> Iterator["StopSignal"]:
        """Handle the stop signals in here."""
        before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS
                  if not (number == SIGHUP and signal.getsignal(number) is signal.SIG_IGN)}  # nohup asked not to hear of it
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """In here nothing changes the state, so that a signal raises StopRequested wherever it comes."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def check(self) -> None:
        """Raise StopRequested if a signal has come."""
        if self.signal_number is not None:
            raise StopRequested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT and self._alone:
            raise KeyboardInterrupt
        if self.signal_number is None:
            self.signal_number = number
            if self._alone:
                with suppress(OSError):  # the terminal may be gone; print() could also meet itself half way
                    os.write(2, f"\n{signal.Signals(number).name}: saving a checkpoint after this step...\n".encode())
        if self._at_once:
            self._at_once = False
            raise StopRequested
