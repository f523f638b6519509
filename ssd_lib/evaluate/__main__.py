"""`python -m ssd_lib.evaluate MODEL --annotations FILE --images FOLDER`: a model measured on any data set in COCO's form."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ssd_lib.checkpoint.convert import open_model
from ssd_lib.data.loader import worker_count
from ssd_lib.device import pick_device
from ssd_lib.errors import InputError, StateError
from ssd_lib.evaluate.coco_eval import results_json, run_coco
from ssd_lib.evaluate.evaluate import all_metrics
from ssd_lib.evaluate.external import ForeignSet, open_foreign_set, predict_foreign
from ssd_lib.evaluate.submission import submission_name, write_submission
from ssd_lib.files import write_json
from ssd_lib.params import EvalParams

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "VOC07", "VOC10")


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line names; 0, or 1 where something is wrong with it, or 130 after Ctrl-C."""
    try:
        run(parse_arguments(arguments))
    except (InputError, StateError) as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd_lib.evaluate", description="Measure a model on a data set in COCO's form, classes matched by name.",
        epilog="python -m ssd_lib.evaluate models/ssd.pt --annotations instances_val2017.json --images val2017/")
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ssd.pt, or a combo checkpoint")
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE",
                        help="a COCO file; where it lists no boxes, only the detections are written")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="where its images are")
    parser.add_argument("--out", type=Path, default=Path("reports/foreign"), metavar="FOLDER",
                        help="where eval.json and results.json go (default: %(default)s)")
    parser.add_argument("--name", metavar="ALG", help="also write the zip for COCO's evaluation server, under this name")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: %(default)s)")
    parser.add_argument("--batch-size", type=_count, default=16, metavar="N", help="images at once (default: %(default)s)")
    parser.add_argument("--score-threshold", type=_fraction, default=0.01, metavar="SCORE",
                        help="drop what scores below it, 0 to 1 (default: %(default)s)")
    parser.add_argument("--nms-iou", type=_fraction, default=0.45, metavar="IOU",
                        help="of two boxes of a class that overlap more, the weaker goes (default: %(default)s)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Detect on all images, write results.json and what was asked for beside it, and say what came out."""
    name = submission_name(options.annotations, options.name) if options.name else None
    device = pick_device(options.device)
    model = open_model(options.model, device)
    data = open_foreign_set(options.annotations, options.images, model.spec.class_names)
    print(describe(data, options.annotations), flush=True)
    params = EvalParams(batch_size=options.batch_size, score_threshold=options.score_threshold, nms_iou=options.nms_iou,
                        top_k_per_class=200, max_detections=100, pictures=0)
    predictions = predict_foreign(model.net, data, params, device, worker_count("auto"))
    results = results_json(data.fixed, predictions)
    write_json(options.out / "results.json", results)
    print(f"{options.out / 'results.json'}: {len(results)} detections")
    if name:
        print(f"{write_submission(options.out, name, results)}: the same for COCO's evaluation server")
    if data.has_boxes:
        metrics = all_metrics(run_coco(data.truth, data.fixed, predictions), data.fixed, predictions)
        write_json(options.out / "eval.json", {**metrics, "model_only": data.model_only, "data_only": data.data_only}, indent=1)
        print(f"{options.out / 'eval.json'}: all numbers, among them\n{table(metrics)}")


def describe(data: ForeignSet, annotations: Path) -> str:
    """What is measured, and what is left out of it; a line each."""
    lines = [f"{annotations}: {len(data.fixed)} images; the model and the data set share {len(data.fixed.class_names)} classes"]
    if not data.has_boxes:
        lines.append("no boxes are listed: there will be detections and no numbers")
    if data.faulty_boxes:
        lines.append(f"left out: {data.faulty_boxes} boxes, faulty beyond repair")
    if data.data_only:
        lines.append(f"left out: objects of classes that the model does not know ({len(data.data_only)}): "
                     + ", ".join(data.data_only))
    if data.model_only:
        lines.append(f"left out: detections of classes that the data set does not know ({len(data.model_only)}): "
                     + ", ".join(data.model_only))
    return "\n".join(lines)


def table(metrics: dict[str, Any]) -> str:
    """Two lines: names, and the numbers under them."""
    numbers = ["-" if metrics[name] is None else format(metrics[name], ".3f") for name in SHOWN]
    return "\n".join("  ".join(f"{cell:>5}" for cell in row) for row in (SHOWN, numbers))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 up")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
