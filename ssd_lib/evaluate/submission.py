"""Detections packed as COCO's evaluation server takes them: one JSON file in a zip, by their official names.

Source: cocodataset.org/#upload: detections_[testset]_[alg]_results.json in a zip of the same name (names of test-dev2017:
github.com/cocodataset/cocoapi/issues/87). The server fails where the zip holds a folder (github.com/kkhoot/PAA/issues/20).
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from ssd_lib.errors import InputError
from ssd_lib.files import atomic_write

EARLIEST = (1980, 1, 1, 0, 0, 0)  # of a zip's dates: the same results give the same bytes


def submission_name(annotations: Path, algorithm: str) -> str:
    """detections_[testset]_[alg]_results, for a file of annotations like image_info_test-dev2017.json.

    Args:
        annotations: its testset is what follows the last underscore: test-dev2017, or val2017 of instances_val2017.json.
        algorithm: the name to compete under.

    Raises:
        InputError: the name cannot be part of a file's name.
    """
    if not re.fullmatch(r"[\w.-]+", algorithm, re.ASCII):
        raise InputError(f"--name: {algorithm!r} becomes part of a file's name; letters, digits, '.', '-' and '_' are allowed. "
                         "Choose another one.")
    return f"detections_{annotations.stem.rpartition('_')[2]}_{algorithm}_results"


def write_submission(folder: Path, name: str, results: list[dict[str, Any]]) -> Path:
    """Write NAME.zip with NAME.json in it, atomically; the same results give the same bytes.

    Args:
        folder: where to.
        name: from `submission_name`.
        results: from `results_json`: at most 100 an image count.

    Returns:
        The path of the zip.
    """
    path = folder / f"{name}.zip"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(f"{name}.json", EARLIEST), json.dumps(results), zipfile.ZIP_DEFLATED)
    return path
