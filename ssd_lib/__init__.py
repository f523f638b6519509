"""Single Shot MultiBox Detector: data, nets, training that resumes bit for bit, evaluation, export.

`from ssd_lib import Detector` is the Python interface; the command `ssd` is in cli.py.
"""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """Import the Detector on first use, so that importing this package does not import torch."""
    if name == "Detector":
        return importlib.import_module("ssd_lib.detect.detector").Detector
    raise AttributeError(f"module 'ssd_lib' has no attribute {name!r}")
