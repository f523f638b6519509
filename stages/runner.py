"""How every stage ends: a line of summary, or one clear message and an exit code that makes DVC stop."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from ssd_lib.errors import InputError, StateError, Stopped

AGAIN = "stopped; what is finished is kept. The same command goes on from here."


def run(stage: Callable[[], str]) -> None:
    """Run a stage and print the line that it returns; a fault of the user's ends in one message, without a traceback."""
    try:
        print(stage(), flush=True)
    except (InputError, StateError) as error:
        sys.exit(f"\nERROR {error}")
    except Stopped as stop:
        _leave(stop.message, stop.signal_number)
    except KeyboardInterrupt:
        _leave(AGAIN, signal.SIGINT)


def _leave(message: str, signal_number: int) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"\n{message}", file=sys.stderr)
    sys.exit(128 + signal_number)
