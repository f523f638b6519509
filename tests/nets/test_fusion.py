"""Batch norms that are folded into convolutions change nothing but the time."""

import pytest
import torch
from torch import nn

from ssd_lib.nets.fusion import fuse_batch_norms
from ssd_lib.nets.zoo import NETS, build_net


@pytest.mark.parametrize("name", list(NETS))
def test_a_fused_net_computes_the_same(name: str) -> None:
    net = build_net(name, 3, 300 if NETS[name].extra_rows[-1][-1] == 0 else 96, seed=2).train()
    images = torch.randint(0, 256, (2, 3, net.image_size, net.image_size), dtype=torch.uint8)
    with torch.no_grad():
        net(images)  # statistics that are not 0 and 1
        fused = fuse_batch_norms(net)
        assert net.training
        for ours, theirs in zip(net.eval()(images), fused(images), strict=True):
            torch.testing.assert_close(theirs, ours, atol=1e-4 * ours.abs().max().item(), rtol=0)


def test_no_batch_norm_is_left_but_those_without_a_convolution_before() -> None:
    left = {name: [key for key, module in fuse_batch_norms(build_net(name, 2, 300)).named_modules()
                   if isinstance(module, nn.BatchNorm2d)] for name in ("mb2-ssd-lite", "mb3-small-ssd-lite", "vgg16-ssd")}
    assert left == {"mb2-ssd-lite": [], "mb3-small-ssd-lite": [], "vgg16-ssd": ["backbone.norm"]}
