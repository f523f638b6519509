"""Backbones: from normalised pixels to the first feature maps.

They use torchvision's modules where possible, so that torchvision's weights fit. Where upstream's variant differs, it is
reimplemented here, so that upstream's weights fit. Modules are registered in the order of upstream's state dict.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn
from torchvision.models import MobileNetV3, ResNet, mobilenet_v2, squeezenet1_1
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import Conv2dNormActivation


class SequentialBackbone(nn.Module):
    """A sequence of layers with an output map after each of some of them.

    Args:
        layers: all layers.
        ends: for each map the number of layers before it.
        channels: the number of channels of each map.
        norm: applied to the first map; None: no normalisation.
    """

    def __init__(self, layers: Sequence[nn.Module], ends: tuple[int, ...], channels: tuple[int, ...],
                 norm: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.norm = norm
        self.ends, self.out_channels = ends, channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of (B, 3, H, W) normalised pixels, the largest first."""
        maps = [images]
        for begin, end in pairwise((0, *self.ends)):
            maps.append(self.features[begin:end](maps[-1]))
        first = maps[1] if self.norm is None else self.norm(maps[1])
        return [first, *maps[2:]]


class InvertedResidualBackbone(nn.Module):
    """Inverted residual blocks whose maps are the expanded inputs of some blocks with stride 2, and the end.

    Args:
        features: all blocks, as in torchvision's model.
        indices: of the blocks whose expansions are maps.
        layers_name: the attribute of a block that has its layers.
    """

    def __init__(self, features: nn.Sequential, indices: tuple[int, ...], layers_name: str) -> None:
        super().__init__()
        self.features, self.indices, self.layers_name = features, indices, layers_name
        last = cast(nn.Sequential, features[-1])
        expansions = [cast(nn.Sequential, self._layers(index)[0]) for index in indices]
        self.out_channels = tuple(cast(nn.Conv2d, block[0]).out_channels for block in (*expansions, last))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of (B, 3, H, W) normalised pixels, the largest first."""
        maps, x, begin = [], images, 0
        for index in self.indices:
            maps.append(self._layers(index)[0](self.features[begin:index](x)))
            x, begin = self._layers(index)[1:](maps[-1]), index + 1
        return [*maps, self.features[begin:](x)]

    def _layers(self, index: int) -> nn.Sequential:
        return cast(nn.Sequential, getattr(self.features[index], self.layers_name))


def mobilenet_v2_features(width_mult: float) -> InvertedResidualBackbone:
    """Return MobileNetV2. Source: Sandler et al. 2018, arXiv 1801.04381."""
    return InvertedResidualBackbone(mobilenet_v2(width_mult=width_mult).features, (14,), "conv")


def torchvision_mobilenet_v3(make: Callable[[], MobileNetV3], index: int) -> InvertedResidualBackbone:
    """Return torchvision's MobileNetV3; its blocks differ from upstream's.

    Source: Howard et al. 2019, arXiv 1905.02244, sec. 6.3.
    """
    return InvertedResidualBackbone(make().features, (index,), "block")


# kernel, expansion, out, repeats, stride: Tan & Le 2019, arXiv 1905.11946, table 1, without squeeze-and-excitation
LITE0 = ((3, 1, 16, 1, 1), (3, 6, 24, 2, 2), (5, 6, 40, 2, 2), (3, 6, 80, 3, 2), (5, 6, 112, 3, 1), (5, 6, 192, 4, 2),
         (3, 6, 320, 1, 1))


class LiteBlock(nn.Module):
    """EfficientNet-Lite's inverted residual: MobileNetV2's with any kernel, and TensorFlow's epsilon of batch norms."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        expand = [_lite_conv(channels, wide, 1, 1)] if expansion > 1 else []
        self.layers = nn.Sequential(*expand, _lite_conv(wide, wide, kernel, stride, groups=wide),
                                    _lite_conv(wide, out, 1, 1, activation=None))
        self.has_shortcut = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, H / stride, W / stride) for x of shape (B, channels, H, W)."""
        return x + self.layers(x) if self.has_shortcut else self.layers(x)


def efficientnet_lite0() -> InvertedResidualBackbone:
    """Return EfficientNet-Lite0 with maps of strides 8, 16 and 32. ReLU6 throughout, so it can be quantised to INT8.

    Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    layers = [*_lite0_blocks(), _lite_conv(320, 1280, 1, 1)]
    return InvertedResidualBackbone(nn.Sequential(*layers), (6, 12), "layers")


