"""Where the time of training goes, here and in the predecessors' manner: one table, ratios of one run.

    python -m benchmarks.run                # all parts, some ten minutes on two cores
    python -m benchmarks.run --only sample  # those with a word in their name

Real photographs (see photos.py), mb2-ssd-lite at 300 px, 80 classes, SGD. Each way of doing a part has a process of its own,
and they take turns; what is printed is the median, the least and the most. "Plain" is reference.py. Others have tables of their
own: postprocess, inference, annotations, checkpoint_cost.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import torch
import torchvision

from benchmarks import reference
from benchmarks.photos import Photos, photographs
from ssd_lib.boxes.coder import encode
from ssd_lib.boxes.loss import multibox_loss
from ssd_lib.boxes.matching import match_priors
from ssd_lib.data.cache import open_cache
from ssd_lib.data.dataset import DetectionDataset, collate
from ssd_lib.data.loader import batches_from, load_batches
from ssd_lib.data.transforms import build_transform
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.params import TrainParams, load_params
from ssd_lib.processes import keep_freed_memory
from ssd_lib.train.engine import train_epoch
from ssd_lib.train.precision import pick_precision
from ssd_lib.train.state import new_state

SIDE, CPU, PLAIN = 300, torch.device("cpu"), "plain"
CACHES = ("none", "jpeg", "raw")
EPOCHS = 5  # of the loaders, so that their start weighs little
Way = Callable[[], int]  # does some work and says how many images that was


class Part(NamedTuple):
    """A row of the table: ways to do the same, the last of which is what they are compared with, and torch's threads."""

    name: str
    threads: int
    ways: dict[str, Callable[[Photos], Way]]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--mirror", type=Path, help="a folder with COCO's paths, for its photographs")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, OpenCV {cv2.__version__}, "
          f"{torch.get_num_threads()} threads, precision {pick_precision('auto', CPU)}; images/s, median (least to most)\n\n"
          "| part | way | images/s | ratio |\n|---|---|---|---|")
    with photographs(options.mirror) as photos:
        for part in PARTS:
            if options.only in part.name:
                show(part, measure(part, photos, options.rounds))


def measure(part: Part, photos: Photos, rounds: int) -> dict[str, list[float]]:
    """Images a second of every call, by way; the first round warms up. This process computes nothing: its forks could not."""
    context, links, processes = get_context("fork"), {}, []
    for name in part.ways:
        links[name], end = context.Pipe()
        processes.append(context.Process(target=serve, args=(end, part, name, photos)))
        processes[-1].start()
        links[name].recv()
    rates: dict[str, list[float]] = {name: [] for name in part.ways}
    for turn in range(rounds + 1):
        for name, link in links.items():
            link.send("go")
            rate = link.recv()
            if turn:
                rates[name].append(rate)
    for process, link in zip(processes, links.values(), strict=True):
        link.send("end")
        process.join()
    return rates


def serve(link: Connection, part: Part, name: str, photos: Photos) -> None:
    """One way, in a process of its own, whenever it is asked for."""
    torch.set_num_threads(part.threads)
    if name != PLAIN:
        keep_freed_memory()  # as the train stage does
    way = part.ways[name](photos)
    link.send("ready")
    with suppress(EOFError):  # the asker is gone
        while link.recv() == "go":
            begin = time.perf_counter()
            images = way()
            link.send(images / (time.perf_counter() - begin))
    os._exit(0)  # generators and loaders need no end


def show(part: Part, rates: dict[str, list[float]]) -> None:
    """Print a line for each way."""
    plain = median(list(rates.values())[-1])
    for name, values in rates.items():
        print(f"| {part.name} | {name} | {median(values):.1f} ({min(values):.1f} to {max(values):.1f}) | "
              f"{median(values) / plain:.1f} |")
    sys.stdout.flush()


