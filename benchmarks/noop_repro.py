"""Seconds of a `dvc repro` with nothing to do, with as many images as COCO has; `dvc --version` shows what starting DVC takes.

    python -m benchmarks.noop_repro

The pipeline runs once in a clone with 18 images. In a copy of it data/raw and the manifest grow by 118,287 small files, and
`dvc commit` updates dvc.lock. Everything is in a temporary folder, which is removed. The commands take turns.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clone import environment, make_clone
from ssd_lib.manifest import load_manifest

IMAGES = 118_287
CONTENT = b"\xff\xd8\xff\xd9"  # not an image, but no stage reads it
SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"source": "demo", "demo_images": [12, 6]},
    "model": {"net": "mb2-ssd-lite", "image_size": 64, "width_mult": 0.1, "backbone_weights": "none"},
    "train": {"epochs": 1, "batch_size": 4, "freeze": "none", "precision": "fp32"},
    "export": {"int8": False},
    "eval": {"batch_size": 4},
    "runtime": {"device": "cpu", "workers": 1, "processes": 1},
}


def main() -> None:
    """Build both clones, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=IMAGES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few, many = make_clone(Path(folder) / "few", SETTINGS), Path(folder) / "many"
        dvc(few, "repro", "--quiet")
        shutil.copytree(few, many, symlinks=True)
        add_images(many, options.images)
        dvc(many, "commit", "--force", "--quiet")
        times = measure({"`dvc repro`, 18 images": (few, "repro"), f"`dvc repro`, {options.images} images": (many, "repro"),
                         "`dvc --version`": (many, "--version")}, options.rounds)
    print(f"{options.rounds} rounds\n\n| | median | minimum to maximum |\n|---|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {median(seconds):.2f} s | {min(seconds):.2f} to {max(seconds):.2f} s |")


def add_images(clone: Path, count: int) -> None:
    """Add files to the training images and to the manifest."""
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
    """Return the seconds of every call, by name; one call of each warms up."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, (clone, command) in commands.items():
            begin = time.perf_counter()
            output = dvc(clone, command)
            if turn:
                times[name].append(time.perf_counter() - begin)
            assert not turn or "Running stage" not in output, output
    return times


def dvc(clone: Path, *arguments: str) -> str:
    """Run DVC, which must succeed, and return what it prints."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=clone, env=environment(clone), capture_output=True,
                          text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
