"""Where the time of training goes, compared with the predecessors' way (baseline.py): one table, with ratios of one run.

    python -m benchmarks.run                          # all parts, some ten minutes on two cores
    python -m benchmarks.run --only sample            # the parts with a word in their name
    python -m benchmarks.run --dataset /my/data       # on 80 images of your own instead of the demo's

The net is mb2-ssd-lite at 300 px with 80 classes, trained with SGD. Each case of a part has a process of its own, and the cases
take turns; what is printed is the median, the minimum and the maximum. Other benchmarks print tables of their own: inference,
graphs, coco_numbers, annotations, checkpoint_cost, noop_repro, accuracy.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import torch
import torchvision

from benchmarks import cases
from benchmarks.detection import new_outputs, postprocess_baseline, postprocess_ours, trained_outputs
from benchmarks.images import Images, open_images
from ssd_lib.device import pick_precision
from ssd_lib.processes import keep_freed_memory

BASELINE = "baseline"
TURN_S = 0.5  # at least: a processor that was idle is slow for its first milliseconds
CACHES = ("none", "jpeg", "raw")


class Part(NamedTuple):
    """A part of the table: cases that do the same work, the last of which the others are compared with, and torch's threads."""

    name: str
    threads: int
    cases: dict[str, Callable[[Images], cases.Case]]
    unit: str = "images/s"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="WORD", help="of the parts' names")
    parser.add_argument("--dataset", type=Path, metavar="PATH",
                        help="a folder or zip file with images and annotations, as data.paths takes it; default: the demo's "
                             "images")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, OpenCV {cv2.__version__}, "
          f"{torch.get_num_threads()} threads, precision {pick_precision('auto', cases.CPU)}; median (minimum to maximum)\n\n"
          "| part | case | figure | ratio |\n|---|---|---|---|")
    with open_images(options.dataset) as images:
        for part in PARTS:
            if options.only in part.name:
                show(part, measure(part, images, options.rounds))


def measure(part: Part, images: Images, rounds: int) -> dict[str, list[float]]:
    """Return the figures of every call, by case; the first round warms up. Nothing is computed in this process: torch could not
    compute in its forks afterwards."""
    context, links, processes = get_context("fork"), {}, []
    for name in part.cases:
        links[name], end = context.Pipe()
        processes.append(context.Process(target=serve, args=(end, part, name, images)))
        processes[-1].start()
        links[name].recv()
    figures: dict[str, list[float]] = {name: [] for name in part.cases}
    for turn in range(rounds + 1):
        for name, link in links.items():
            link.send("go")
            figure = link.recv()
            if turn:
                figures[name].append(figure)
    for process, link in zip(processes, links.values(), strict=True):
        link.send("end")
        process.join()
    return figures


def serve(link: Connection, part: Part, name: str, images: Images) -> None:
    """Run one case in a process of its own, whenever a "go" arrives."""
    torch.set_num_threads(part.threads)
    if name != BASELINE:
        keep_freed_memory()  # as the train stage does
    case = part.cases[name](images)
    link.send("ready")
    with suppress(EOFError):  # the other end is closed
        while link.recv() == "go":
            begin, figure, seconds = time.perf_counter(), 0.0, 0.0
            while seconds < TURN_S:
                figure = figure + case() if part.unit == "images/s" else case()
                seconds = time.perf_counter() - begin
            link.send(figure / seconds if part.unit == "images/s" else figure)
    os._exit(0)  # without waiting for loaders


def show(part: Part, figures: dict[str, list[float]]) -> None:
    """Print a line for each case."""
    baseline = median(list(figures.values())[-1])
    for name, values in figures.items():
        ratio = median(values) / baseline if part.unit == "images/s" else baseline / median(values)
        print(f"| {part.name} | {name} | {median(values):.1f} ({min(values):.1f} to {max(values):.1f}) {part.unit} | "
              f"{ratio:.1f} |")
    sys.stdout.flush()


PARTS = (
    Part("sample: file to matched targets", 1, {
        **{f"preset ssd, data.cache {cache}": partial(cases.samples, cache=cache) for cache in CACHES},
        "preset ssdlite": partial(cases.samples, preset="ssdlite"),
        **{f"torchvision's {preset}, unmatched": partial(cases.torchvision_samples, preset=preset)
           for preset in ("ssd", "ssdlite")},
        BASELINE: cases.baseline_samples}),
    Part("matching alone", 1, {"ours": cases.matching, BASELINE: cases.baseline_matching}),
    Part("loss, batch 32", 2,
         {"ours": partial(cases.loss, of_baseline=False), BASELINE: partial(cases.loss, of_baseline=True)}),
    *(Part(f"step, batch {batch}", 2, {
        "ours": partial(cases.steps, batch=batch), BASELINE: partial(cases.baseline_steps, batch=batch)}) for batch in (8, 32)),
    Part("two loader processes", 1, {
        **{f"data.cache {cache}": partial(cases.loader, cache=cache) for cache in CACHES}, BASELINE: cases.baseline_loader}),
    *(Part(f"epoch, batch {batch}", 2, {
        **{f"data.cache {cache}": partial(cases.epoch, cache=cache, batch=batch) for cache in CACHES},
        BASELINE: partial(cases.baseline_epoch, batch=batch)}) for batch in (8, 32)),
    *(Part(f"postprocess, {name} net", 1, {
        "ours": partial(cases.postprocess, outputs=outputs, function=postprocess_ours),
        BASELINE: partial(cases.postprocess, outputs=outputs, function=postprocess_baseline)})
      for name, outputs in (("trained", trained_outputs), ("new", new_outputs))),
    Part("one image", 2, {name: partial(cases.detect, name=name) for name in ("PyTorch", "ONNX Runtime", BASELINE)}),
    Part("check of an image file", 1, {"ours": cases.check, BASELINE: cases.baseline_check}),
    Part("memory of a loader process", 1, {"ours": cases.loader_megabytes, BASELINE: cases.baseline_loader_megabytes},
         unit="MB"),
)

if __name__ == "__main__":
    main()
