"""The baseline of the benchmarks: training and detection as the predecessors do them, written from a description of it.

Training: a Compose is built for every sample, colour and crops work on the whole image, samples are float32 in NCHW order, each
is matched in the loader, the loss sorts twice, and the host reads it after every step. Detection: one image at a time, one
class at a time. Nothing of the project's own matching, loss or postprocessing is used.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from albumentations.pytorch import ToTensorV2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.nets.ssd import SSD

IOU, NEGATIVES, CENTER_VARIANCE, SIZE_VARIANCE = 0.5, 3, 0.1, 0.2
MEAN, STD = 127.0, 128.0
SCORE_THRESHOLD, NMS_IOU, CANDIDATES, DETECTIONS = 0.01, 0.45, 200, 100
_LAST_TRANSFORMS = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(p=0.5), v2.ToDtype(torch.float, scale=True),
                    v2.SanitizeBoundingBoxes()]
TORCHVISION = {
    "ssd": v2.Compose([v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=[123.0, 117.0, 104.0]), *_LAST_TRANSFORMS]),
    "ssdlite": v2.Compose(_LAST_TRANSFORMS)}


class BaselineDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """(3, S, S) float32 pixels, (P, 4) offsets and (P,) labels of every image.

    Args:
        fixed: the images and their boxes.
        path_of: the file of an image, by its name.
        priors: (P, 4) cxcywh.
        size: S.
    """

    def __init__(self, fixed: FixedSet, path_of: Callable[[str], Path], priors: Tensor, size: int) -> None:
        self.fixed, self.path_of, self.priors, self.size = fixed, path_of, priors, size

    def __len__(self) -> int:
        return len(self.fixed)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image = cv2.cvtColor(cv2.imread(str(self.path_of(self.fixed.file_name(index)))), cv2.COLOR_BGR2RGB)
        rows = slice(self.fixed.box_offsets[index], self.fixed.box_offsets[index + 1])
        transform = A.Compose([
            A.ColorJitter(brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.5),
            A.RandomSizedBBoxSafeCrop(self.size, self.size, p=0.5),
            A.HorizontalFlip(p=0.5),
            A.Resize(self.size, self.size),
            A.Normalize(mean=(MEAN / 255,) * 3, std=(STD / 255,) * 3),
            ToTensorV2(),
        ], bbox_params=A.BboxParams(format="pascal_voc", label_fields=["labels"]))
        sample = transform(image=image, bboxes=self.fixed.boxes[rows], labels=self.fixed.labels[rows])
        boxes = torch.as_tensor(np.asarray(sample["bboxes"], dtype=np.float32)).reshape(-1, 4) / self.size
        offsets, labels = match(boxes, torch.as_tensor(np.asarray(sample["labels"], dtype=np.int64)), self.priors)
        return sample["image"], offsets, labels


def match(boxes: Tensor, labels: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
    """Return (P, 4) offsets and (P,) labels of one image with (M, 4) boxes.

    Of two boxes with one best prior the later takes it.
    """
    if len(boxes) == 0:
        return torch.zeros(len(priors), 4), torch.zeros(len(priors), dtype=torch.int64)
    corners = torch.cat([priors[..., :2] - priors[..., 2:] / 2, priors[..., :2] + priors[..., 2:] / 2], dim=-1)
    pairs = iou(boxes.unsqueeze(0), corners.unsqueeze(1))  # (P, M)
    best_iou, best = pairs.max(dim=1)
    for number, prior in enumerate(pairs.max(dim=0).indices):
        best[prior] = number
        best_iou[prior] = 2.0
    matched_labels = labels[best]
    matched_labels[best_iou < IOU] = 0
    matched = boxes[best]
    centers, sides = (matched[:, :2] + matched[:, 2:]) / 2, matched[:, 2:] - matched[:, :2]
    return torch.cat([(centers - priors[:, :2]) / priors[:, 2:] / CENTER_VARIANCE,
                      torch.log((sides / priors[:, 2:]).clamp(min=1e-6)) / SIZE_VARIANCE], dim=1), matched_labels


def loss(logits: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the box loss and the classification loss of a batch, each divided by the number of positives."""
    with torch.no_grad():
        background = -F.log_softmax(logits, dim=2)[:, :, 0]
        is_positive = labels > 0
        negatives = is_positive.long().sum(dim=1, keepdim=True) * NEGATIVES
        background[is_positive] = -torch.inf
        _, order = background.sort(dim=1, descending=True)
        _, rank = order.sort(dim=1)
        mask = is_positive | (rank < negatives)
    classification = F.cross_entropy(logits[mask].reshape(-1, logits.shape[2]), labels[mask], reduction="sum")
    box = F.smooth_l1_loss(offsets[is_positive].reshape(-1, 4), targets[is_positive].reshape(-1, 4), reduction="sum")
    count = is_positive.sum().clamp(min=1)
    return box / count, classification / count


