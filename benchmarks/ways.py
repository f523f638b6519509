"""Ways to do the parts of training, here and in the predecessors' manner (reference.py): a function of the photographs gives
what can be called again and again. What takes turns and what is printed is known to run.py.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import cv2
import skimage.io
import torch
from torch.utils.data import Subset

from benchmarks import reference
from benchmarks.detection import make_ways
from benchmarks.photos import Photos
from benchmarks.postprocess import Outputs
from ssd_lib.boxes.coder import encode
from ssd_lib.boxes.loss import multibox_loss
from ssd_lib.boxes.matching import match_priors
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset, collate
from ssd_lib.data.loader import batches_from, load_batches
from ssd_lib.data.pixel_cache import open_cache
from ssd_lib.device import pick_precision
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.params import TrainParams, load_params
from ssd_lib.train.epoch import train_epoch
from ssd_lib.train.state import new_state
from ssd_lib.validation.images import ImageFile, check_image

SIDE, CPU = 300, torch.device("cpu")
EPOCHS = 5  # of the loaders, so that their start weighs little
MANY = 1000  # epochs, of which nobody sees the end
Way = Callable[[], float]  # does some work and says how many images that was; or how many MB


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
            rows, path = slice(fixed.box_offsets[index], fixed.box_offsets[index + 1]), photos.path_of(fixed.file_name(index))
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
    return partial(steps_of, run, batch)


def plain_steps(photos: Photos, batch: int) -> Way:
    """The same in the other manner; matching is the loader's work there."""
    dataset, net = plain_set(photos), spec_of(photos).build(0).train()
    columns = [torch.stack(list(column)) for column in zip(*(dataset[index] for index in range(batch)), strict=True)]
    endless: Iterator[list[torch.Tensor]] = iter(lambda: columns, None)  # type: ignore[arg-type]
    run = reference.train_plainly(net, endless, reference.plain_optimizer(net))  # type: ignore[arg-type]
    return partial(steps_of, run, batch)


def steps_of(run: Iterator[object], batch: int) -> int:
    """One step, or as many as 32 images take."""
    taken = sum(1 for _ in islice(run, max(1, 32 // batch)))
    return batch * taken


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
    """From files to updated weights, with two loader processes that have been at work before: an epoch that does not end."""
    dataset, params = our_set(photos, cache=cache), train_params(batch)
    precision = pick_precision(params.precision, CPU)
    keys = batches_from(torch.ones(len(dataset)).numpy(), batch, 1, 0, 0, epochs=MANY)
    loaded = load_batches(dataset, keys, workers=2)
    state = new_state(spec_of(photos), params, CPU, precision)
    return partial(steps_of, train_epoch(state, state.net, loaded, 1 << 30, params, precision), batch)


def plain_epoch(photos: Photos, batch: int) -> Way:
    """The same."""
    dataset, net = plain_set(photos), spec_of(photos).build(0).train()
    loaded = reference.load_plainly(Subset(dataset, list(range(len(dataset))) * MANY), batch, workers=2)
    return partial(steps_of, reference.train_plainly(net, loaded, reference.plain_optimizer(net)), batch)


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


def postprocess(photos: Photos, outputs: Callable[[int], Outputs], way: Callable[[Outputs], object]) -> Way:
    """From a net's outputs, made up, to detections."""
    made = outputs(1)

    def run() -> int:
        way(made)
        return 1
    return run


def detect(photos: Photos, name: str) -> Way:
    """From a picture in memory to its objects."""
    way = make_ways(Path(tempfile.mkdtemp(dir=".")))[name]

    def run() -> int:
        way()
        return 1
    return run


def check(photos: Photos) -> Way:
    """What `validate` does with an image file, on one core."""
    fixed, root = photos.fixed, Path(photos.manifest.root)
    rows = [ImageFile("train", name, root / name, (int(width), int(height)), photos.manifest.files[name])
            for name, (height, width) in zip(map(fixed.file_name, range(len(fixed))), fixed.sizes, strict=True)]
    return lambda: sum(not check_image(row) for row in rows)


def plain_check(photos: Photos) -> Way:
    """Each file decoded by OpenCV and by scikit-image."""
    paths = [str(path) for path in Path(photos.manifest.root).iterdir()]
    return lambda: sum(cv2.imread(path) is not None and skimage.io.imread(path) is not None for path in paths)


def loader_megabytes(photos: Photos) -> Way:
    """What a loader process has for itself, once it has loaded every image."""
    dataset = our_set(photos)

    def run() -> float:
        keys = batches_from(torch.ones(len(dataset)).numpy(), 8, 1, 0, 0, EPOCHS)
        return max(_private_megabytes() for _ in load_batches(dataset, keys, workers=1))
    return run


def plain_loader_megabytes(photos: Photos) -> Way:
    """The same."""
    loaded = reference.load_plainly(plain_set(photos), 8, workers=1)
    return lambda: max(_private_megabytes() for _ in loaded)


def _private_megabytes() -> float:
    """Memory that the only child of this process shares with nobody."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = Path(f"/proc/{children[0]}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000