def matched_samples(photos: Photos, preset: str = "ssd", cache: str = "none") -> Way:
    """Every image once, augmented anew in each call, and matched batch by batch as training does."""
    dataset, net, epochs = our_set(photos, preset, cache), spec_of(photos).build(0), count()

    def run() -> int:
        epoch = next(epochs)
        for first in range(0, len(dataset), 8):
            batch = collate([dataset[epoch, index] for index in range(first, min(first + 8, len(dataset)))])
            encode(match_priors(batch.boxes, batch.labels, batch.crowd_boxes, net.priors_xyxy)[0], net.priors)
        return len(dataset)
    return run


def plain_samples(photos: Photos) -> Way:
    """Every image once."""
    dataset = plain_set(photos)

    def run() -> int:
        for index in range(len(dataset)):
            dataset[index]
        return len(dataset)
    return run


def torchvision_samples(photos: Photos, preset: str) -> Way:
    """Every image once, by one of torchvision's presets."""
    fixed = photos.fixed

    def run() -> int:
        for index in range(len(fixed)):
            rows, path = slice(fixed.first[index], fixed.first[index + 1]), photos.path_of(fixed.file_name(index))
            reference.torchvision_sample(path, fixed.boxes[rows], fixed.labels[rows], SIDE, preset)
        return len(fixed)
    return run


def matching(photos: Photos) -> Way:
    """The boxes of 64 images."""
    dataset, net = our_set(photos), spec_of(photos).build(0)
    batch = collate([dataset[0, index] for index in range(64)])

    def run() -> int:
        encode(match_priors(batch.boxes, batch.labels, batch.crowd_boxes, net.priors_xyxy)[0], net.priors)
        return len(batch.labels)
    return run


def plain_matching(photos: Photos) -> Way:
    """The same boxes."""
    dataset, net = our_set(photos), spec_of(photos).build(0)
    batch = collate([dataset[0, index] for index in range(64)])
    objects = [(boxes[labels > 0], labels[labels > 0]) for boxes, labels in zip(batch.boxes, batch.labels, strict=True)]

    def run() -> int:
        for boxes, labels in objects:
            reference.match_plainly(boxes, labels, net.priors)
        return len(objects)
    return run


def loss(photos: Photos, is_plain: bool, batch: int = 32, priors: int = 3000) -> Way:
    """Forward and backward of the loss alone, with as many positives as real images have."""
    dice, classes = torch.Generator().manual_seed(0), len(photos.fixed.class_names)
    logits = torch.randn(batch, priors, classes + 1, generator=dice, requires_grad=True)
    offsets = torch.randn(batch, priors, 4, generator=dice, requires_grad=True)
    targets = torch.randn(batch, priors, 4, generator=dice)
    is_positive = torch.rand(batch, priors, generator=dice) < 0.006
    labels = torch.randint(1, classes + 1, (batch, priors), generator=dice) * is_positive

    def run() -> int:
        if is_plain:
            box, classification = reference.loss_plainly(logits, offsets, labels, targets)
            (box + classification).backward()
        else:
            sums = multibox_loss(logits, offsets, labels, targets)
            ((sums.classification + sums.box) / sums.positives).backward()
        logits.grad = offsets.grad = None
        return batch
    return run


def steps(photos: Photos, batch: int) -> Way:
    """Steps with one batch that is there already: matching, net, loss, backward, optimizer."""
    dataset, params = our_set(photos), train_params(batch)
    precision = pick_precision(params.precision, CPU)
    state = new_state(spec_of(photos), params, CPU, precision)
    ready = collate([dataset[0, index] for index in range(batch)])
    run = train_epoch(state, state.net, iter(lambda: ready, None), 1 << 30, params, precision)
    return partial(step_of, run, batch)


def plain_steps(photos: Photos, batch: int) -> Way:
    """The same in the other manner; matching is the loader's work there."""
    dataset, net = plain_set(photos), spec_of(photos).build(0).train()
    columns = [torch.stack(list(column)) for column in zip(*(dataset[index] for index in range(batch)), strict=True)]
    endless: Iterator[list[torch.Tensor]] = iter(lambda: columns, None)  # type: ignore[arg-type]
    run = reference.train_plainly(net, endless, reference.plain_optimizer(net))  # type: ignore[arg-type]
    return partial(step_of, run, batch)


def step_of(run: Iterator[object], batch: int) -> int:
    """One step."""
    next(run)
    return batch


