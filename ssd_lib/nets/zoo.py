"""The nets that can be asked for by name, a table row each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ssd_lib.boxes.priors import PriorRow
from ssd_lib.nets.backbones import LARGE, SMALL, MobileNetV2, mobilenet_v1, mobilenet_v3, squeezenet, vgg16_atrous
from ssd_lib.nets.heads import (
    inverted_residual_extras,
    lite_heads,
    lite_heads_without_norm,
    mobilenet_v3_extras,
    plain_extras,
    plain_heads,
    separable_extras,
    squeezenet_extras,
)
from ssd_lib.nets.ssd import SSD


@dataclass(frozen=True)
class NetRow:
    """How one net is built.

    Attributes:
        backbone: from a width to a module with `out_channels`.
        extras: from the channels of the last map, and rows that begin with the channels of each extra map.
        heads: from the channels of the maps and the outputs wanted of each.
        priors: of each map.
        mean, std: of RGB pixels in [0, 255].
    """

    backbone: Callable[[float], nn.Module]
    extras: Callable[[int, Any], nn.ModuleList]
    extra_rows: tuple[tuple[Any, ...], ...]
    heads: Callable[[Sequence[int], Sequence[int]], nn.ModuleList]
    priors: tuple[PriorRow, ...]
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)


def _priors(strides: Sequence[int | None], pixels: Sequence[int], ratios: Sequence[tuple[float, ...]]) -> tuple[PriorRow, ...]:
    """A row for each map; sizes are given in pixels of 300, and used as fractions."""
    sizes = [pixel / 300 for pixel in pixels]
    return tuple(PriorRow(*row) for row in zip(strides, sizes[:-1], sizes[1:], ratios, strict=True))


MOBILE_PRIORS = _priors((16, 32, 64, None, None, None), (60, 105, 150, 195, 240, 285, 330), [(2, 3)] * 6)
VGG_PRIORS = _priors((8, 16, 32, 64, None, None), (30, 60, 111, 162, 213, 264, 315), [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)])
HALVING = ((512, 256, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1))
V3_ROWS = ((512, 256), (256, 128), (256, 128), (64, 64))

NETS = {
    "vgg16-ssd": NetRow(
        lambda _: vgg16_atrous(), plain_extras, ((512, 256, 2, 1), (256, 128, 2, 1), (256, 128, 1, 0), (256, 128, 1, 0)),
        plain_heads, VGG_PRIORS, mean=(123.0, 117.0, 104.0), std=(1.0, 1.0, 1.0)),
    "mb1-ssd": NetRow(lambda _: mobilenet_v1(), plain_extras, HALVING, plain_heads, MOBILE_PRIORS),
    "mb1-ssd-lite": NetRow(lambda _: mobilenet_v1(), separable_extras, HALVING, lite_heads_without_norm, MOBILE_PRIORS),
    "mb2-ssd-lite": NetRow(
        MobileNetV2, inverted_residual_extras, ((512, 0.2), (256, 0.25), (256, 0.5), (64, 0.25)), lite_heads, MOBILE_PRIORS),
    "mb3-large-ssd-lite": NetRow(
        lambda _: mobilenet_v3(LARGE, cut=12), mobilenet_v3_extras, V3_ROWS, lite_heads, MOBILE_PRIORS),
    "mb3-small-ssd-lite": NetRow(
        lambda _: mobilenet_v3(SMALL, cut=8), mobilenet_v3_extras, V3_ROWS, lite_heads, MOBILE_PRIORS),
    "sq-ssd-lite": NetRow(
        lambda _: squeezenet(), squeezenet_extras,
        ((512, 256, 2, 2), (512, 256, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1)),
        lite_heads_without_norm, MOBILE_PRIORS),
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
        channels: list[int] = list(backbone.out_channels)  # type: ignore[arg-type]
        extras = row.extras(channels[-1], row.extra_rows)
        channels += [extra[0] for extra in row.extra_rows]
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
