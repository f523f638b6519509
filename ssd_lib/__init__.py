"""Single Shot MultiBox Detector: data, nets, training that continues bit for bit, evaluation, export.

`from ssd_lib import Detector` is the Python interface.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """The Python interface, imported only where it is asked for: every stage imports this package, and some without torch."""
    if name == "Detector":
        return importlib.import_module("ssd_lib.detect.detector").Detector
    raise AttributeError(f"module 'ssd_lib' has no attribute {name!r}")