def loader(photos: Photos, cache: str, batch: int = 8) -> Way:
    """Batches from two loader processes."""
    dataset = our_set(photos, cache=cache)

    def run() -> int:
        keys = batches_from(torch.ones(len(dataset)).numpy(), batch, 1, 0, 0, EPOCHS)
        return sum(len(each.images) for each in load_batches(dataset, keys, workers=2))
    return run


def plain_loader(photos: Photos, batch: int = 8) -> Way:
    """The same."""
    loaded = reference.load_plainly(plain_set(photos), batch, workers=2)
    return lambda: sum(len(images) for _ in range(EPOCHS) for images, _, _ in loaded)


def epoch(photos: Photos, cache: str, batch: int) -> Way:
    """From files to updated weights, every image once, with two loader processes."""
    dataset, params = our_set(photos, cache=cache), train_params(batch)
    precision = pick_precision(params.precision, CPU)
    state, total = new_state(spec_of(photos), params, CPU, precision), len(dataset) // batch

    def run() -> int:
        state.step = 0
        loaded = load_batches(dataset, batches_from(torch.ones(len(dataset)).numpy(), batch, 1, 0, 0, epochs=1), workers=2)
        return batch * sum(1 for _ in train_epoch(state, state.net, loaded, total, params, precision))
    return run


def plain_epoch(photos: Photos, batch: int) -> Way:
    """The same."""
    net, loaded = spec_of(photos).build(0).train(), reference.load_plainly(plain_set(photos), batch, workers=2)
    optimizer = reference.plain_optimizer(net)
    return lambda: batch * sum(1 for _ in reference.train_plainly(net, loaded, optimizer))


def spec_of(photos: Photos) -> NetSpec:
    """The net that all parts are measured with."""
    return NetSpec("mb2-ssd-lite", SIDE, 1.0, photos.fixed.class_names, photos.fixed.source_ids)


def our_set(photos: Photos, preset: str = "ssd", cache: str = "none") -> DetectionDataset:
    """The data set of the train stage."""
    pixels = open_cache(cache, SIDE, photos.fixed, photos.manifest)  # type: ignore[arg-type]
    return DetectionDataset(photos.fixed, photos.path_of, build_transform(preset, SIDE), 1, pixels)


def plain_set(photos: Photos) -> reference.PlainDataset:
    """Its counterpart."""
    return reference.PlainDataset(photos.fixed, photos.path_of, spec_of(photos).build(0).priors, SIDE)


def train_params(batch: int) -> TrainParams:
    """The shipped ones, with SGD and without a moving average, as the plain loop has it."""
    shipped = load_params("train", path=Path(__file__).parents[1] / "params.yaml").train
    return shipped.model_copy(update={"batch_size": batch, "optimizer": "sgd", "lr": 0.001, "ema_decay": 0.0, "epochs": 1})


PARTS = (
    Part("sample: file to matched targets", 1, {
        **{f"preset ssd, data.cache {cache}": partial(matched_samples, cache=cache) for cache in CACHES},
        "preset ssdlite": partial(matched_samples, preset="ssdlite"),
        **{f"torchvision's {preset}, unmatched": partial(torchvision_samples, preset=preset) for preset in ("ssd", "ssdlite")},
        PLAIN: plain_samples}),
    Part("matching alone", 1, {"here": matching, PLAIN: plain_matching}),
    Part("loss, batch 32", 2, {"here": partial(loss, is_plain=False), PLAIN: partial(loss, is_plain=True)}),
    *(Part(f"step, batch {batch}", 2, {"here": partial(steps, batch=batch), PLAIN: partial(plain_steps, batch=batch)})
      for batch in (8, 32)),
    Part("two loader processes", 1, {
        **{f"data.cache {cache}": partial(loader, cache=cache) for cache in CACHES}, PLAIN: plain_loader}),
    *(Part(f"epoch, batch {batch}", 2, {
        **{f"data.cache {cache}": partial(epoch, cache=cache, batch=batch) for cache in CACHES},
        PLAIN: partial(plain_epoch, batch=batch)}) for batch in (8, 32)),
)

if __name__ == "__main__":
    main()
