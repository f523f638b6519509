"""The stages of the pipeline, one script each; DVC runs them as `python -m stages.NAME` in the root of the project.

This file runs before a stage spends seconds on importing torch: from its first moment a stage ends when DVC (or torchrun) does,
and neither Ctrl-C nor a lack of memory ends it with a traceback.
"""

import os
import signal
import sys
from types import TracebackType

from ssd_lib.errors import is_out_of_memory, no_memory
from ssd_lib.processes import die_with_dvc, end_quickly, secure_output


def _print_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\nstopped before anything was done", file=sys.stderr)
    elif is_out_of_memory(error):
        print(f"\nERROR {no_memory(error)}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[0] == "-m":  # Python sets this while it looks for the module to run
    secure_output()
    sys.excepthook = _print_line
    die_with_dvc(signal.SIGTERM)
    end_quickly()
    if "RANK" in os.environ:  # torch reads it when it is imported; each process would print warnings that do not matter here
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    elif stage := {"stages.train", "stages.export", "stages.evaluate"}.intersection(sys.orig_argv):
        print(f"{stage.pop().removeprefix('stages.')}: loading PyTorch, which takes some seconds, more on a busy machine",
              flush=True)
