"""Where the project lies, and what its params.yaml says; for tests that read its files or run its commands."""

from pathlib import Path
from typing import Any

import yaml

from ssd_lib.params import DataParams

ROOT = Path(__file__).resolve().parent.parent


def data_params(**changes: Any) -> DataParams:
    """The group `data` of the shipped params.yaml, with these keys changed."""
    return DataParams.model_validate(yaml.safe_load((ROOT / "params.yaml").read_text())["data"] | changes)
