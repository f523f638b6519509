"""Seconds of a `dvc repro` that finds nothing to do, with as many images as COCO has, beside `dvc --version`, a mere start.

    python -m benchmarks.noop_repro

The pipeline runs once in a clone with a handful of pictures. In a copy of it data/raw and the manifest grow by 118,287 small
files, and `dvc commit` makes dvc.lock true again. Everything lies in a temporary folder, which is removed. All take turns.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from ssd_lib.manifest import load_manifest

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 118_287
CONTENT = b"\xff\xd8\xff\xd9"  # no picture; nobody opens it
SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"source": "demo", "demo_images": [12, 6]},
    "model": {"image_size": 64, "width_mult": 0.1},
    "train": {"epochs": 1, "batch_size": 4, "precision": "fp32"},
    "eval": {"batch_size": 4, "pictures": 2},
    "runtime": {"device": "cpu", "workers": 1, "processes": 1},
}


def main() -> None:
    """Build, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few, many = make_clone(Path(folder) / "few"), Path(folder) / "many"
        dvc(few, "repro", "--quiet")
        shutil.copytree(few, many, symlinks=True)
        add_images(many, options.images)
        dvc(many, "commit", "--force", "--quiet")
        times = measure({"`dvc repro`, 18 images": (few, "repro"), f"`dvc repro`, {options.images} images": (many, "repro"),
                         "`dvc --version`": (many, "--version")}, options.rounds)
    print(f"{options.rounds} rounds\n\n| | median | min to max |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {median(seconds):.2f} s | {min(seconds):.2f} to {max(seconds):.2f} s |")


def make_clone(folder: Path) -> Path:
    """The project as it was last committed, with settings so small that all stages run in a minute."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    path = folder / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    for group, values in SETTINGS.items():
        tree[group].update(values)
    path.write_text(yaml.safe_dump(tree))
    return folder


def add_images(clone: Path, count: int) -> None:
    """Put so many files beside the pictures, and into the manifest."""
    path = clone / "data" / "manifest.json"
    manifest = load_manifest(path)
    raw = clone / "data" / "raw" / manifest.root
    names = [f"{manifest.splits['train'][0].images}/small-{number:012d}.jpg" for number in range(count)]
    for name in names:
        (raw / name).write_bytes(CONTENT)
    row = (len(CONTENT), "0" * 64)
    path.unlink()  # DVC may have made it a link into its cache
    manifest.model_copy(update={"files": manifest.files | {name: row for name in names}}).save(path)


def measure(commands: dict[str, tuple[Path, str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, by name, after one of each that warms up."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, (clone, command) in commands.items():
            begin = time.perf_counter()
            said = dvc(clone, command)
            if turn:
                times[name].append(time.perf_counter() - begin)
            assert not turn or "Running stage" not in said, said
    return times


def dvc(clone: Path, *arguments: str) -> str:
    """Run DVC, which must succeed; what it prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    environment |= {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{clone}.dvc",
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=clone, env=environment, capture_output=True, text=True,
                          check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
