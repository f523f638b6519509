"""How long detect.py takes for a video and for a folder, of this clone and of another one, in turns.

    python -m benchmarks.detect_command ../photographs --other ../earlier-clone

The folder has up to 500 photographs as they are; the video shows each of 40 of them for 25 frames of 640 x 480, moving.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median

import cv2

from ssd_lib.images import IMAGE_SUFFIXES

ROOT = Path(__file__).resolve().parent.parent
IMAGES, SHOWN, FRAMES, SIZE = 500, 40, 25, (480, 640)
MARGIN = 1.25  # the photographs are so many times as large as the frames, which move over them


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder")
    parser.add_argument("--other", type=Path, required=True, help="a clone of another version")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    versions = [("other", options.other.resolve(), "ssd.pt"), ("other", options.other.resolve(), ""), ("this", ROOT, "ssd.pt"),
                ("this", ROOT, "")]
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(options.photographs, Path(folder))
        seconds: dict[tuple[str, str, str], list[float]] = {}
        for _ in range(options.rounds):
            for source in inputs:
                for name, root, model in versions:
                    key = (source.name, name, f"models/{model}")
                    seconds.setdefault(key, []).append(measure(root, source, options.models.resolve() / model, Path(folder)))
    print("| input | version | model | seconds, median (minimum to maximum) |\n|---|---|---|---|")
    for key, values in seconds.items():
        print(f"| {' | '.join(key)} | {median(values):.1f} ({min(values):.1f} to {max(values):.1f}) |")


def make_inputs(photographs: Path, folder: Path) -> list[Path]:
    """Write the video and link the photographs, and return both."""
    files = list(islice((path for path in sorted(photographs.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES), IMAGES))
    (folder / "photographs").mkdir()
    for number, path in enumerate(files):
        (folder / "photographs" / f"{number:03}{path.suffix}").symlink_to(path.resolve())
    height, width = SIZE
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for path in files[:SHOWN]:
        image = cv2.resize(cv2.imread(str(path)), (int(MARGIN * width), int(MARGIN * height)))
        for step in range(FRAMES):
            y, x = (int((MARGIN - 1) * side * step / FRAMES) for side in SIZE)
            writer.write(image[y:y + height, x:x + width])
    writer.release()
    return [folder / "clip.mp4", folder / "photographs"]


def measure(root: Path, source: Path, model: Path, folder: Path) -> float:
    """Return the seconds that detect.py of a clone takes, from its start to its end."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, root / "detect.py", source, "--model", model, "--out", folder / "out", "--json",
                    folder / "found.json"], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(root)})
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