def efficientnet_lite0_blocks() -> SequentialBackbone:
    """Return EfficientNet-Lite0 without its last convolution; its maps, of strides 8, 16 and 32, are the outputs of blocks."""
    return SequentialBackbone(_lite0_blocks(), (6, 12, 17), (40, 112, 320))


def mobilenet_v2_blocks(width_mult: float) -> SequentialBackbone:
    """Return MobileNetV2 without its last convolution; its maps, of strides 8, 16 and 32, are the outputs of blocks."""
    layers = list(mobilenet_v2(width_mult=width_mult).features)[:-1]
    ends = (7, 14, 18)
    return SequentialBackbone(layers, ends, tuple(cast(Any, layers[end - 1]).out_channels for end in ends))


def _lite0_blocks() -> list[nn.Module]:
    layers: list[nn.Module] = [_lite_conv(3, 32, 3, 2)]
    channels = 32
    for kernel, expansion, out, repeats, stride in LITE0:
        for number in range(repeats):
            layers.append(LiteBlock(channels, out, kernel, stride if number == 0 else 1, expansion))
            channels = out
    return layers


def vgg16_atrous() -> SequentialBackbone:
    """Return VGG16 with fc6 and fc7 as convolutions; its maps have strides 8 (conv4_3, normalised) and 16.

    Source: Liu et al. 2016, arXiv 1512.02325, sec. 3.
    """
    layers = list(make_layers(cfgs["D"]))[:30]
    layers[16].ceil_mode = True
    layers += [nn.MaxPool2d(3, 1, 1), nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(inplace=True),
               nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return SequentialBackbone(layers, (23, len(layers)), (512, 1024), nn.BatchNorm2d(512))


def mobilenet_v1() -> SequentialBackbone:
    """Return MobileNetV1; its maps have strides 16 and 32. Source: Howard et al. 2017, arXiv 1704.04861, table 1."""
    layers: list[nn.Module] = [_conv_norm(3, 32, 3, 2)]
    channels = 32
    for out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)):
        depthwise, pointwise = _conv_norm(channels, channels, 3, stride, groups=channels), _conv_norm(channels, out, 1, 1)
        layers.append(nn.Sequential(*depthwise, *pointwise))
        channels = out
    return SequentialBackbone(layers, (12, len(layers)), (512, 1024))


def squeezenet() -> SequentialBackbone:
    """Return SqueezeNet 1.1 without its last module, with one map of stride 16.

    `heads.after_squeezenet` has the last module.
    """
    layers = list(squeezenet1_1().features)[:12]
    for index in (2, 5, 8):
        layers[index].ceil_mode = False  # as upstream
    return SequentialBackbone(layers, (len(layers),), (512,))


