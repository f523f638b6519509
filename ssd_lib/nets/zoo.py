"""Table of the nets by name, and `build_net`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small, resnet34, resnet50

from ssd_lib.boxes.loss import MULTIBOX, Criterion
from ssd_lib.boxes.prior_levels import LITE0_PRIORS, MOBILE_PRIORS, RESNET_PRIORS, VGG_PRIORS, PriorLevel, sizes_of, with_sizes
from ssd_lib.nets.backbones import (
    LARGE,
    SMALL,
    efficientnet_lite0,
    efficientnet_lite0_blocks,
    mobilenet_v1,
    mobilenet_v2_blocks,
    mobilenet_v2_features,
    mobilenet_v3,
    resnet,
    squeezenet,
    torchvision_mobilenet_v3,
    vgg16_atrous,
)
from ssd_lib.nets.fpn import FPN, SharedHeads
from ssd_lib.nets.heads import (
    Heads,
    after_squeezenet,
    extra_maps,
    inverted_residual,
    lite_heads,
    lite_heads_without_norm,
    mobilenet_v3_block,
    plain,
    plain_heads,
    plain_with_norm,
    separable,
)
from ssd_lib.nets.rewrite import use_lean_activations
from ssd_lib.nets.ssd import SSD, Scores, columns_of

Colour = tuple[float, float, float]  # RGB in [0, 255]
IMAGENET_MEAN: Colour = (123.675, 116.28, 103.53)
IMAGENET_STD: Colour = (58.395, 57.12, 57.375)
VGG_MEAN: Colour = (123.0, 117.0, 104.0)


@dataclass(frozen=True)
class NetRow:
    """The parts of one net.

    Attributes:
        backbone: makes the backbone, a module with `out_channels`, given `model.width_mult`.
        extras: makes what turns the backbone's maps into those of the heads, given the channels of each; it has `out_channels`.
        heads: makes the heads, given the channels and the number of outputs of each map.
        priors: one level for each map.
        mean, std: normalisation of the pixels: (pixel - mean) / std, for pixels in [0, 255].
        backbone_mean, backbone_std: the normalisation that pretrained backbone weights were trained with.
        is_upstreams: whether qfgaohao/pytorch-ssd has this net.
        prior_scale: the sides of priors in strides of their map; None: they are fractions of the image.
        criterion: the assignment and the losses that the net is made for.
        rates: peak learning rates for 8 images a step, with SGD and with AdamW, for `train.lr: auto`; docs/nets.md says which
            were measured.
    """

    backbone: Callable[[float], nn.Module]
    extras: Callable[[Sequence[int]], nn.Module]
    heads: Callable[[Sequence[int], Sequence[int]], Heads | SharedHeads]
    priors: tuple[PriorLevel, ...]
    mean: Colour = (127.0, 127.0, 127.0)
    std: Colour = (128.0, 128.0, 128.0)
    backbone_mean: Colour = IMAGENET_MEAN
    backbone_std: Colour = IMAGENET_STD
    is_upstreams: bool = True
    prior_scale: float | None = None
    criterion: Criterion = MULTIBOX
    rates: tuple[float, float] = (0.003, 0.003)


FPN_PRIORS = tuple(PriorLevel(stride, 0.0, 0.0, (), is_single=True) for stride in (8, 16, 32, 64))  # see NetRow.prior_scale
FPN_96 = partial(FPN, width=96, levels=4)
ATSS_QUALITY = Criterion("atss", "quality", "giou")
HALVING = ((512, 256, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1))
V2_ROWS = ((512, 0.2), (256, 0.25), (256, 0.5), (64, 0.25))
LITE0_ROWS = ((512, 0.2), (256, 0.25), (128, 0.5))
V3_ROWS = ((512, 256), (256, 128), (256, 128), (64, 64))
VGG_ROWS = ((512, 256, 2, 1), (256, 128, 2, 1), (256, 128, 1, 0), (256, 128, 1, 0))
RESNET_ROWS = ((512, 256, 2, 1), (512, 256, 2, 1), (256, 128, 2, 1), (256, 128, 1, 0), (256, 128, 1, 0))
SQUEEZENET_ROWS = ((512, 256, 2, 2), (512, 256, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1), (256, 128, 2, 1))

NETS = {
    "vgg16-ssd": NetRow(
        lambda _: vgg16_atrous(), extra_maps(plain, VGG_ROWS), plain_heads, VGG_PRIORS, VGG_MEAN, (1.0, 1.0, 1.0),
        VGG_MEAN, (1.0, 1.0, 1.0), rates=(0.00025, 0.0001)),
    "mb1-ssd": NetRow(lambda _: mobilenet_v1(), extra_maps(plain, HALVING), plain_heads, MOBILE_PRIORS),
    "mb1-ssd-lite": NetRow(
        lambda _: mobilenet_v1(), extra_maps(separable, HALVING), lite_heads_without_norm, MOBILE_PRIORS),
    "mb2-ssd-lite": NetRow(
        mobilenet_v2_features, extra_maps(inverted_residual, V2_ROWS), lite_heads, MOBILE_PRIORS),
    "mb3-large-ssd-lite": NetRow(
        lambda _: mobilenet_v3(LARGE, cut=12), extra_maps(mobilenet_v3_block, V3_ROWS), lite_heads, MOBILE_PRIORS),
    "mb3-small-ssd-lite": NetRow(
        lambda _: mobilenet_v3(SMALL, cut=8), extra_maps(mobilenet_v3_block, V3_ROWS), lite_heads, MOBILE_PRIORS),
    "sq-ssd-lite": NetRow(
        lambda _: squeezenet(), partial(after_squeezenet, rows=SQUEEZENET_ROWS), lite_heads_without_norm, MOBILE_PRIORS),
    "lite0-ssd-lite": NetRow(
        lambda _: efficientnet_lite0(), extra_maps(inverted_residual, LITE0_ROWS), lite_heads, LITE0_PRIORS,
        backbone_mean=(127.0, 127.0, 127.0), backbone_std=(128.0, 128.0, 128.0), is_upstreams=False),
    "mb2-fpn": NetRow(
        mobilenet_v2_blocks, FPN_96, SharedHeads, FPN_PRIORS, is_upstreams=False, prior_scale=3.0,
        criterion=ATSS_QUALITY, rates=(0.01, 0.006)),
    "lite0-fpn": NetRow(
        lambda _: efficientnet_lite0_blocks(), FPN_96, SharedHeads, FPN_PRIORS,
        backbone_mean=(127.0, 127.0, 127.0), backbone_std=(128.0, 128.0, 128.0), is_upstreams=False, prior_scale=3.0,
        criterion=ATSS_QUALITY, rates=(0.01, 0.006)),
    "tv-mb3-large-ssd-lite": NetRow(
        lambda _: torchvision_mobilenet_v3(mobilenet_v3_large, 13), extra_maps(inverted_residual, V2_ROWS), lite_heads,
        MOBILE_PRIORS, is_upstreams=False),
    "tv-mb3-small-ssd-lite": NetRow(
        lambda _: torchvision_mobilenet_v3(mobilenet_v3_small, 9), extra_maps(inverted_residual, V2_ROWS), lite_heads,
        MOBILE_PRIORS, is_upstreams=False),
    "resnet34-ssd": NetRow(
        lambda _: resnet(resnet34), extra_maps(plain_with_norm, RESNET_ROWS), plain_heads, RESNET_PRIORS,
        IMAGENET_MEAN, IMAGENET_STD, is_upstreams=False, rates=(0.003, 0.001)),
    "resnet50-ssd": NetRow(
        lambda _: resnet(resnet50), extra_maps(plain_with_norm, RESNET_ROWS), plain_heads, RESNET_PRIORS,
        IMAGENET_MEAN, IMAGENET_STD, is_upstreams=False, rates=(0.003, 0.001)),
}


def published_sizes(row: NetRow, image_size: int) -> tuple[float, ...]:
    """Return the prior sizes of a net as fractions of the image, one more than it has maps."""
    if row.prior_scale is None:
        return sizes_of(row.priors)
    strides = [cast(int, level.stride) for level in row.priors]
    return tuple(row.prior_scale * stride / image_size for stride in (*strides, 2 * strides[-1]))


def build_net(name: str, classes: int, image_size: int, width_mult: float = 1.0, prior_sizes: Sequence[float] = (),
              seed: int = 0, scores: Scores = "softmax") -> SSD:
    """Build a net with new weights.

    Args:
        name: a key of `NETS`.
        classes: K, the number of classes without the background.
        image_size: side of the square input in pixels.
        width_mult: width of the backbone; 1.0 is the published net.
        prior_sizes: as fractions of the image, one more than the net has maps; empty for the published sizes.
        seed: seed of the weights. The state of torch's global generator is not changed.
        scores: see `SSD`.
    """
    row = NETS[name]
    priors = with_sizes(row.priors, prior_sizes or published_sizes(row, image_size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = row.backbone(width_mult)
        extras = row.extras(backbone.out_channels)  # type: ignore[arg-type]
        channels: Sequence[int] = extras.out_channels  # type: ignore[assignment]
        per_cell = [level.boxes_per_cell for level in priors]
        class_heads = row.heads(channels, [n * columns_of(scores, classes) for n in per_cell])
        box_heads = row.heads(channels, [n * 4 for n in per_cell])
        for module in (extras, class_heads, box_heads):
            module.apply(_init_convolution)
        if scores == "sigmoid":
            _expect_few_objects(class_heads.predictors())
        net = SSD(backbone, extras, class_heads, box_heads, classes, priors, image_size, row.mean, row.std, scores)
        use_lean_activations(net)
        return net


def _init_convolution(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _expect_few_objects(predictors: Sequence[nn.Conv2d]) -> None:
    """Begin with a score of 0.01 everywhere; else the many priors without an object dominate the first steps.

    Source: Lin et al. 2017, arXiv 1708.02002, sec. 3.3.
    """
    for convolution in predictors:
        nn.init.constant_(cast(Tensor, convolution.bias), -math.log(99))
