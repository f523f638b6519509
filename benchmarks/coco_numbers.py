"""Seconds from a split's detections to COCO's twelve numbers, by pycocotools and by faster-coco-eval, and how far they differ.

    python -m benchmarks.coco_numbers

Both get the same made-up objects and detections, as many as COCO's validation images have of 80 classes, and take turns.
faster-coco-eval is optional (requirements-fast.txt); without it pycocotools alone is measured.
"""

import argparse
import time
from statistics import median
from typing import Any

import numpy as np

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.coco_eval import PYCOCOTOOLS, Predictions, fastest_tools, run_coco

CLASSES, OBJECTS, SIDE = 80, 7, 640  # objects of an image, on average; side of an image in pixels
FAST = "faster-coco-eval"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="of an image")
    options = parser.parse_args()
    truth, fixed, predictions = make_split(options.images, options.detections)
    fastest = fastest_tools()
    tools = {"pycocotools": PYCOCOTOOLS} | ({FAST: fastest} if fastest is not PYCOCOTOOLS else {})
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    numbers: dict[str, np.ndarray] = {}
    for _ in range(options.rounds):
        for name, tool in tools.items():
            begin = time.perf_counter()
            numbers[name] = np.array(run_coco(truth, fixed, predictions, tool).stats)
            seconds[name].append(time.perf_counter() - begin)
    print(f"{options.images} images, {len(predictions.images)} detections, {CLASSES} classes; {options.rounds} rounds\n\n"
          "| | median | minimum to maximum |\n|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {median(values):.1f} s | {min(values):.1f} to {max(values):.1f} s |")
    if FAST in tools:
        print(f"\nthe twelve numbers differ by at most {np.abs(numbers['pycocotools'] - numbers[FAST]).max():.1g}")
    else:
        print(f"\n{FAST} is not installed and was not measured: pip install -r requirements-fast.txt")


def make_split(images: int, per_image: int) -> tuple[dict[str, Any], FixedSet, Predictions]:
    """Make up objects of all sizes, and detections near them or elsewhere."""
    rng = np.random.default_rng(1)
    count = OBJECTS * images
    owners = np.sort(rng.integers(0, images, count))
    sides = SIDE * rng.random((count, 2)) ** 2 * 0.9 + 2
    boxes = np.concatenate([rng.random((count, 2)) * (SIDE - sides), sides], axis=1).round(2)
    labels = rng.integers(1, CLASSES + 1, count)
    image_ids = np.arange(1, images + 1) * 3
    rows = [{"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area * 0.7, "iscrowd": crowd}
            for number, (image, label, box, area, crowd) in enumerate(zip(
                image_ids[owners].tolist(), labels.tolist(), boxes.tolist(), boxes[:, 2:].prod(axis=1).tolist(),
                (rng.random(count) < 0.01).astype(int).tolist(), strict=True), 1)]
    truth = {"images": [{"id": image, "width": SIDE, "height": SIDE} for image in image_ids.tolist()],
             "annotations": rows, "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)]}
    empty = np.empty(0)
    fixed = FixedSet(tuple(f"class {k}" for k in range(1, CLASSES + 1)), tuple(range(1, CLASSES + 1)), image_ids, empty, empty,
                     np.full((images, 2), SIDE), empty, empty, empty, empty)
    source = rng.integers(0, count, images * per_image)  # a detection is an object that was moved, or given another class
    moved = boxes[source] + boxes[source][:, [2, 3, 2, 3]] * rng.normal(0, 0.15, (len(source), 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    is_wrong = rng.random(len(source)) < 0.3
    order = np.argsort(owners[source], kind="stable")
    columns = (owners[source], np.where(is_wrong, rng.integers(1, CLASSES + 1, len(source)), labels[source]),
               rng.random(len(source)).round(3), moved.round(3))
    return truth, fixed, Predictions(*(column[order] for column in columns))


if __name__ == "__main__":
    main()
