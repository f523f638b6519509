"""The root of the project and the values of its params.yaml."""

import json
from pathlib import Path
from typing import Any

import yaml

from ssd_lib.annotations import coco
from ssd_lib.annotations.fix_annotations import write_split
from ssd_lib.params import DataParams, RuntimeParams

ROOT = Path(__file__).resolve().parents[2]


def data_params(**changes: Any) -> DataParams:
    """Return the group `data` of the shipped params.yaml, with these keys changed."""
    return DataParams.model_validate(_shipped("data") | changes)


def runtime_params(**changes: Any) -> RuntimeParams:
    """Return the group `runtime` for a single process on the CPU, with these keys changed."""
    alone = {"device": "cpu", "workers": 0, "processes": 1, "downloads": 1}
    return RuntimeParams.model_validate(_shipped("runtime") | alone | changes)


def write_params(path: Path, **changes: Any) -> Path:
    """Write the shipped params.yaml to `path`, with these values changed, such as train__lr=0.1; return `path`."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dotted, value in changes.items():
        group, key = dotted.split("__")
        tree[group][key] = value
    path.write_text(yaml.safe_dump(tree))
    return path


def _shipped(group: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())[group]


def write_fixed(folder: Path, split: str, tree: dict[str, Any]) -> None:
    """Write the fixed annotations of a split, given the content of a COCO file."""
    write_split(folder, split, coco.parse_file(json.dumps(tree).encode(), split))
