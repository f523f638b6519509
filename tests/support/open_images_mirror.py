"""A small Open Images dataset, under the paths of the official servers."""

from pathlib import Path
from typing import Any

from ssd_lib.download.connection import RetryPolicy
from ssd_lib.params import DataParams
from support.project import data_params

QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, timeout_s=2.0)
TRAIN = "/v6/oidv6-train-annotations-bbox.csv"
CLASSES = "/v5/class-descriptions-boxable.csv"


def mirror_files(shared_data: Path) -> dict[str, bytes]:
    """Return the content of each file by its path below the base URL."""
    folder = shared_data / "open-images-mini"
    files = {f"/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.jpg")}
    return files | {
        TRAIN: (folder / "train-annotations-bbox.csv").read_bytes(),
        "/v5/validation-annotations-bbox.csv": (folder / "validation-annotations-bbox.csv").read_bytes(),
        CLASSES: (folder / "class-descriptions-boxable.csv").read_bytes(),
    }


def params(base_url: str, **changes: Any) -> DataParams:
    """Return the group `data` for a mirror."""
    return data_params(**{"source": "open_images", "base_url": base_url, "classes": ["Person", "Dog"]} | changes)
