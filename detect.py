"""Find objects in pictures and videos: `python detect.py photo.jpg` draws them and says what they are.

Here are the arguments and the exit code; the rest is in ssd_lib/detect/command.py, imported once the arguments are read,
since torch takes its seconds.
"""

import argparse
import sys
from pathlib import Path

from ssd_lib.errors import InputError, StateError

INTERRUPTED = 130  # the exit code after Ctrl-C, as the shell has it


def main(arguments: list[str] | None = None) -> int:
    """Detect on what the command line names.

    Returns:
        0; 1 where a file could not be read, or not to its end; 130 after Ctrl-C.
    """
    options = parse_arguments(arguments)
    try:
        from ssd_lib.detect.command import run

        return 1 if run(**vars(options)) else 0
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
    add("--model", type=Path, default=Path("models/ssd.pt"), metavar="FILE",
        help="what `dvc repro` made: models/ssd.pt or models/ssd.onnx (default: %(default)s)")
    add("--out", type=Path, default=Path("detections"), metavar="FOLDER", help="where the drawings go (default: %(default)s)")
    add("--threshold", type=float, default=0.4, metavar="SCORE",
        help="leave out what scores below it, 0 to 1 (default: %(default)s)")
    add("--top-k", type=int, default=100, metavar="N", help="objects kept of each picture or frame (default: %(default)s)")
    add("--nms", choices=("hard", "soft"), default="hard",
        help="what becomes of a box that a better one of its class overlaps: it goes, or loses score (default: %(default)s)")
    add("--json", type=Path, metavar="FILE",
        help="write all objects to this file, in COCO's results form with file names, and frame numbers, for ids")
    add("--show", action="store_true", help="show the drawings in a window, too; q ends, for a picture any other key goes on")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: %(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
