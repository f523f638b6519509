"""Run a stage: print its messages and its summary, or one error and an exit code that makes DVC stop."""

import signal
import sys
from collections.abc import Callable

from ssd_lib.errors import (
    InputError,
    ReportedElsewhere,
    StateError,
    Stopped,
    memory_as_state_error,
    print_messages,
    visible_lines,
)
from ssd_lib.processes import secure_output

STOPPED = "stopped; what is finished is kept. The same command continues from here."


def run(stage: Callable[[], str]) -> None:
    """Run a stage and print the line that it returns; an error of the user ends in one message, without a traceback."""
    secure_output()
    print_messages()
    try:
        with memory_as_state_error():
            summary = stage()
        if summary:  # empty in all but one of several training processes
            print(visible_lines(summary), flush=True)
    except (InputError, StateError) as error:
        sys.exit(visible_lines(f"\nERROR {error}"))
    except Stopped as stop:
        _leave(stop.message, stop.signal_number)
    except ReportedElsewhere as end:
        sys.exit(end.exit_code)
    except KeyboardInterrupt:
        _leave(STOPPED, signal.SIGINT)


def _leave(message: str, signal_number: int) -> None:
    print(visible_lines(f"\n{message}"), file=sys.stderr)
    sys.exit(128 + signal_number)
