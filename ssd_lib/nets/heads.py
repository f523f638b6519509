"""Extra feature maps after a backbone, and the heads, which predict from each map."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.squeezenet import Fire

from ssd_lib.nets.backbones import MobileNetV3Block


class ExtraMaps(nn.ModuleList):
    """Blocks after the last map of a backbone, each of which adds a smaller map.

    Args:
        channels: of each map of the backbone.
        block: makes a block from its input channels and a row.
        rows: the arguments of each block, beginning with its output channels.
    """

    def __init__(self, channels: Sequence[int], block: Callable[..., nn.Module], rows: Sequence[tuple[Any, ...]]) -> None:
        self.out_channels = (*channels, *(row[0] for row in rows))
        inputs = self.out_channels[len(channels) - 1:-1]
        super().__init__(block(count, *row) for count, row in zip(inputs, rows, strict=True))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the maps of the backbone and the added ones, the largest first."""
        maps = list(maps)
        for block in self:
            maps.append(block(maps[-1]))
        return maps


class Heads(nn.ModuleList):
    """One head for each map."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the output of each head, (B, outputs, H, W), for its map."""
        return [head(x) for head, x in zip(self, maps, strict=True)]

    def predictors(self) -> list[nn.Conv2d]:
        """Return the last convolution of each head."""
        return [[module for module in head.modules() if isinstance(module, nn.Conv2d)][-1] for head in self]


def extra_maps(block: Callable[..., nn.Module], rows: Sequence[tuple[Any, ...]]) -> Callable[[Sequence[int]], ExtraMaps]:
    """Return a function that makes extra maps from the channels of a backbone's maps."""
    return partial(ExtraMaps, block=block, rows=rows)


def inverted_residual(channels: int, out: int, expand_ratio: float) -> nn.Module:
    """Return a block of MobileNetV2 with stride 2."""
    return InvertedResidual(channels, out, stride=2, expand_ratio=expand_ratio)


def mobilenet_v3_block(channels: int, out: int, expanded: int) -> nn.Module:
    """Return a block of MobileNetV3 with stride 2."""
    return MobileNetV3Block(3, channels, expanded, out, nn.Hardswish, False, 2)


def plain(channels: int, out: int, hidden: int, stride: int, padding: int) -> nn.Sequential:
    """Return SSD's block: a 1x1 and a 3x3 convolution."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, out, 3, stride, padding), nn.ReLU(inplace=True))


def plain_with_norm(channels: int, out: int, hidden: int, stride: int, padding: int) -> nn.Sequential:
    """Return the block of `plain` with batch norms."""
    return nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, out, 3, stride, padding, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def separable(channels: int, out: int, hidden: int, stride: int, padding: int) -> nn.Sequential:
    """Return the block of `plain` with a depthwise separable 3x3 convolution."""
    depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding, groups=hidden)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
                         nn.Sequential(depthwise, nn.ReLU(inplace=True), nn.Conv2d(hidden, out, 1)))


def after_squeezenet(channels: Sequence[int], rows: Sequence[tuple[int, int, int, int]]) -> ExtraMaps:
    """Return `separable` blocks; the first one begins with the last module of SqueezeNet, which has no heads in upstream."""
    extras = ExtraMaps(channels, separable, rows)
    extras[0] = nn.Sequential(Fire(channels[-1], 64, 256, 256), *cast(nn.Sequential, extras[0]).children())
    return extras


def plain_heads(channels: Sequence[int], outputs: Sequence[int]) -> Heads:
    """Return SSD's heads: 3x3 convolutions."""
    return Heads(nn.Conv2d(c, out, 3, padding=1) for c, out in zip(channels, outputs, strict=True))


def lite_heads(channels: Sequence[int], outputs: Sequence[int]) -> Heads:
    """Return SSDLite's heads: depthwise separable convolutions; a 1x1 convolution for the last map, which has one cell."""
    return _lite_heads(channels, outputs, with_norm=True)


def lite_heads_without_norm(channels: Sequence[int], outputs: Sequence[int]) -> Heads:
    """Return the heads of `lite_heads` without batch norm."""
    return _lite_heads(channels, outputs, with_norm=False)


def _lite_heads(channels: Sequence[int], outputs: Sequence[int], with_norm: bool) -> Heads:
    separable = [_separable(c, out, with_norm) for c, out in zip(channels[:-1], outputs[:-1], strict=True)]
    return Heads([*separable, nn.Conv2d(channels[-1], outputs[-1], 1)])


def _separable(channels: int, outputs: int, with_norm: bool) -> nn.Sequential:
    between = [nn.BatchNorm2d(channels), nn.ReLU6(inplace=True)] if with_norm else [nn.ReLU(inplace=True)]
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return nn.Sequential(depthwise, *between, nn.Conv2d(channels, outputs, 1))