def train(net: SSD, batches: Iterable[tuple[Tensor, Tensor, Tensor]], optimizer: torch.optim.Optimizer) -> Iterator[float]:
    """Yield the loss of every step, in NCHW order and fp32. The net normalises its input, so the loader's own normalisation is
    undone here."""
    for images, targets, labels in batches:
        optimizer.zero_grad()
        logits, offsets = net(images * STD + MEAN)
        box, classification = loss(logits, offsets, labels, targets)
        total = box + classification
        total.backward()
        optimizer.step()
        yield total.item()


def make_optimizer(net: nn.Module) -> torch.optim.Optimizer:
    """Return SGD, neither fused nor in groups of tensors."""
    return torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4, foreach=False, fused=False)


def make_loader(dataset: Dataset[tuple[Tensor, Tensor, Tensor]], batch: int, workers: int
                ) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
    """Return a loader of shuffled batches, with OpenCV's and torch's default numbers of threads."""
    return DataLoader(dataset, batch, shuffle=True, num_workers=workers, drop_last=True)


def torchvision_sample(path: Path, boxes: np.ndarray, labels: np.ndarray, size: int, preset: str) -> Tensor:
    """Return (3, size, size) float pixels of torchvision's reference preset "ssd" or "ssdlite", without matching."""
    image = v2.functional.to_image(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    target = {"boxes": BoundingBoxes(boxes, format=BoundingBoxFormat.XYXY, canvas_size=image.shape[-2:]),  # type: ignore[call-arg]
              "labels": torch.as_tensor(labels)}
    image, _ = TORCHVISION[preset](image, target)
    return v2.functional.resize(image, [size, size], antialias=False)


@torch.no_grad()
def detect(net: SSD, image: np.ndarray) -> list[Tensor]:
    """Detect objects in one image; it is resized, converted to float and copied to NCHW order before the net normalises it.

    Args:
        net: in evaluation mode, with its batch norms not fused.
        image: (H, W, 3) uint8 RGB.

    Returns:
        What `postprocess` returns.
    """
    pixels = cv2.resize(image, (net.image_size, net.image_size)).astype(np.float32)
    batch = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().unsqueeze(0)
    logits, offsets = net(batch)
    return postprocess(logits, offsets, net.priors)


def postprocess(logits: Tensor, offsets: Tensor, priors: Tensor) -> list[Tensor]:
    """Return the detections of the first image of a batch.

    Args:
        logits: (1, P, K + 1).
        offsets: (1, P, 4).
        priors: (P, 4) cxcywh.

    Returns:
        (N, 4) boxes xyxy in [0, 1], (N,) labels in 1..K, (N,) scores, highest first.
    """
    scores, boxes = torch.softmax(logits, dim=2)[0], decode(offsets, priors)[0]
    kept, labels = [], []
    for label in range(1, scores.shape[1]):
        mask = scores[:, label] > SCORE_THRESHOLD
        if mask.sum() == 0:
            continue
        rows = nms(torch.cat([boxes[mask], scores[mask, label].reshape(-1, 1)], dim=1))
        kept.append(rows)
        labels += [label] * len(rows)
    if not kept:
        return [torch.empty(0, 4), torch.empty(0, dtype=torch.int64), torch.empty(0)]
    rows = torch.cat(kept)
    best = rows[:, 4].topk(min(DETECTIONS, len(rows)))
    return [rows[best.indices, :4], torch.tensor(labels)[best.indices], best.values]


def decode(offsets: Tensor, priors: Tensor) -> Tensor:
    """Return (1, P, 4) boxes, xyxy."""
    if priors.dim() + 1 == offsets.dim():
        priors = priors.unsqueeze(0)
    centers = offsets[..., :2] * CENTER_VARIANCE * priors[..., 2:] + priors[..., :2]
    sides = torch.exp(offsets[..., 2:] * SIZE_VARIANCE) * priors[..., 2:]
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=2)


def nms(rows: Tensor) -> Tensor:
    """Return those of the (N, 5) boxes with scores of one class that no better kept one overlaps."""
    order = rows[:, 4].sort(descending=True).indices[:CANDIDATES]
    picked = []
    while len(order) > 0:
        picked.append(order[0].item())
        best, order = rows[order[0], :4], order[1:]
        order = order[iou(rows[order, :4], best.unsqueeze(0)) <= NMS_IOU]
    return rows[picked]


def iou(boxes: Tensor, other: Tensor) -> Tensor:
    """Return the IoU of xyxy boxes, broadcast."""
    low, high = torch.max(boxes[..., :2], other[..., :2]), torch.min(boxes[..., 2:], other[..., 2:])
    common = area(low, high)
    return common / (area(boxes[..., :2], boxes[..., 2:]) + area(other[..., :2], other[..., 2:]) - common + 1e-5)


def area(low: Tensor, high: Tensor) -> Tensor:
    """Return the area between two corners."""
    sides = torch.clamp(high - low, min=0.0)
    return sides[..., 0] * sides[..., 1]
