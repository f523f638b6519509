"""What stands on a backbone: the extra feature maps, and the convolutions that predict from each map."""

from collections.abc import Sequence

from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.squeezenet import Fire

from ssd_lib.nets.backbones import MobileNetV3Block


def inverted_residual_extras(channels: int, rows: Sequence[tuple[int, float]]) -> nn.ModuleList:
    """Blocks of MobileNetV2 that halve the map each: a row is (out, expand ratio)."""
    extras = nn.ModuleList()
    for out, expand_ratio in rows:
        extras.append(InvertedResidual(channels, out, stride=2, expand_ratio=expand_ratio))
        channels = out
    return extras


def mobilenet_v3_extras(channels: int, rows: Sequence[tuple[int, int]]) -> nn.ModuleList:
    """Blocks of MobileNetV3 that halve the map each: a row is (out, wide)."""
    extras = nn.ModuleList()
    for out, wide in rows:
        extras.append(MobileNetV3Block(3, channels, wide, out, nn.Hardswish, False, 2))
        channels = out
    return extras


def plain_extras(channels: int, rows: Sequence[tuple[int, int, int, int]]) -> nn.ModuleList:
    """SSD's: a 1x1 and a 3x3 convolution; a row is (out, narrow, stride, padding)."""
    extras = nn.ModuleList()
    for out, narrow, stride, padding in rows:
        extras.append(nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True),
                                    nn.Conv2d(narrow, out, 3, stride, padding), nn.ReLU(inplace=True)))
        channels = out
    return extras


def separable_extras(channels: int, rows: Sequence[tuple[int, int, int, int]]) -> nn.ModuleList:
    """The same with a depthwise separable convolution for the 3x3 one."""
    extras = nn.ModuleList()
    for out, narrow, stride, padding in rows:
        depthwise = nn.Conv2d(narrow, narrow, 3, stride, padding, groups=narrow)
        extras.append(nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True),
                                    nn.Sequential(depthwise, nn.ReLU(inplace=True), nn.Conv2d(narrow, out, 1))))
        channels = out
    return extras


def squeezenet_extras(channels: int, rows: Sequence[tuple[int, int, int, int]]) -> nn.ModuleList:
    """The same after the last module of SqueezeNet, from which upstream does not predict."""
    extras = separable_extras(512, rows)
    extras[0] = nn.Sequential(Fire(channels, 64, 256, 256), *extras[0].children())
    return extras


def plain_heads(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """SSD's predictors: 3x3 convolutions."""
    return nn.ModuleList(nn.Conv2d(c, out, 3, padding=1) for c, out in zip(channels, outputs, strict=True))


def lite_heads(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """SSDLite's predictors: depthwise separable convolutions; the last map, of one cell, takes a plain 1x1 one."""
    return _lite_heads(channels, outputs, with_norm=True)


def lite_heads_without_norm(channels: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    """The same without batch norm."""
    return _lite_heads(channels, outputs, with_norm=False)


def _lite_heads(channels: Sequence[int], outputs: Sequence[int], with_norm: bool) -> nn.ModuleList:
    separable = [_separable(c, out, with_norm) for c, out in zip(channels[:-1], outputs[:-1], strict=True)]
    return nn.ModuleList([*separable, nn.Conv2d(channels[-1], outputs[-1], 1)])


def _separable(channels: int, outputs: int, with_norm: bool) -> nn.Sequential:
    between = [nn.BatchNorm2d(channels), nn.ReLU6(inplace=True)] if with_norm else [nn.ReLU(inplace=True)]
    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    return nn.Sequential(depthwise, *between, nn.Conv2d(channels, outputs, 1))
