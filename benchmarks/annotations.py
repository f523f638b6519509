"""Annotations of the size of COCO train2017: seconds and memory to read, check, repair and write them, and to open the result;
compared with a baseline of json.load, a deep copy, a change, json.dump, and lists of dicts.

    python -m benchmarks.annotations

Each measurement runs in a process of its own, in turn; the file is generated, 118,287 images and 860,001 boxes with polygons.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np

from ssd_lib.annotations.coco import read_annotations
from ssd_lib.annotations.fix_annotations import write_split
from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.annotations.repair import fix
from ssd_lib.validation.annotations import check_annotations

IMAGES, BOXES, CLASSES = 118_287, 860_001, 80
SEGMENT_POINTS = (6, 53)  # gives a file of 486 MB, as COCO's is


def main() -> None:
    """Measure ours and the baseline, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--boxes", type=int, default=BOXES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_instances(Path("train.json"), options.images, options.boxes)
        print(f"{Path('train.json').stat().st_size / 1e6:.0f} MB, {options.images} images, {options.boxes} boxes; "
              f"{options.rounds} rounds, median (minimum to maximum)")
        print("| | ours | baseline | ratio | ours, GB | baseline, GB |\n|---|---|---|---|---|---|")
        for name, ours, baseline in (("annotations to data/fixed", fix_ours, fix_baseline),
                                     ("data/fixed, opened", open_ours, open_baseline)):
            rounds = [(measure(ours), measure(baseline)) for _ in range(options.rounds)]
            seconds = [[each[side][0] for each in rounds] for side in (0, 1)]
            peak = [median(each[side][1] for each in rounds) for side in (0, 1)]
            print(f"| {name} | {_spread(seconds[0])} | {_spread(seconds[1])} | {median(seconds[1]) / median(seconds[0]):.0f} | "
                  f"{peak[0]:.2f} | {peak[1]:.2f} |", flush=True)
        print(f"\nthe opened dataset: {dataset_megabytes():.0f} MB; a forked worker that has read all of it adds "
              f"{worker_megabytes():.1f} MB")


def fix_ours() -> None:
    """What validate and fix_annotations do with annotations."""
    annotations = read_annotations(Path("train.json"))
    faults = list(check_annotations(annotations, "train"))
    assert not faults
    write_split(Path("fixed"), "train", fix(annotations, (), 1.0))


def fix_baseline() -> None:
    """A typical script: everything as dicts."""
    tree = json.loads(Path("train.json").read_text())
    fixed = deepcopy(tree)
    label = {category["id"]: at for at, category in enumerate(fixed["categories"], 1)}
    for annotation in fixed["annotations"]:
        annotation["category_id"] = label[annotation["category_id"]]
    Path("baseline.json").write_text(json.dumps(fixed))


def open_ours() -> None:
    """What training does before it begins."""
    load_fixed("train", Path("fixed"))


def open_baseline() -> None:
    """The boxes of each image in a list of dicts."""
    tree = json.loads(Path("baseline.json").read_text())
    of_image: dict[int, list] = {image["id"]: [] for image in tree["images"]}
    for annotation in tree["annotations"]:
        of_image[annotation["image_id"]].append(annotation)


def measure(function: Callable[[], None]) -> tuple[float, float]:
    """Return seconds and peak memory in GB, without the imports."""
    receiver, sender = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_timed, args=(function, sender))
    process.start()
    seconds = receiver.recv()
    _, status, usage = os.wait4(process.pid, 0)  # type: ignore[arg-type]
    assert status == 0
    return seconds, usage.ru_maxrss / 1e6


def dataset_megabytes() -> float:
    """Return the size of the arrays of the opened dataset."""
    fixed = load_fixed("train", Path("fixed"))
    return sum(value.nbytes for value in vars(fixed).values() if isinstance(value, np.ndarray)) / 1e6


def worker_megabytes() -> float:
    """Return by how much the private memory of a loader process grows while it reads the boxes of every image."""
    fixed = load_fixed("train", Path("fixed"))
    receiver, sender = get_context("fork").Pipe(duplex=False)

    def read_all() -> None:
        before = _private_megabytes()
        for index in range(len(fixed)):
            rows = slice(fixed.box_offsets[index], fixed.box_offsets[index + 1])
            fixed.file_name(index), fixed.boxes[rows], fixed.labels[rows]
        sender.send(_private_megabytes() - before)

    process = get_context("fork").Process(target=read_all)
    process.start()
    grown = receiver.recv()
    process.join()
    return grown


def write_instances(path: Path, images: int, boxes: int) -> None:
    """Write a file in COCO's format."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(200, 641, (images, 2)).tolist()  # (width, height)
    ids = np.sort(rng.choice(600_000, images, replace=False)).tolist()
    categories = np.sort(rng.choice(np.arange(1, 91), CLASSES, replace=False)).tolist()
    with path.open("w") as file:
        file.write('{"info": {"description": "generated"}, "licenses": [{"id": 1, "name": "none", "url": ""}], "images": [')
        file.write(",".join(json.dumps({
            "license": 1, "file_name": f"{number:012d}.jpg", "coco_url": f"http://127.0.0.1/train2017/{number:012d}.jpg",
            "height": height, "width": width, "date_captured": "2013-11-14 11:18:45", "id": number})
            for number, (width, height) in zip(ids, sizes, strict=True)))
        file.write('], "annotations": [')
        for at in range(boxes):
            owner = int(rng.integers(images))
            low, high = np.sort(rng.random((2, 2)), axis=0) * sizes[owner]
            sides = np.maximum(high - low, 1.5).round(2)
            points = (rng.random(2 * int(rng.integers(*SEGMENT_POINTS))) * 200).round(2).tolist()
            low = np.minimum(low, np.array(sizes[owner]) - sides).clip(min=0).round(2)
            file.write(("," if at else "") + json.dumps({
                "segmentation": [points], "area": round(float(sides.prod()) * 0.6, 4), "iscrowd": int(rng.random() < 0.01),
                "image_id": ids[owner], "bbox": [*low.tolist(), *sides.tolist()],
                "category_id": categories[int(rng.integers(CLASSES))], "id": at + 1}))
        rows = [{"supercategory": "thing", "id": number, "name": f"class {number}"} for number in categories]
        file.write('], "categories": ' + json.dumps(rows) + "}")


def _timed(function: Callable[[], None], sender: Connection) -> None:
    start_s = time.monotonic()
    function()
    sender.send(time.monotonic() - start_s)


def _private_megabytes() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) / 1e3


def _spread(seconds: list[float]) -> str:
    return f"{median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    sys.exit(main())
