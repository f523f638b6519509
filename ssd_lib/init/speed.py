"""Measure how fast this machine trains a net, with a few steps on random pixels."""

import time
from collections.abc import Iterator
from itertools import repeat

import torch

from ssd_lib.data.dataset import Batch
from ssd_lib.data.loader import worker_count
from ssd_lib.device import choose_algorithms, pick_device, pick_precision, pick_threads
from ssd_lib.params import Params
from ssd_lib.train.epoch import train_epoch
from ssd_lib.train.optimizer import with_rate
from ssd_lib.train.run_spec import criterion_of
from ssd_lib.train.setup import spec_for_classes
from ssd_lib.train.state import new_state

WARM_UP_STEPS = 2
MEASURED_S, MEASURED_STEPS = 2.5, 2  # at least
OBJECTS = 6  # in an image
LOADED_PER_S = 160  # images that one loader process reads and augments (docs/performance.md)


def training_speed(params: Params, classes: int) -> tuple[float, str]:
    """Return the images per second of training steps on this machine, and how this was found.

    Weights are new ones, which cost the same time as others. On a GPU the loader processes may be the limit.
    """
    device = pick_device(params.runtime.device)
    choose_algorithms(params.train.deterministic)
    torch.set_num_threads(pick_threads(params.runtime.threads, 0, 1))
    steps = _steps(params, classes, device)
    for _ in range(WARM_UP_STEPS):
        next(steps)
    _wait_for(device)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < MEASURED_S or done < MEASURED_STEPS:
        next(steps)
        _wait_for(device)
        done += 1
    speed = done * params.train.batch_size / (time.perf_counter() - start)
    workers = worker_count(params.runtime.workers) or 1
    if speed > workers * LOADED_PER_S:
        return workers * LOADED_PER_S, f"what {workers} loader processes give; the {device.type} could do {speed:.0f}"
    return speed, f"measured, {done} steps on the {device.type}"


def _steps(params: Params, classes: int, device: torch.device) -> Iterator[object]:
    names = tuple(str(label) for label in range(1, classes + 1))
    spec = spec_for_classes(params.model, params.train, names, tuple(range(1, classes + 1)))
    precision = pick_precision(params.train.precision, device)
    train = with_rate(params.train, spec.net)
    state = new_state(spec, train, device, precision)
    batches = repeat(_random_batch(params.train.batch_size, params.model.image_size, classes).to(device))
    return train_epoch(state, state.net, batches, 1 << 30, train, precision, criterion_of(spec.net, params.train))


def _random_batch(images: int, size: int, classes: int) -> Batch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (images, size, size, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    corners = torch.rand(images, OBJECTS, 2, generator=generator) * 0.6
    sides = torch.rand(images, OBJECTS, 2, generator=generator) * 0.3 + 0.1
    labels = torch.randint(1, classes + 1, (images, OBJECTS), generator=generator)
    return Batch(pixels, torch.cat([corners, corners + sides], dim=2), labels, torch.zeros(images, 0, 4), torch.arange(images))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
