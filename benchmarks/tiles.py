"""Measure what tiles give on the validation images of a project, and what they cost: recall by size and class, AP, time.

    python -m benchmarks.tiles models/ssd.onnx 0 4        # in the root of a project after `dvc repro`

Every image is detected with each number of tiles in turn, from its file, so that other work slows down all alike.
Recall and precision are those of what people are shown, above the threshold of each class; AP is of all detections.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.boxes.selection import Tiles
from ssd_lib.detect.detector import Detector, Objects
from ssd_lib.evaluate.coco_eval import BOX_DIGITS, SCORE_DIGITS, Predictions, coco_metrics, run_coco
from ssd_lib.evaluate.matching import CROWD, find_pairs, match
from ssd_lib.manifest import FIXED_FOLDER, load_manifest

SMALL = 48**2  # square pixels; a box below has sides of about 7 % of a photograph of 640 px


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiles", description="Measure tiles on the validation images.")
    parser.add_argument("model", help="a model file or a folder")
    parser.add_argument("tiles", nargs="+", help="numbers of tiles, or auto; the first is what times are compared with")
    options = parser.parse_args()
    measure(options.model, [count if count == "auto" else int(count) for count in options.tiles])


def measure(model: str, counts: Sequence[Tiles]) -> None:
    """Print a Markdown row for each number of tiles."""
    fixed, manifest = load_fixed("val"), load_manifest()
    truth = json.loads((FIXED_FOLDER / "val.json").read_bytes())
    paths = [manifest.path(fixed.file_name(index)) for index in range(len(fixed))]
    detectors = [Detector(model, tiles=count) for count in counts]
    seconds = in_turns(detectors, paths)
    for count, detector, own in zip(counts, detectors, seconds, strict=True):
        found = as_predictions([Detector(model, threshold=None, tiles=count)(path) for path in paths])
        shown = Predictions(*(column[found.scores >= detector.thresholds[found.labels - 1]] for column in found))
        metrics = coco_metrics(run_coco(truth, fixed, found))
        shares = [*recalls(fixed, shown), metrics["AP"], metrics["AP50"]]
        cells = [f"{count}", *("-" if share is None else f"{share:.3f}" for share in shares),
                 f"{np.median(own) * 1000:.0f}", f"{np.median(np.array(own) / seconds[0]):.2f}"]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(f"columns: tiles, recall of objects below {SMALL} px2, of others, of {', '.join(fixed.class_names)}, precision, AP, "
          "AP50, ms, times the first")


def in_turns(detectors: Sequence[Detector], paths: Sequence[Path]) -> list[list[float]]:
    """Return the seconds that each detector takes for each image."""
    seconds: list[list[float]] = [[] for _ in detectors]
    for path in paths:
        for detector, own in zip(detectors, seconds, strict=True):
            begin = time.perf_counter()
            detector(path)
            own.append(time.perf_counter() - begin)
    return seconds


def as_predictions(found: Sequence[Objects]) -> Predictions:
    """Return the detections of all images of a split."""
    boxes = np.concatenate([one.boxes for one in found]).astype(np.float64)
    return Predictions(np.repeat(np.arange(len(found)), [len(one.scores) for one in found]),
                       np.concatenate([one.labels for one in found]),
                       np.concatenate([one.scores for one in found]).astype(np.float64).round(SCORE_DIGITS),
                       np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).round(BOX_DIGITS))


def recalls(fixed: FixedSet, shown: Predictions) -> list[float]:
    """Return the recall of small objects, of others and of each class, and the precision, at an IoU of 0.5."""
    matched = match(fixed, shown, find_pairs(fixed, shown))
    is_found = np.isin(np.arange(len(fixed.labels)), matched) & ~fixed.is_crowd
    is_small = (fixed.boxes[:, 2:] - fixed.boxes[:, :2]).prod(axis=1) < SMALL
    groups = [is_small, ~is_small, *(fixed.labels == label for label in range(1, len(fixed.class_names) + 1))]
    precision = (matched >= 0).sum() / (matched != CROWD).sum()
    return [*(float(is_found[group & ~fixed.is_crowd].mean()) for group in groups), float(precision)]


if __name__ == "__main__":
    main()