def resnet(make: Callable[[], ResNet]) -> SequentialBackbone:
    """Return a ResNet up to its third stage, with stride 1 in that stage: one map of stride 8.

    Source: NVIDIA's SSD300 v1.1: Liu et al. 2016 with ResNet-50 instead of VGG16.
    """
    whole = make()
    first = whole.layer3[0]
    for layer in (first.conv1, first.conv2, first.downsample[0]):
        layer.stride = (1, 1)
    layers = [whole.conv1, whole.bn1, whole.relu, whole.maxpool, whole.layer1, whole.layer2, whole.layer3]
    return SequentialBackbone(layers, (len(layers),), (whole.layer4[0].conv1.in_channels,))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scale each channel by a function of all channel means; with batch norm, as in upstream."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        few = channels // 4
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, few, 1, bias=False), nn.BatchNorm2d(few), nn.ReLU(inplace=True),
            nn.Conv2d(few, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return x, (B, C, H, W), with scaled channels."""
        return x * self.se(x)


class MobileNetV3Block(nn.Module):
    """MobileNetV3's inverted residual as in upstream.

    Squeeze-and-excitation comes last, and a shortcut may have a convolution.
    """

    def __init__(self, kernel: int, channels: int, expanded: int, out: int, activation: type[nn.Module], has_se: bool,
                 stride: int) -> None:
        super().__init__()
        self.se = SqueezeExcite(out) if has_se else nn.Identity()
        self.expand = _conv_norm(channels, expanded, 1, 1, activation=activation)
        self.depthwise = _conv_norm(expanded, expanded, kernel, stride, groups=expanded, activation=activation)
        self.project = _conv_norm(expanded, out, 1, 1)[:2]
        self.shortcut = None if stride > 1 else nn.Identity() if channels == out else _conv_norm(channels, out, 1, 1)[:2]

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out, H / stride, W / stride) for x of shape (B, channels, H, W)."""
        y = self.se(self.project(self.depthwise(self.expand(x))))
        return y if self.shortcut is None else y + self.shortcut(x)


R, H = nn.ReLU, nn.Hardswish
# kernel, expanded, out, activation, has_se, stride: Howard et al. 2019, arXiv 1905.02244, tables 1 and 2; upstream's strides
LARGE = ((3, 16, 16, R, False, 1), (3, 64, 24, R, False, 2), (3, 72, 24, R, False, 1), (5, 72, 40, R, True, 2),
         (5, 120, 40, R, True, 1), (5, 120, 40, R, True, 1), (3, 240, 80, H, False, 2), (3, 200, 80, H, False, 1),
         (3, 184, 80, H, False, 1), (3, 184, 80, H, False, 1), (3, 480, 112, H, True, 1), (3, 672, 112, H, True, 1),
         (5, 672, 160, H, True, 1), (5, 672, 160, H, True, 2), (5, 960, 160, H, True, 1))
SMALL = ((3, 16, 16, R, True, 2), (3, 72, 24, R, False, 2), (3, 88, 24, R, False, 1), (5, 96, 40, H, True, 2),
         (5, 240, 40, H, True, 1), (5, 240, 40, H, True, 1), (5, 120, 48, H, True, 1), (5, 144, 48, H, True, 1),
         (5, 288, 96, H, True, 2), (5, 576, 96, H, True, 1), (5, 576, 96, H, True, 1))


def mobilenet_v3(rows: Sequence[tuple[int, int, int, type[nn.Module], bool, int]], cut: int) -> SequentialBackbone:
    """Return upstream's MobileNetV3; its maps have strides 16 and 32.

    Args:
        rows: LARGE or SMALL.
        cut: the number of blocks before the first map.
    """
    layers: list[nn.Module] = [*_conv_norm(3, 16, 3, 2, activation=nn.Hardswish)]
    channels = 16
    for kernel, expanded, out, activation, has_se, stride in rows:
        layers.append(MobileNetV3Block(kernel, channels, expanded, out, activation, has_se, stride))
        channels = out
    last = channels * 6
    layers += _conv_norm(channels, last, 1, 1, activation=nn.Hardswish)
    return SequentialBackbone(layers, (3 + cut, len(layers)), (rows[cut - 1][2], last))


def _conv_norm(channels: int, out: int, kernel: int, stride: int, groups: int = 1,
               activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out),
                         activation(inplace=True))


def _lite_conv(channels: int, out: int, kernel: int, stride: int, groups: int = 1,
               activation: type[nn.Module] | None = nn.ReLU6) -> nn.Sequential:
    return Conv2dNormActivation(channels, out, kernel, stride, groups=groups, norm_layer=partial(nn.BatchNorm2d, eps=1e-3),
                                activation_layer=activation)
