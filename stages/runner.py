"""Run a stage: print its messages and its summary, or one error and an exit code that makes DVC stop."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from ssd_lib.errors import InputError, ReportedElsewhere, StateError, Stopped, print_messages

STOPPED = "stopped; what is finished is kept. The same command continues from here."


def run(stage: Callable[[], str]) -> None:
    """Run a stage and print the line that it returns; an error of the user ends in one message, without a traceback."""
    print_messages()
    try:
        if summary := stage():  # empty in all but one of several training processes
            print(summary, flush=True)
    except (InputError, StateError) as error:
        sys.exit(f"\nERROR {error}")
    except Stopped as stop:
        _leave(stop.message, stop.signal_number)
    except ReportedElsewhere as end:
        sys.exit(end.exit_code)
    except KeyboardInterrupt:
        _leave(STOPPED, signal.SIGINT)


def _leave(message: str, signal_number: int) -> None:
    with suppress(OSError):  # the terminal may be closed
        print(f"\n{message}", file=sys.stderr)
    sys.exit(128 + signal_number)
