"""Where the time of training goes, here and in the predecessors' manner: one table, ratios of one run.

    python -m benchmarks.run                # all parts, some ten minutes on two cores
    python -m benchmarks.run --only sample  # those with a word in their name

Real photographs (see photos.py), mb2-ssd-lite at 300 px, 80 classes, SGD. Each way of doing a part has a process of its own,
and they take turns; what is printed is the median, the least and the most. "Plain" is reference.py. Others have tables of their
own: postprocess, detection, inference, coco_numbers, annotations, checkpoint_cost.
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

from benchmarks import ways
from benchmarks.photos import Photos, photographs
from benchmarks.postprocess import new_outputs, postprocess_here, postprocess_plainly, trained_outputs
from ssd_lib.precision import pick_precision
from ssd_lib.processes import keep_freed_memory

PLAIN = "plain"
TURN_S = 0.5  # at least: what takes a millisecond would be measured asleep
CACHES = ("none", "jpeg", "raw")


class Part(NamedTuple):
    """A row of the table: ways to do the same, the last of which is what they are compared with, and torch's threads."""

    name: str
    threads: int
    ways: dict[str, Callable[[Photos], ways.Way]]
    unit: str = "images/s"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--mirror", type=Path, help="a folder with COCO's paths, for its photographs")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, OpenCV {cv2.__version__}, "
          f"{torch.get_num_threads()} threads, precision {pick_precision('auto', ways.CPU)}; median (least to most)\n\n"
          "| part | way | figure | ratio |\n|---|---|---|---|")
    with photographs(options.mirror) as photos:
        for part in PARTS:
            if options.only in part.name:
                show(part, measure(part, photos, options.rounds))


def measure(part: Part, photos: Photos, rounds: int) -> dict[str, list[float]]:
    """The figures of every call, by way; the first round warms up. This process computes nothing: its forks could not."""
    context, links, processes = get_context("fork"), {}, []
    for name in part.ways:
        links[name], end = context.Pipe()
        processes.append(context.Process(target=serve, args=(end, part, name, photos)))
        processes[-1].start()
        links[name].recv()
    figures: dict[str, list[float]] = {name: [] for name in part.ways}
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


def serve(link: Connection, part: Part, name: str, photos: Photos) -> None:
    """One way, in a process of its own, whenever it is asked for."""
    torch.set_num_threads(part.threads)
    if name != PLAIN:
        keep_freed_memory()  # as the train stage does
    way = part.ways[name](photos)
    link.send("ready")
    with suppress(EOFError):  # the asker is gone
        while link.recv() == "go":
            begin, figure, seconds = time.perf_counter(), 0.0, 0.0
            while seconds < TURN_S:
                figure = figure + way() if part.unit == "images/s" else way()
                seconds = time.perf_counter() - begin
            link.send(figure / seconds if part.unit == "images/s" else figure)
    os._exit(0)  # generators and loaders need no end


def show(part: Part, figures: dict[str, list[float]]) -> None:
    """Print a line for each way."""
    plain = median(list(figures.values())[-1])
    for name, values in figures.items():
        ratio = median(values) / plain if part.unit == "images/s" else plain / median(values)
        print(f"| {part.name} | {name} | {median(values):.1f} ({min(values):.1f} to {max(values):.1f}) {part.unit} | "
              f"{ratio:.1f} |")
    sys.stdout.flush()


PARTS = (
    Part("sample: file to matched targets", 1, {
        **{f"preset ssd, data.cache {cache}": partial(ways.matched_samples, cache=cache) for cache in CACHES},
        "preset ssdlite": partial(ways.matched_samples, preset="ssdlite"),
        **{f"torchvision's {preset}, unmatched": partial(ways.torchvision_samples, preset=preset)
           for preset in ("ssd", "ssdlite")},
        PLAIN: ways.plain_samples}),
    Part("matching alone", 1, {"here": ways.matching, PLAIN: ways.plain_matching}),
    Part("loss, batch 32", 2, {"here": partial(ways.loss, is_plain=False), PLAIN: partial(ways.loss, is_plain=True)}),
    *(Part(f"step, batch {batch}", 2, {"here": partial(ways.steps, batch=batch), PLAIN: partial(ways.plain_steps, batch=batch)})
      for batch in (8, 32)),
    Part("two loader processes", 1, {
        **{f"data.cache {cache}": partial(ways.loader, cache=cache) for cache in CACHES}, PLAIN: ways.plain_loader}),
    *(Part(f"epoch, batch {batch}", 2, {
        **{f"data.cache {cache}": partial(ways.epoch, cache=cache, batch=batch) for cache in CACHES},
        PLAIN: partial(ways.plain_epoch, batch=batch)}) for batch in (8, 32)),
    *(Part(f"postprocess, {name} net", 1, {
        "here": partial(ways.postprocess, outputs=outputs, way=postprocess_here),
        PLAIN: partial(ways.postprocess, outputs=outputs, way=postprocess_plainly)})
      for name, outputs in (("trained", trained_outputs), ("new", new_outputs))),
    Part("one picture", 2, {name: partial(ways.detect, name=name) for name in ("PyTorch", "ONNX Runtime", PLAIN)}),
    Part("check of an image file", 1, {"here": ways.check, PLAIN: ways.plain_check}),
    Part("memory of a loader process", 1, {"here": ways.loader_megabytes, PLAIN: ways.plain_loader_megabytes}, unit="MB"),
)

if __name__ == "__main__":
    main()
