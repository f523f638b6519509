"""Train torchvision's ssdlite320_mobilenet_v3_large as its own recipe does, and detect with it; written from the recipe's text.

Recipe (torchvision, references/detection/README.md): random weights, 8 GPUs with 24 images each, SGD with lr 0.15, momentum 0.9
and weight decay 4e-5, cosine by epoch, warm-up over the first epoch (at most 1000 steps), random IoU crop and flip. The rate is
scaled linearly to the batch. Images without objects are left out, as there. Only the order in memory, channels last as in our
training, is not of the recipe: on a CPU its steps take a quarter less time. Run as a command by `cases.py`.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from benchmarks.accuracy.data import Split, load_split
from benchmarks.baseline import TORCHVISION
from ssd_lib.images import read_image

LR, LR_BATCH, MOMENTUM, WEIGHT_DECAY, MAX_WARMUP = 0.15, 8 * 24, 0.9, 4e-5, 1000
Sample = tuple[Tensor, dict[str, Tensor]]


class Photos(Dataset[Sample]):
    """The images of a split that have objects, with their boxes, augmented."""

    def __init__(self, split: Split) -> None:
        self.split = split
        fixed = split.fixed
        owners = fixed.image_indices()[~fixed.is_crowd]
        self.indices = sorted(set(owners.tolist()))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Sample:
        fixed, index = self.split.fixed, self.indices[number]
        rows = slice(fixed.box_offsets[index], fixed.box_offsets[index + 1])
        objects = ~fixed.is_crowd[rows]
        image = v2.functional.to_image(read_image(self.split.files[index]))
        boxes = BoundingBoxes(fixed.boxes[rows][objects], format=BoundingBoxFormat.XYXY,
                              canvas_size=image.shape[-2:])
        return TORCHVISION["ssdlite"](image, {"boxes": boxes, "labels": torch.as_tensor(fixed.labels[rows][objects])})


def main() -> None:
    """Train on a dataset that `data.prepare` has read, write about.json, and detect; write detections.json."""
    begin = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, help="a dataset, on whose val to detect")
    for name in ("epochs", "batch", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    train_split = load_split(options.data, "train")
    classes = len(train_split.fixed.class_names)
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
    train(model, Photos(train_split), options.epochs, options.batch, options.threads)
    seconds = time.perf_counter() - begin
    if options.test:
        Path("detections.json").write_text(json.dumps(detect(model, load_split(options.test, "val"))))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    Path("about.json").write_text(json.dumps({"seconds": seconds, "parameters": parameters}))


def train(model: nn.Module, photos: Dataset[Sample], epochs: int, batch: int, workers: int) -> None:
    """Train a model; print the loss of each epoch."""
    loader = DataLoader(photos, batch, shuffle=True, num_workers=workers, drop_last=True, collate_fn=_columns)
    if not len(loader):
        sys.exit(f"fewer images with objects than the {batch} of a batch")
    optimizer = torch.optim.SGD(model.parameters(), LR * batch / LR_BATCH, MOMENTUM, weight_decay=WEIGHT_DECAY)
    model.to(memory_format=torch.channels_last).train()
    for epoch in range(epochs):
        total = 0.0
        for step, (images, targets) in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(LR * batch / LR_BATCH, epoch, epochs, step, len(loader))
            loss: Tensor = sum(model(images, targets).values())
            if not math.isfinite(loss.item()):
                sys.exit(f"the loss is {loss.item()} in epoch {epoch + 1}")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}  loss {total / len(loader):.3f}", flush=True)


def learning_rate(peak: float, epoch: int, epochs: int, step: int, steps: int) -> float:
    """Return the rate of a step: cosine by epoch, and in the first epoch a linear rise from a thousandth."""
    warmup = min(MAX_WARMUP, steps - 1)
    rise = 1e-3 + (1 - 1e-3) * step / warmup if epoch == 0 and step < warmup else 1.0
    return peak * rise * (1 + math.cos(math.pi * epoch / epochs)) / 2


@torch.no_grad()
def detect(model: nn.Module, split: Split) -> list[dict[str, Any]]:
    """Return the model's own detections of every image, as `data.read_detections` takes them."""
    model.eval()
    rows: list[dict[str, Any]] = []
    for index, file in enumerate(split.files):
        found = model([v2.functional.to_dtype(v2.functional.to_image(read_image(file)), torch.float, scale=True)])[0]
        for (x1, y1, x2, y2), label, score in zip(*(found[key].tolist() for key in ("boxes", "labels", "scores")), strict=True):
            rows.append({"image_id": index, "category_id": label, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    return rows


def _columns(samples: list[Sample]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


if __name__ == "__main__":
    main()
