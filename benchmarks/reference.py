"""Training in the predecessors' manner, to compare with: their order of operations, written from a description of it.

A Compose is built for every sample, colour and crops work on the whole photograph, samples are float32 and channels first, each
is matched in the loader, the loss sorts twice, and the host reads it after every step.
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


class PlainDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """(3, S, S) float32 pixels, (P, 4) offsets and (P,) labels of every image.

    Args:
        fixed, path_of: as of `DetectionDataset`.
        priors: (P, 4) cxcywh.
        side: S.
    """

    def __init__(self, fixed: FixedSet, path_of: Callable[[str], Path], priors: Tensor, side: int) -> None:
        self.fixed, self.path_of, self.priors, self.side = fixed, path_of, priors, side

    def __len__(self) -> int:
        return len(self.fixed)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image = cv2.cvtColor(cv2.imread(str(self.path_of(self.fixed.file_name(index)))), cv2.COLOR_BGR2RGB)
        rows = slice(self.fixed.box_offsets[index], self.fixed.box_offsets[index + 1])
        transform = A.Compose([
            A.ColorJitter(brightness=(0.875, 1.125), contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.5),
            A.RandomSizedBBoxSafeCrop(self.side, self.side, p=0.5),
            A.HorizontalFlip(p=0.5),
            A.Resize(self.side, self.side),
            A.Normalize(mean=(MEAN / 255,) * 3, std=(STD / 255,) * 3),
            ToTensorV2(),
        ], bbox_params=A.BboxParams(format="pascal_voc", label_fields=["labels"]))
        made = transform(image=image, bboxes=self.fixed.boxes[rows], labels=self.fixed.labels[rows])
        boxes = torch.as_tensor(np.asarray(made["bboxes"], dtype=np.float32)).reshape(-1, 4) / self.side
        offsets, labels = match_plainly(boxes, torch.as_tensor(np.asarray(made["labels"], dtype=np.int64)), self.priors)
        return made["image"], offsets, labels


def match_plainly(boxes: Tensor, labels: Tensor, priors: Tensor) -> tuple[Tensor, Tensor]:
    """(P, 4) offsets and (P,) labels for one image of (M, 4) boxes, where a later object takes an earlier one's prior."""
    if len(boxes) == 0:
        return torch.zeros(len(priors), 4), torch.zeros(len(priors), dtype=torch.int64)
    corners = torch.cat([priors[..., :2] - priors[..., 2:] / 2, priors[..., :2] + priors[..., 2:] / 2], dim=-1)
    iou = _iou(boxes.unsqueeze(0), corners.unsqueeze(1))  # (P, M)
    best_iou, best = iou.max(dim=1)
    for number, prior in enumerate(iou.max(dim=0).indices):
        best[prior] = number
        best_iou[prior] = 2.0
    found = labels[best]
    found[best_iou < IOU] = 0
    chosen = boxes[best]
    centers, sides = (chosen[:, :2] + chosen[:, 2:]) / 2, chosen[:, 2:] - chosen[:, :2]
    return torch.cat([(centers - priors[:, :2]) / priors[:, 2:] / CENTER_VARIANCE,
                      torch.log((sides / priors[:, 2:]).clamp(min=1e-6)) / SIZE_VARIANCE], dim=1), found


def loss_plainly(logits: Tensor, offsets: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Box and classification loss of a batch, divided by its positives."""
    with torch.no_grad():
        background = -F.log_softmax(logits, dim=2)[:, :, 0]
        positive = labels > 0
        wanted = positive.long().sum(dim=1, keepdim=True) * NEGATIVES
        background[positive] = -torch.inf
        _, order = background.sort(dim=1, descending=True)
        _, rank = order.sort(dim=1)
        mask = positive | (rank < wanted)
    classification = F.cross_entropy(logits[mask].reshape(-1, logits.shape[2]), labels[mask], reduction="sum")
    box = F.smooth_l1_loss(offsets[positive].reshape(-1, 4), targets[positive].reshape(-1, 4), reduction="sum")
    count = positive.sum().clamp(min=1)
    return box / count, classification / count


def train_plainly(net: SSD, batches: Iterable[tuple[Tensor, Tensor, Tensor]],
                  optimizer: torch.optim.Optimizer) -> Iterator[float]:
    """The loss of every step, channels first, in fp32. The net normalises, so pixels are put back where they were, for it."""
    for images, targets, labels in batches:
        optimizer.zero_grad()
        logits, offsets = net(images * STD + MEAN)
        box, classification = loss_plainly(logits, offsets, labels, targets)
        loss = box + classification
        loss.backward()
        optimizer.step()
        yield loss.item()


def plain_optimizer(net: nn.Module) -> torch.optim.Optimizer:
    """SGD as it comes."""
    return torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4, foreach=False, fused=False)


def load_plainly(dataset: Dataset[tuple[Tensor, Tensor, Tensor]], batch: int, workers: int
                 ) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
    """Shuffled batches, with OpenCV's and torch's threads as they come."""
    return DataLoader(dataset, batch, shuffle=True, num_workers=workers, drop_last=True)


def torchvision_sample(path: Path, boxes: np.ndarray, labels: np.ndarray, side: int, preset: str) -> Tensor:
    """(3, side, side) float pixels of torchvision's reference presets "ssd" and "ssdlite", in their order; unmatched."""
    image = v2.functional.to_image(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    target = {"boxes": BoundingBoxes(boxes, format=BoundingBoxFormat.XYXY, canvas_size=image.shape[-2:]),  # type: ignore[call-arg]
              "labels": torch.as_tensor(labels)}
    image, _ = TORCHVISION[preset](image, target)
    return v2.functional.resize(image, [side, side], antialias=False)


_END = [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(p=0.5), v2.ToDtype(torch.float, scale=True), v2.SanitizeBoundingBoxes()]
TORCHVISION = {"ssd": v2.Compose([v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=[123.0, 117.0, 104.0]), *_END]),
               "ssdlite": v2.Compose(_END)}


def _iou(boxes: Tensor, other: Tensor) -> Tensor:
    low, high = torch.max(boxes[..., :2], other[..., :2]), torch.min(boxes[..., 2:], other[..., 2:])
    sides = torch.clamp(high - low, min=0.0)
    common = sides[..., 0] * sides[..., 1]
    areas = [(each[..., 2] - each[..., 0]) * (each[..., 3] - each[..., 1]) for each in (boxes, other)]
    return common / (areas[0] + areas[1] - common + 1e-5)
