"""Single Shot MultiBox Detector: from pixels to class logits and box offsets of every prior."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from ssd_lib.boxes.priors import PriorLevel, make_priors
from ssd_lib.errors import InputError

# Submodules that are not trained, for each value of `train.freeze`.
FROZEN_PARTS: dict[str, tuple[str, ...]] = {"none": (), "backbone": ("backbone",), "all-but-heads": ("backbone", "extras")}


class SSD(nn.Module):
    """Backbone, extra maps and heads, with their input size and normalisation and their priors.

    Source: Liu et al. 2016, arXiv 1512.02325; SSDLite: Sandler et al. 2018, arXiv 1801.04381, sec. 6.2.

    Attributes:
        classes: K, the number of classes without the background.
        image_size: side of the square input in pixels.
        prior_levels, map_sizes: the PriorLevel and the (height, width) in cells of each feature map.
        priors: (P, 4) float32, cxcywh in [0, 1].
        priors_xyxy: (P, 4) float32, xyxy.
    """

    priors: Tensor
    priors_xyxy: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, extras: nn.ModuleList, class_heads: nn.ModuleList, box_heads: nn.ModuleList,
                 classes: int, prior_levels: Sequence[PriorLevel], image_size: int, mean: Sequence[float],
                 std: Sequence[float]) -> None:
        super().__init__()
        self.backbone, self.extras = backbone, extras
        self.class_heads, self.box_heads = class_heads, box_heads
        self.classes, self.image_size = classes, image_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.prior_levels, self.map_sizes = tuple(prior_levels), self._map_sizes()
        priors = make_priors(self.prior_levels, self.map_sizes, image_size)
        self.register_buffer("priors", priors, persistent=False)
        self.register_buffer("priors_xyxy", box_convert(priors, "cxcywh", "xyxy"), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predictions for a batch.

        Args:
            images: (B, 3, image_size, image_size) RGB in [0, 255], uint8 or float.

        Returns:
            (B, P, K + 1) logits, class 0 is the background, and (B, P, 4) offsets.
        """
        maps = self._maps((images.float() - self.mean) / self.std)
        logits = [_flatten(head(x), self.classes + 1) for head, x in zip(self.class_heads, maps, strict=True)]
        offsets = [_flatten(head(x), 4) for head, x in zip(self.box_heads, maps, strict=True)]
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)

    def _maps(self, x: Tensor) -> list[Tensor]:
        maps = self.backbone(x)
        for extra in self.extras:
            maps.append(extra(maps[-1]))
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
