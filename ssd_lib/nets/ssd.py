"""Single Shot MultiBox Detector: from pixels to class logits and box offsets of every prior."""

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from ssd_lib.boxes.prior_levels import PriorLevel
from ssd_lib.boxes.priors import make_priors
from ssd_lib.errors import InputError
from ssd_lib.nets.fpn import SharedHeads
from ssd_lib.nets.heads import Heads

Scores = Literal["softmax", "sigmoid"]


def columns_of(scores: Scores, classes: int) -> int:
    """Return the number of logits of a prior for K classes."""
    return classes + (scores == "softmax")


def scores_of(logits: Tensor, scores: Scores) -> Tensor:
    """Return (..., K + 1) scores for (..., columns) logits, the background first.

    Those of a softmax sum to one. Of a sigmoid, the background has what the best class leaves of one.
    """
    if scores == "softmax":
        return logits.softmax(dim=-1)
    of_classes = logits.sigmoid()
    return torch.cat([1 - of_classes.amax(dim=-1, keepdim=True), of_classes], dim=-1)


def frozen_names(net: "SSD", freeze: str) -> tuple[str, ...]:
    """Return the names of the submodules that a value of `train.freeze` does not train.

    "stem" is the first layers of the backbone, whose maps have a stride of at most 4: what they have learned from ImageNet is
    general, and most of the time of a step goes into their large maps.
    """
    stem, stride = 0, 1
    for layer in cast(nn.Sequential, net.backbone.features):
        strides = (module.stride for module in layer.modules() if isinstance(module, nn.Conv2d | nn.MaxPool2d))
        stride *= math.prod(value[0] if isinstance(value, tuple) else value for value in strides)
        if stride > 4:
            break
        stem += 1
    return {"none": (), "stem": tuple(f"backbone.features.{i}" for i in range(stem)), "backbone": ("backbone",),
            "all-but-heads": ("backbone", "extras")}[freeze]


class SSD(nn.Module):
    """Backbone, extra maps and heads, with their input size and normalisation and their priors.

    Source: Liu et al. 2016, arXiv 1512.02325; SSDLite: Sandler et al. 2018, arXiv 1801.04381, sec. 6.2.

    Args:
        extras: makes of the backbone's maps those that the heads see.
        class_heads, box_heads: give (B, priors per cell * values, H, W) for each map.
        scores: "softmax" over the background and the classes, or "sigmoid" of each class.

    Attributes:
        classes: K, the number of classes without the background.
        columns: values of a prior's logits: K + 1 for softmax, of which the first is the background; K for sigmoid.
        image_size: side of the square input in pixels.
        prior_levels, map_sizes: the PriorLevel and the (height, width) in cells of each feature map.
        priors_per_map: the number of priors of each feature map.
        priors: (P, 4) float32, cxcywh in [0, 1].
        priors_xyxy: (P, 4) float32, xyxy.
    """

    priors: Tensor
    priors_xyxy: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, extras: nn.Module, class_heads: Heads | SharedHeads, box_heads: Heads | SharedHeads,
                 classes: int, prior_levels: Sequence[PriorLevel], image_size: int, mean: Sequence[float],
                 std: Sequence[float], scores: Scores = "softmax") -> None:
        super().__init__()
        self.backbone, self.extras = backbone, extras
        self.class_heads, self.box_heads = class_heads, box_heads
        self.classes, self.image_size, self.scores = classes, image_size, scores
        self.columns = columns_of(scores, classes)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.prior_levels, self.map_sizes = tuple(prior_levels), self._map_sizes()
        self.priors_per_map = tuple(height * width * level.boxes_per_cell
                                    for level, (height, width) in zip(self.prior_levels, self.map_sizes, strict=True))
        priors = make_priors(self.prior_levels, self.map_sizes, image_size)
        self.register_buffer("priors", priors, persistent=False)
        self.register_buffer("priors_xyxy", box_convert(priors, "cxcywh", "xyxy"), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predictions for a batch.

        Args:
            images: (B, 3, image_size, image_size) RGB in [0, 255], uint8 or float.

        Returns:
            (B, P, columns) logits and (B, P, 4) offsets.
        """
        maps = self._maps((images.float() - self.mean) / self.std)
        logits = [_flatten(x, self.columns) for x in self.class_heads(maps)]
        offsets = [_flatten(x, 4) for x in self.box_heads(maps)]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.extras(self.backbone(x))
        return maps

    @torch.no_grad()
    def _map_sizes(self) -> list[tuple[int, int]]:
        """Return (height, width) of each feature map for the image size, by running the net; its mode is unchanged."""
        was_training = self.training
        try:
            maps = self.eval()._maps(torch.zeros(1, 3, self.image_size, self.image_size))
        except RuntimeError as error:  # a map would be empty
            raise InputError(f"model.image_size: {self.image_size} px is too small for this net: its last maps would be "
                             "empty. Set a larger image_size or another net.") from error
        self.train(was_training)
        return [(x.shape[2], x.shape[3]) for x in maps]


def _flatten(x: Tensor, values: int) -> Tensor:
    """Reshape (B, boxes * values, H, W) to (B, H * W * boxes, values)."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, values)
