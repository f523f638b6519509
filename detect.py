"""Find objects in pictures: `python detect.py photo.jpg` draws them, says what they are, and writes JSON on request."""

import argparse
import glob
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import write_json
from ssd_lib.images import read_image
from ssd_lib.infer.detector import Detector, Objects
from ssd_lib.infer.drawing import class_colour, draw_boxes, write_picture
from ssd_lib.nets.model_file import MODEL_PATH

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
BATCH_SIZE = 8


def main(arguments: list[str] | None = None) -> int:
    """Detect on what the command line names.

    Returns:
        0, or 1 where a file could not be read.
    """
    options = parse_arguments(arguments)
    try:
        return run(options)
    except (InputError, StateError) as error:
        sys.exit(f"ERROR {error}")
    except KeyboardInterrupt:
        return 130


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="detect.py", description="Find objects in pictures and draw them.",
                                     epilog="python detect.py photo.jpg holiday/ --threshold 0.5 --json found.json")
    parser.add_argument("inputs", nargs="+", metavar="INPUT",
                        help="a picture, a folder of pictures (with its subfolders), or a pattern like 'a/*.jpg'")
    parser.add_argument("--model", type=Path, default=MODEL_PATH, metavar="FILE",
                        help="what `dvc repro train` made (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("detections"), metavar="FOLDER",
                        help="where the drawn pictures go (default: %(default)s)")
    parser.add_argument("--threshold", type=_fraction, default=0.4, metavar="SCORE",
                        help="leave out what scores below it, 0 to 1 (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="write all objects to this file, in COCO's results form with file names for ids")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: %(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Detect, draw and print, a batch at a time; a file that is no picture is named and passed over."""
    paths = find_pictures(options.inputs)
    drawn = drawn_paths(paths, options.out)
    detector = Detector(options.model, options.device, options.threshold, BATCH_SIZE)
    start_s, rows, unreadable = time.perf_counter(), [], 0
    for batch in (paths[i:i + BATCH_SIZE] for i in range(0, len(paths), BATCH_SIZE)):
        pictures = dict(_readable(batch))
        unreadable += len(batch) - len(pictures)
        for (path, picture), found in zip(pictures.items(), detector(list(pictures.values())), strict=True):
            write_picture(drawn[path], draw(picture, found))
            rows += results(path, found, detector.spec.source_ids)
            print(f"{path}: {describe(found)}", flush=True)
    if options.json:
        write_json(options.json, rows)
    count, elapsed_s = len(paths) - unreadable, time.perf_counter() - start_s
    print(f"{count} pictures, {len(rows)} objects, {count / elapsed_s:.1f} pictures/s; drawn in {options.out}"
          + (f"; {unreadable} could not be read" if unreadable else ""))
    return 1 if unreadable else 0


def find_pictures(inputs: list[str]) -> list[Path]:
    """The files that the inputs name, each once, in their order; a folder's by name.

    Raises:
        InputError: an input names nothing.
    """
    paths: dict[Path, None] = {}
    for name in inputs:
        matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        found = [path for match in matches for path in _files(Path(match))]
        if not found:
            raise InputError(f"{name}: no picture is there; an input is a file, a folder with pictures "
                             f"({', '.join(sorted(IMAGE_SUFFIXES))}) or a pattern. Look for a typing error.")
        paths.update(dict.fromkeys(found))
    return list(paths)


def drawn_paths(paths: list[Path], folder: Path) -> dict[Path, Path]:
    """Where each drawing goes: the picture's name as .jpg, numbered where two pictures have the same.

    Raises:
        InputError: a drawing would replace a picture.
    """
    seen: Counter[str] = Counter()
    drawn = {}
    for path in paths:
        seen[path.stem] += 1
        drawn[path] = folder / (f"{path.stem}.jpg" if seen[path.stem] == 1 else f"{path.stem}_{seen[path.stem]}.jpg")
    originals = {path.resolve() for path in paths}
    clash = next((path for path in drawn.values() if path.resolve() in originals), None)
    if clash:
        raise InputError(f"--out {folder}: the drawing would replace the picture {clash}; drawings need a folder of "
                         "their own. Name another one.")
    return drawn


def draw(picture: np.ndarray, found: Objects) -> np.ndarray:
    """The picture with its objects."""
    names = [f"{name} {score:.2f}" for name, score in zip(found.class_names, found.scores, strict=True)]
    return draw_boxes(picture, found.boxes, names, [class_colour(label) for label in found.labels.tolist()])


def results(path: Path, found: Objects, source_ids: tuple[int, ...]) -> list[dict]:
    """COCO's results rows, with the file's name in the place of an image id."""
    return [{"file_name": path.as_posix(), "category_id": source_ids[label - 1], "class_name": name,
             "score": round(float(score), 5), "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)]}
            for (x1, y1, x2, y2), label, score, name in zip(*found, strict=True)]


def describe(found: Objects) -> str:
    """The objects in words: "2 person, 1 dog"."""
    return ", ".join(f"{count} {name}" for name, count in Counter(found.class_names).most_common()) or "nothing found"


def _files(path: Path) -> list[Path]:
    """The path itself, or the pictures of a folder."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())


def _readable(paths: list[Path]) -> Iterator[tuple[Path, np.ndarray]]:
    for path in paths:
        try:
            yield path, read_image(path)
        except InputError:
            print(f"{path}: not a picture that can be read; passed over", file=sys.stderr)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
