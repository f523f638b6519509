"""The stages of the pipeline, one script each, run by DVC as `python -m stages.NAME` from the root of the project.

This file runs before a script of theirs spends seconds on importing torch: from its first moment on a stage ends when DVC
does, and Ctrl-C ends it without a traceback.
"""

import signal
import sys
from types import TracebackType

from ssd_lib.processes import die_with_dvc


def _quietly(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\nstopped before anything was done", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[0] == "-m":  # what Python puts there while it looks for the module that it is to run
    sys.excepthook = _quietly
    die_with_dvc(signal.SIGTERM)
