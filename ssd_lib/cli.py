"""The command line `ssd`: arguments and exit codes. `python -m ssd_lib` and `python detect.py` are the same for a clone.

A command imports the code that it runs only after its arguments are read: importing torch takes seconds, `ssd --help` must not.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ssd_lib.checkpoint.cli import add_commands as add_checkpoint_commands
from ssd_lib.errors import InputError, StateError, memory_as_state_error, print_messages, visible_lines
from ssd_lib.plain_values import MOST_TILES
from ssd_lib.processes import end_quickly, secure_output

INTERRUPTED = 130  # exit code after Ctrl-C, as in the shell
MODEL = Path("models")
EXAMPLES = """examples:
  ssd init /my/data
  ssd detect photo.jpg holiday/ clip.mp4 --threshold 0.5 --json found.json
  ssd evaluate models/ssd.pt --annotations instances_val2017.json --images val2017/
  ssd labels models/ssd.pt
  ssd benchmark models --csv benchmark.csv
  ssd checkpoint show models/checkpoints/last.pt
  ssd data preview
  ssd cache --prune
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command of `ssd`.

    Args:
        arguments: those after the program's name; None takes them from the command line.

    Returns:
        Exit code: 0; 1 after an error, which is one line on standard error; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="ssd", description="Use and measure SSD models.", epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, about, add_arguments in (
        ("init", "look at your data, and write a params.yaml for them", _add_init_arguments),
        ("detect", "find objects in images and videos, and draw them", add_detect_arguments),
        ("benchmark", "measure AP, time, size and memory of a model's files on this machine", _add_benchmark_arguments),
        ("evaluate", "measure a model on a dataset in COCO format", _add_evaluate_arguments),
        ("labels", "find suspected errors in the labels of a dataset, by what a model sees", _add_labels_arguments),
        ("checkpoint", "show or convert checkpoints and weights", _add_checkpoint_arguments),
        ("data", "draw training images as the net sees them", _add_data_arguments),
        ("cache", "show or prune the pixel cache of training", _add_cache_arguments),
    ):
        add_arguments(commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}."))
    return run_command(parser.parse_args(arguments))


def run_command(options: argparse.Namespace) -> int:
    """Run the parsed command `options.run`; print a user's error as one line, without a traceback.

    Returns:
        Exit code, as `main` gives it.
    """
    secure_output()
    print_messages()
    end_quickly()
    try:
        with memory_as_state_error():
            return int(options.run(options))
    except (InputError, StateError) as error:
        print(visible_lines(f"ERROR {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def add_detect_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ssd detect` and detect.py."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="an image, a video, a folder of them (searched recursively), a pattern such "
        "as 'a/*.jpg', the number of a camera, an rtsp:// or http:// URL of a video, or - for an image on standard input")
    add("--model", type=Path, default=MODEL, metavar="PATH",
        help="a model file, ssd.pt or ssd.onnx, a checkpoint, or a folder: the fastest of its files on this machine "
             "(default: %(default)s)")
    add("--out", type=Path, default=Path("detections"), metavar="FOLDER", help="folder for the drawings (default: %(default)s)")
    add("--threshold", type=_threshold, default="auto", metavar="SCORE",
        help="leave out detections below this score, 0 to 1; auto takes the model's own for each class, with the best F1 on "
             "its validation images (default: %(default)s)")
    add("--top-k", type=int, metavar="N", help="most detections kept per image or frame (default: the model's max_detections)")
    add("--nms", choices=("hard", "soft"), default="hard",
        help="hard removes a box that overlaps a better one of its class; soft lowers its score (default: %(default)s)")
    _add_nms_iou(parser)
    _add_tiles(parser)
    add("--json", type=Path, metavar="FILE",
        help="write all detections to this file in COCO's results format, with file name and frame number for the image id")
    add("--save-labels", choices=("coco", "yolo", "voc"),
        help="also write the images and their detections as a dataset in this format, to the folder of that name in --out: to "
             "correct in CVAT or Label Studio, or to train on")
    add("--track", action="store_true",
        help="give objects of videos an id that they keep from frame to frame, in the drawing and as track_id in the JSON; "
             "objects below the threshold are kept if they continue a track")
    add("--every", type=_count, default=1, metavar="N",
        help="of videos, use the first of every N frames (default: %(default)s)")
    add("--show", action="store_true", help="also show the drawings in a window; q quits, any other key shows the next image")
    _add_device(parser)
    parser.set_defaults(run=_detect)


def _add_init_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", metavar="DATA", help="a folder or a zip file of images and labels (COCO, VOC, YOLO, Open Images)")
    add("--minutes", type=_positive, default=30.0, metavar="N", help="time for training, in minutes (default: %(default)s)")
    add("--images-per-second", type=_positive, metavar="N", help="speed of training (default: measured in some seconds)")
    add("--recipe", metavar="NAME", help="a file in recipes/ without .yaml (default: chosen by the sizes of the objects)")
    add("--format", dest="form", choices=("auto", "coco", "voc", "yolo", "open_images"), default="auto",
        help="of the labels (default: detected)")
    add("--dry-run", action="store_true", help="show the choices and write nothing")
    add("--force", action="store_true", help="overwrite a params.yaml that is neither in git's last commit nor a recipe")
    parser.set_defaults(run=_init)


def _add_benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, nargs="?", default=MODEL, metavar="MODEL",
                        help="a model file, or a folder: all of its model files (default: %(default)s)")
    parser.add_argument("--csv", dest="csv_path", type=Path, metavar="FILE", help="also write the table to this file")
    parser.add_argument("--quick", action="store_true", help="a few seconds, one image in a call, no AP")
    _add_device(parser)
    parser.set_defaults(run=_benchmark)


