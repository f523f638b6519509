"""The cases that run.py measures: each function prepares one from the images and returns what is called again and again."""

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

from benchmarks import baseline
from benchmarks.detection import CLASSES, Outputs, make_detectors, make_spec
from benchmarks.images import ROOT, Images
from ssd_lib.boxes.coder import decode, encode
from ssd_lib.boxes.loss import detection_loss
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

SIZE, CPU = 300, torch.device("cpu")
EPOCHS = 5  # of a loader, so that its start weighs little
MANY_EPOCHS = 1000  # no measurement reaches their end
Case = Callable[[], float]  # does some work and returns the number of images in it; or MB


def samples(images: Images, preset: str = "ssd", cache: str = "none") -> Case:
    """Every image once, augmented anew in each call, and matched batch by batch as in training."""
    dataset, net, epochs = our_dataset(images, preset, cache), spec_of(images).build(0), count()

    def run() -> int:
        epoch = next(epochs)
        for first in range(0, len(dataset), 8):
            batch = collate([dataset[epoch, index] for index in range(first, min(first + 8, len(dataset)))])
            encode(match_priors(batch.boxes, batch.labels, batch.crowd_boxes, net.priors_xyxy)[0], net.priors)
        return len(dataset)
    return run


def baseline_samples(images: Images) -> Case:
    """Every image once."""
    dataset = baseline_dataset(images)

    def run() -> int:
        for index in range(len(dataset)):
            dataset[index]
        return len(dataset)
    return run


def torchvision_samples(images: Images, preset: str) -> Case:
    """Every image that has boxes once, by one of torchvision's presets."""
    fixed = images.fixed
    with_boxes = [index for index in range(len(fixed)) if fixed.box_offsets[index + 1] > fixed.box_offsets[index]]

    def run() -> int:
        for index in with_boxes:
            rows, path = slice(fixed.box_offsets[index], fixed.box_offsets[index + 1]), images.path_of(fixed.file_name(index))
            baseline.torchvision_sample(path, fixed.boxes[rows], fixed.labels[rows], SIZE, preset)
        return len(with_boxes)
    return run


def matching(images: Images) -> Case:
    """The boxes of up to 64 images."""
    dataset, net = our_dataset(images), spec_of(images).build(0)
    batch = collate([dataset[0, index] for index in range(min(64, len(dataset)))])

    def run() -> int:
        encode(match_priors(batch.boxes, batch.labels, batch.crowd_boxes, net.priors_xyxy)[0], net.priors)
        return len(batch.labels)
    return run


def baseline_matching(images: Images) -> Case:
    """The same boxes."""
    dataset, net = our_dataset(images), spec_of(images).build(0)
    batch = collate([dataset[0, index] for index in range(min(64, len(dataset)))])
    objects = [(boxes[labels > 0], labels[labels > 0]) for boxes, labels in zip(batch.boxes, batch.labels, strict=True)]

    def run() -> int:
        for boxes, labels in objects:
            baseline.match(boxes, labels, net.priors)
        return len(objects)
    return run


def loss(images: Images, of_baseline: bool, batch: int = 32, priors: int = 3000) -> Case:
    """Forward and backward pass of the loss alone, with as many positives as real images have."""
    rng, classes = torch.Generator().manual_seed(0), len(spec_of(images).class_names)
    logits = torch.randn(batch, priors, classes + 1, generator=rng, requires_grad=True)
    offsets = torch.randn(batch, priors, 4, generator=rng, requires_grad=True)
    targets, places = torch.randn(batch, priors, 4, generator=rng), torch.full((priors, 4), 0.5)
    boxes = decode(targets, places)
    is_positive = torch.rand(batch, priors, generator=rng) < 0.006
    labels = torch.randint(1, classes + 1, (batch, priors), generator=rng) * is_positive

    def run() -> int:
        if of_baseline:
            box, classification = baseline.loss(logits, offsets, labels, targets)
            (box + classification).backward()
        else:
            sums = detection_loss(logits, offsets, labels, boxes, places)
            ((sums.classification + sums.box) / sums.positives).backward()
        logits.grad = offsets.grad = None
        return batch
    return run


def steps(images: Images, batch: int) -> Case:
    """Steps with one batch that is loaded already: matching, net, loss, backward pass, optimizer."""
    dataset, params = our_dataset(images), train_params(batch)
    precision = pick_precision(params.precision, CPU)
    state = new_state(spec_of(images), params, CPU, precision)
    loaded = collate([dataset[0, index] for index in range(batch)])
    run = train_epoch(state, state.net, iter(lambda: loaded, None), 1 << 30, params, precision)
    return partial(take_steps, run, batch)


def baseline_steps(images: Images, batch: int) -> Case:
    """The same, but for matching, which the baseline's loader does."""
    dataset, net = baseline_dataset(images), spec_of(images).build(0).train()
    columns = [torch.stack(list(column)) for column in zip(*(dataset[index] for index in range(batch)), strict=True)]
    endless: Iterator[list[torch.Tensor]] = iter(lambda: columns, None)  # type: ignore[arg-type]
    run = baseline.train(net, endless, baseline.make_optimizer(net))  # type: ignore[arg-type]
    return partial(take_steps, run, batch)


