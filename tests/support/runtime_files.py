"""Files like those of other runtimes, which none of them could run, and which of the runtimes are installed."""

import json
from pathlib import Path
from typing import Any

import pytest

from ssd_lib.export.packages import missing_package
from ssd_lib.export.runtimes import ABOUT_NAME, RUNTIMES, about

METADATA: dict[str, Any] = {"image_size": 64, "classes": ["BACKGROUND", "dog", "kite"]}
CONVERTED = ("openvino", "ncnn")  # by tests: litert takes a minute


def folder_of(runtime: str, parent: Path, contents: dict[str, bytes] | None = None,
              metadata: dict[str, Any] = METADATA) -> Path:
    """Write the files of a runtime into a folder with its name, its mark and garbage or `contents`; return the folder."""
    files = {name: b"    " + RUNTIMES[runtime].mark + b" garbage" for name in RUNTIMES[runtime].files} | (contents or {})
    folder = parent / runtime
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / ABOUT_NAME).write_text(json.dumps(about(runtime, files, metadata)))
    return folder


def installed(runtime: str) -> None:
    """Skip a test if a package of the runtime is missing."""
    if packages := missing_package(runtime):
        pytest.skip(f"{RUNTIMES[runtime].title} is not installed: `pip install {packages}`")
