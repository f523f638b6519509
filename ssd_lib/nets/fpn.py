"""Feature pyramid and heads that are shared by its levels: depthwise separable convolutions and ReLU6 throughout."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from ssd_lib.nets.heads import Heads


def conv_norm(channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1,
              activation: type[nn.Module] | None = nn.ReLU6) -> Conv2dNormActivation:
    """Return a convolution without bias, batch norm and activation."""
    return Conv2dNormActivation(channels, out, kernel, stride, groups=groups, activation_layer=activation)


def separable(channels: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return a depthwise and a pointwise convolution, each with batch norm and ReLU6."""
    return nn.Sequential(conv_norm(channels, channels, kernel, stride, groups=channels), conv_norm(channels, channels))


class FPN(nn.Module):
    """Bring the maps of a backbone to one width, add each coarse map to the next finer one, and append coarser maps.

    Source: Lin et al. 2017, arXiv 1612.03144, sec. 3, with separable convolutions as in SSDLite.

    Args:
        channels: of each map, the largest first.
        width: channels of the results.
        levels: number of results; those beyond the backbone's maps halve the last one.
    """

    def __init__(self, channels: Sequence[int], width: int, levels: int) -> None:
        super().__init__()
        self.out_channels = (width,) * levels
        self.laterals = nn.ModuleList(conv_norm(count, width, activation=None) for count in channels)
        self.smooth = nn.ModuleList(separable(width) for _ in channels)
        self.down = nn.ModuleList(separable(width, stride=2) for _ in range(levels - len(channels)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return `levels` maps, the largest first."""
        lateral = [layer(x) for layer, x in zip(self.laterals, maps, strict=True)]
        merged = lateral[-1:]
        for x in reversed(lateral[:-1]):
            merged.insert(0, x + F.interpolate(merged[0], size=x.shape[2:], mode="nearest"))
        result = [layer(x) for layer, x in zip(self.smooth, merged, strict=True)]
        for layer in self.down:
            result.append(layer(result[-1]))
        return result


class SharedHeads(nn.Module):
    """Separable convolutions and a predictor with the same weights on every level; each level has own batch norms and a scale.

    Source: RetinaNet's heads (Lin et al. 2017, arXiv 1708.02002) with norms of each level as in EfficientDet (Tan et al.
    2020, arXiv 1911.09070) and scales as in FCOS (Tian et al. 2019, arXiv 1904.01355).

    Args:
        channels: of each level, all the same.
        outputs: of each level, all the same.
        depth: number of separable convolutions before the predictor.
    """

    def __init__(self, channels: Sequence[int], outputs: Sequence[int], depth: int = 2) -> None:
        super().__init__()
        width, levels = channels[0], len(channels)
        self.depthwise = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in range(depth))
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2 * depth)) for _ in range(levels))
        self.activation = nn.ReLU6(inplace=True)
        self.scales = nn.Parameter(torch.ones(levels))
        self.predictor = nn.Conv2d(width, outputs[0], 1)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return (B, outputs, H, W) for each map."""
        results = []
        for x, norms, scale in zip(maps, self.norms, self.scales, strict=True):
            for convolution, norm in zip(self._convolutions(), cast(nn.ModuleList, norms), strict=True):
                x = self.activation(norm(convolution(x)))
            results.append(self.predictor(x) * scale)
        return results

    def predictors(self) -> list[nn.Conv2d]:
        """Return the last convolution, which all levels share."""
        return [self.predictor]

    def unshared(self) -> Heads:
        """Return heads with the same outputs whose weights are copies, one head for each level, so that norms can be folded."""
        heads = Heads()
        for norms, scale in zip(self.norms, self.scales.detach(), strict=True):
            layers: list[nn.Module] = []
            for convolution, norm in zip(self._convolutions(), cast(nn.ModuleList, norms), strict=True):
                layers += [convolution, norm, self.activation]
            head = copy.deepcopy(nn.Sequential(*layers, self.predictor))
            for value in head[-1].parameters():
                value.data *= scale
            heads.append(head)
        return heads

    def _convolutions(self) -> list[nn.Module]:
        return [layer for pair in zip(self.depthwise, self.pointwise, strict=True) for layer in pair]
