"""The nets that can be asked for by name, a table row each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ssd_lib.boxes.priors import PriorRow
from ssd_lib.nets.backbones import MobileNetV2
from ssd_lib.nets.heads import inverted_residual_extras, lite_heads
from ssd_lib.nets.ssd import SSD

MOBILE_STRIDES = (16, 32, 64, None, None, None)
MOBILE_SIZES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.1)  # 60-105-150-195-240-285-330 of 300 px


@dataclass(frozen=True)
class NetRow:
    """How one net is built. Mean and std are of RGB pixels in [0, 255]."""

    backbone: Callable[[float], nn.Module]
    extras: Callable[[int, Sequence[tuple[int, float]]], nn.ModuleList]
    extra_rows: tuple[tuple[int, float], ...]
    heads: Callable[[Sequence[int], Sequence[int]], nn.ModuleList]
    priors: tuple[PriorRow, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _priors(strides: Sequence[int | None], sizes: Sequence[float], ratios: tuple[float, ...]) -> tuple[PriorRow, ...]:
    return tuple(PriorRow(stride, small, large, ratios)
                 for stride, small, large in zip(strides, sizes[:-1], sizes[1:], strict=True))


NETS = {
    "mb2-ssd-lite": NetRow(
        backbone=MobileNetV2,
        extras=inverted_residual_extras,
        extra_rows=((512, 0.2), (256, 0.25), (256, 0.5), (64, 0.25)),
        heads=lite_heads,
        priors=_priors(MOBILE_STRIDES, MOBILE_SIZES, (2, 3)),
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    ),
}


def build_net(name: str, classes: int, image_size: int, width_mult: float, seed: int = 0) -> SSD:
    """Build a net with new weights.

    Args:
        name: a key of `NETS`.
        classes: K, the number of classes without the background.
        image_size: side of the square input in pixels.
        width_mult: width of the backbone; 1.0 is the published net.
        seed: of the weights. The global generator of torch is left as it was.
    """
    row = NETS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = row.backbone(width_mult)
        channels = [*backbone.out_channels, *(c for c, _ in row.extra_rows)]  # type: ignore[misc]
        extras = row.extras(channels[1], row.extra_rows)
        per_cell = [prior.boxes_per_cell for prior in row.priors]
        class_heads = row.heads(channels, [n * (classes + 1) for n in per_cell])
        box_heads = row.heads(channels, [n * 4 for n in per_cell])
        for module in (extras, class_heads, box_heads):
            module.apply(_init_convolution)
        return SSD(backbone, extras, class_heads, box_heads, classes, row.priors, image_size, row.mean, row.std)


def _init_convolution(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