def _add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="a model file (ssd.pt) or a checkpoint")
    add("--annotations", type=Path, required=True, metavar="FILE",
        help="annotations in COCO format; without boxes in it, detections are written but no metrics")
    add("--images", type=Path, required=True, metavar="FOLDER", help="folder of the images")
    add("--out", type=Path, default=Path("reports/external"), metavar="FOLDER",
        help="folder for eval.json and results.json (default: %(default)s)")
    add("--name", metavar="ALG", help="also write the zip file for COCO's evaluation server, under this algorithm name")
    add("--batch-size", type=_count, default=16, metavar="N", help="images per batch (default: %(default)s)")
    add("--score-threshold", type=_fraction, metavar="SCORE",
        help="leave out detections below this score, 0 to 1 (default: the model's score_threshold)")
    _add_nms_iou(parser)
    _add_tiles(parser)
    _add_device(parser)
    parser.set_defaults(run=_evaluate)


def _add_labels_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, nargs="?", default=MODEL, metavar="MODEL",
        help="a model file (ssd.pt), a checkpoint, or the folder of ssd.pt (default: %(default)s)")
    add("--annotations", type=Path, metavar="FILE",
        help="labels in COCO format (default: data/fixed/train.json and val.json, the labels of this project)")
    add("--images", type=Path, metavar="FOLDER", help="folder of their images")
    add("--out", type=Path, default=Path("reports/labels"), metavar="FOLDER",
        help="folder for labels.html, labels.json, and files in COCO format for annotation tools (default: %(default)s)")
    add("--top", type=_count, default=200, metavar="N", help="the most suspects that are listed (default: %(default)s)")
    _add_device(parser)
    parser.set_defaults(run=_labels)


def _add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint_commands(parser.add_subparsers(title="commands", metavar="COMMAND", required=True))


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    about = "draw the first training images of an epoch, augmented as params.yaml says, with boxes and names"
    shown = commands.add_parser("preview", help=about, description=f"{about[0].upper()}{about[1:]}.")
    shown.add_argument("--out", type=Path, default=Path("reports/preview.png"), metavar="FILE",
                       help="a .png or .jpg file (default: %(default)s)")
    shown.add_argument("--epoch", type=_count, default=1, metavar="N", help="1 is the first (default: %(default)s)")
    shown.set_defaults(run=_preview)


def _add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prune", action="store_true",
                        help="remove what the current params.yaml and data/fixed do not need, even if other runs use it")
    parser.set_defaults(run=_cache)


def _add_nms_iou(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nms-iou", type=_fraction, metavar="IOU",
                        help="NMS removes a box whose IoU with a better one of its class is higher (default: the model's "
                             "nms_iou)")


def _add_tiles(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tiles", type=_tiles, metavar="N",
                        help="for small objects in large images, also detect in N overlapping parts of each, at most 64; auto "
                             "takes parts of about twice the net's input, 0 none (default: the model's tiles, 0 unless "
                             "params.yaml says otherwise)")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: %(default)s)")


def _detect(options: argparse.Namespace) -> int:
    from ssd_lib.detect.command import run

    return 1 if run(**_arguments(options)) else 0


def _init(options: argparse.Namespace) -> int:
    from ssd_lib.init.command import run

    run(**_arguments(options))
    return 0


def _benchmark(options: argparse.Namespace) -> int:
    from ssd_lib.detect.benchmark import run

    print(visible_lines(run(**_arguments(options))))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from ssd_lib.evaluate.external import evaluate_external

    evaluate_external(**_arguments(options))
    return 0


def _labels(options: argparse.Namespace) -> int:
    from ssd_lib.labels.command import run

    print(visible_lines(run(**_arguments(options))))
    return 0


def _preview(options: argparse.Namespace) -> int:
    from ssd_lib.evaluate.preview import preview

    print(visible_lines(preview(**_arguments(options))))
    return 0


def _cache(options: argparse.Namespace) -> int:
    from ssd_lib.data.pixel_cache import show_cache

    for line in show_cache(options.prune):
        print(visible_lines(line))
    return 0


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name != "run"}


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of 1 or more")
    return int(text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def _threshold(text: str) -> float | str:
    return text if text == "auto" else float(text)


def _tiles(text: str) -> int | str:
    if text != "auto" and not (text.isdecimal() and int(text) <= MOST_TILES):
        raise argparse.ArgumentTypeError(f"{text} is neither auto nor a whole number from 0 to {MOST_TILES}")
    return text if text == "auto" else int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
