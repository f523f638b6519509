"""A clone of the project with small settings, and the environment that its commands run in."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.images import ROOT
from ssd_lib.params import check_params


def make_clone(folder: Path, settings: dict[str, dict[str, Any]]) -> Path:
    """Clone the project as it was last committed, and commit these settings to its params.yaml."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    path = folder / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    for group, values in settings.items():
        tree[group].update(values)
    path.write_text(yaml.safe_dump(tree))
    check_params(path.read_bytes(), path)
    subprocess.run(["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org", "commit", "--quiet", "--all",
                    "--message", "benchmark"], cwd=folder, check=True)
    return folder


def environment(clone: Path, **variables: str) -> dict[str, str]:
    """Return this process's environment with this Python first, and DVC's machine-wide folder beside the clone."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    return kept | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{clone}.dvc",
                   "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | variables