def take_steps(run: Iterator[object], batch: int) -> int:
    """One step, or as many as 32 images take."""
    taken = sum(1 for _ in islice(run, max(1, 32 // batch)))
    return batch * taken


def loader(images: Images, cache: str, batch: int = 8) -> Case:
    """Batches from two loader processes."""
    dataset = our_dataset(images, cache=cache)

    def run() -> int:
        keys = batches_from(torch.ones(len(dataset)).numpy(), batch, 1, 0, 0, EPOCHS)
        return sum(len(each.images) for each in load_batches(dataset, keys, workers=2))
    return run


def baseline_loader(images: Images, batch: int = 8) -> Case:
    """The same."""
    loaded = baseline.make_loader(baseline_dataset(images), batch, workers=2)
    return lambda: sum(len(pixels) for _ in range(EPOCHS) for pixels, _, _ in loaded)


def epoch(images: Images, cache: str, batch: int) -> Case:
    """From files to updated weights, within an endless epoch, so that two loader processes are running already."""
    dataset, params = our_dataset(images, cache=cache), train_params(batch)
    precision = pick_precision(params.precision, CPU)
    keys = batches_from(torch.ones(len(dataset)).numpy(), batch, 1, 0, 0, epochs=MANY_EPOCHS)
    loaded = load_batches(dataset, keys, workers=2)
    state = new_state(spec_of(images), params, CPU, precision)
    return partial(take_steps, train_epoch(state, state.net, loaded, 1 << 30, params, precision), batch)


def baseline_epoch(images: Images, batch: int) -> Case:
    """The same."""
    dataset, net = baseline_dataset(images), spec_of(images).build(0).train()
    loaded = baseline.make_loader(Subset(dataset, list(range(len(dataset))) * MANY_EPOCHS), batch, workers=2)
    return partial(take_steps, baseline.train(net, loaded, baseline.make_optimizer(net)), batch)


def postprocess(images: Images, outputs: Callable[[int], Outputs], function: Callable[[Outputs], object]) -> Case:
    """From made-up outputs of a net for one image to detections."""
    made = outputs(1)
    return lambda: 1 if function(made) is not None else 0


def detect(images: Images, name: str) -> Case:
    """From an image in memory to its objects."""
    detector = make_detectors(Path(tempfile.mkdtemp(dir=".")))[name]
    return lambda: 1 if detector() is not None else 0


def check(images: Images) -> Case:
    """What `validate` does with an image file, on one core."""
    fixed = images.fixed
    names = [fixed.file_name(index) for index in range(len(fixed))]
    rows = [ImageFile("train", name, images.path_of(name), (int(width), int(height)), images.manifest.files[name])
            for name, (height, width) in zip(names, fixed.sizes, strict=True)]
    return lambda: sum(not check_image(row) for row in rows)


def baseline_check(images: Images) -> Case:
    """Each file decoded by OpenCV and by scikit-image."""
    paths = [str(images.path_of(images.fixed.file_name(index))) for index in range(len(images.fixed))]
    return lambda: sum(cv2.imread(path) is not None and skimage.io.imread(path) is not None for path in paths)


def loader_megabytes(images: Images) -> Case:
    """Private memory of a loader process."""
    dataset = our_dataset(images)

    def run() -> float:
        keys = batches_from(torch.ones(len(dataset)).numpy(), 8, 1, 0, 0, EPOCHS)
        return max(private_megabytes() for _ in load_batches(dataset, keys, workers=1))
    return run


def baseline_loader_megabytes(images: Images) -> Case:
    """The same."""
    loaded = baseline.make_loader(baseline_dataset(images), 8, workers=1)
    return lambda: max(private_megabytes() for _ in loaded)


def private_megabytes() -> float:
    """Memory of the only child of this process that no other process shares."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    lines = Path(f"/proc/{children[0]}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


def spec_of(images: Images) -> NetSpec:
    """The net that all parts are measured with; it has COCO's number of classes, unless the images have more."""
    return make_spec(size=SIZE, classes=max(CLASSES, len(images.fixed.class_names)))


def our_dataset(images: Images, preset: str = "ssd", cache: str = "none") -> DetectionDataset:
    """The dataset of the train stage."""
    pixels = open_cache(cache, SIZE, images.fixed, images.manifest)  # type: ignore[arg-type]
    return DetectionDataset(images.fixed, images.path_of, build_transform(preset, SIZE), 1, pixels)


def baseline_dataset(images: Images) -> baseline.BaselineDataset:
    """The baseline's dataset."""
    return baseline.BaselineDataset(images.fixed, images.path_of, spec_of(images).build(0).priors, SIZE)


def train_params(batch: int) -> TrainParams:
    """The shipped parameters, with SGD and without a moving average, as in the baseline."""
    shipped = load_params("train", path=ROOT / "params.yaml").train
    return shipped.model_copy(update={"batch_size": batch, "optimizer": "sgd", "lr": 0.001, "ema_decay": 0.0, "epochs": 1})
