"""Clones of the project with tiny parameters, and the commands of a user in them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from support.project import ROOT

TINY: dict[str, dict[str, Any]] = {
    "model": {"net": "mb2-ssd-lite", "image_size": 64, "width_mult": 0.1, "backbone_weights": "none"},
    "train": {"epochs": 1, "batch_size": 4, "freeze": "none", "precision": "fp32"},
    "eval": {"batch_size": 4, "pictures": 2},
    "runtime": {"device": "cpu", "workers": 1, "processes": 1},
}


def environment(folder: Path) -> dict[str, str]:
    """Return the environment for commands: `python` is this Python, and DVC's site cache lies beside the repository."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "PYTHONPATH"))}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1",
                   "DVC_SITE_CACHE_DIR": str(folder.parent / "dvc"), "OMP_NUM_THREADS": "1"}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a repository."""
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False,
                          timeout=500)


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run DVC."""
    return run(folder, sys.executable, "-m", "dvc", *arguments)


def git(folder: Path, *arguments: str) -> str:
    """Run git, which must succeed, and return its output."""
    done = run(folder, "git", "-c", "user.name=tester", "-c", "user.email=tester@example.org", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_clone(folder: Path, images: int = 12, **train: Any) -> Path:
    """Commit a copy of the project with tiny parameters, this number of training images and these keys of `train`."""
    names = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
                           text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    tree = yaml.safe_load((folder / "params.yaml").read_text())
    for group, values in TINY.items():
        tree[group].update(values)
    tree["train"].update(train)
    tree["data"]["demo_images"] = [images, 6]
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "user.name", "tester")  # `dvc exp run` commits
    git(folder, "config", "user.email", "tester@example.org")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=clone")
    return folder
