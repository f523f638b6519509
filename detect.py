"""Find objects in pictures and videos: `python detect.py photo.jpg` draws them and says what they are."""

import argparse
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import get_args

from ssd_lib.errors import InputError, StateError
from ssd_lib.files import write_json
from ssd_lib.infer.detect_command import BATCH_SIZE, look, results
from ssd_lib.infer.detector import Detector
from ssd_lib.infer.inputs import drawn_paths, find_sources
from ssd_lib.infer.postprocess import Nms
from ssd_lib.infer.window import open_window
from ssd_lib.nets.model_file import MODEL_PATH

INTERRUPTED = 130  # the exit code after Ctrl-C, as the shell has it


def main(arguments: list[str] | None = None) -> int:
    """Detect on what the command line names.

    Returns:
        0; 1 where a file could not be read, or not to its end; 130 after Ctrl-C.
    """
    options = parse_arguments(arguments)
    try:
        return run(options)
    except (InputError, StateError) as error:
        sys.exit(f"ERROR {error}")
    except KeyboardInterrupt:
        return INTERRUPTED


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="detect.py", description="Find objects in pictures and videos, and draw them.",
                                     epilog="python detect.py photo.jpg holiday/ clip.mp4 --threshold 0.5 --json found.json")
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="a picture, a video, a folder of them (with its subfolders), a pattern like "
        "'a/*.jpg', the number of a camera, or - for a picture on standard input")
    add("--model", type=Path, default=MODEL_PATH, metavar="FILE",
        help="what `dvc repro` made: models/ssd.pt or models/ssd.onnx (default: %(default)s)")
    add("--out", type=Path, default=Path("detections"), metavar="FOLDER", help="where the drawings go (default: %(default)s)")
    add("--threshold", type=float, default=0.4, metavar="SCORE",
        help="leave out what scores below it, 0 to 1 (default: %(default)s)")
    add("--top-k", type=int, default=100, metavar="N", help="objects kept of each picture or frame (default: %(default)s)")
    add("--nms", choices=get_args(Nms), default="hard",
        help="what becomes of a box that a better one of its class overlaps: it goes, or loses score (default: %(default)s)")
    add("--json", type=Path, metavar="FILE",
        help="write all objects to this file, in COCO's results form with file names, and frame numbers, for ids")
    add("--show", action="store_true", help="show the drawings in a window, too; q ends, for a picture any other key goes on")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: %(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Detect, draw and tell; Ctrl-C ends it early, with all that was found until then."""
    drawn = drawn_paths(find_sources(options.inputs), options.out)
    detector = Detector(options.model, options.device, options.threshold, options.top_k, options.nms, BATCH_SIZE)
    if options.show:
        open_window()
    start_s, rows, tally, stopped = time.perf_counter(), [], Counter[str](), False
    try:
        with closing(look(detector, drawn, options.show)) as sights:
            for seen in sights:
                rows += results(seen, detector.source_ids)
                tally["bad" if seen.objects is None else "pictures" if seen.frame is None else "frames"] += 1
    except KeyboardInterrupt:
        stopped = True
    if options.json:
        write_json(options.json, rows)
    print(summary(tally, len(rows), time.perf_counter() - start_s, options.out) + ("; stopped by Ctrl-C" if stopped else ""))
    return INTERRUPTED if stopped else 1 if tally["bad"] else 0


def summary(tally: Counter[str], objects: int, elapsed_s: float, folder: Path) -> str:
    """The last line: "2 pictures, 5 objects, 20.1 pictures/s; drawn in detections"."""
    kinds = [kind for kind in ("pictures", "frames") if tally[kind]] or ["pictures"]
    counts = ", ".join(f"{tally[kind]} {kind}" for kind in kinds)
    rate = sum(tally[kind] for kind in kinds) / elapsed_s
    bad = f"; {tally['bad']} could not be read to the end" if tally["bad"] else ""
    return f"{counts}, {objects} objects, {rate:.1f} {' and '.join(kinds)}/s; drawn in {folder}{bad}"


if __name__ == "__main__":
    sys.exit(main())
