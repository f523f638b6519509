"""Rewritten nets give the same results."""

import pytest
import torch
from support.nets import all_but_large
from torch import nn

from ssd_lib.nets.rewrite import LeanReLU6, fuse_batch_norms, rescale_input, use_lean_activations
from ssd_lib.nets.zoo import NETS, build_net


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_relu6(dtype: torch.dtype) -> None:
    """Also at and around 0 and 6."""
    x = torch.cat([torch.linspace(-3, 9, 97), torch.tensor([0.0, -0.0, 6.0, torch.nan, torch.inf, -torch.inf])]).to(dtype)
    weight = torch.linspace(1, 2, len(x), dtype=dtype)
    results = []
    for activation in (nn.ReLU6(), LeanReLU6(inplace=True)):
        leaf = x.clone().requires_grad_()
        y = activation(leaf * 1)
        (y * weight).sum().backward()
        results.append((y.detach(), leaf.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0, equal_nan=True)


def test_training_saves_one_tensor_per_layer() -> None:
    saved: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.data_ptr())
        return tensor
    for activation, tensors in ((nn.ReLU6(inplace=True), 2), (LeanReLU6(inplace=True), 1)):
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            y = activation(torch.randn(9, requires_grad=True) * 1)
        assert len({*saved, y.data_ptr()}) == tensors


def test_every_relu6_of_a_net_becomes_lean() -> None:
    net = nn.Sequential(nn.ReLU6(inplace=True), nn.Sequential(nn.ReLU6(), nn.ReLU()))
    use_lean_activations(net)
    assert [type(module) for module in net.modules()][1:] == [LeanReLU6, nn.Sequential, LeanReLU6, nn.ReLU]


@pytest.mark.parametrize("name", all_but_large(NETS))
def test_a_fused_net_gives_the_same_results(name: str) -> None:
    net = build_net(name, 3, 300 if name in ("vgg16-ssd", "resnet34-ssd", "resnet50-ssd") else 96, seed=2).train()
    images = torch.randint(0, 256, (2, 3, net.image_size, net.image_size), dtype=torch.uint8)
    with torch.no_grad():
        net(images)  # so that running statistics are not 0 and 1
        for name, parameter in net.named_parameters():
            if name.endswith("scales"):
                parameter += torch.linspace(0.1, 0.7, len(parameter))  # so that levels differ
        fused = fuse_batch_norms(net)
        assert net.training
        for ours, theirs in zip(net.eval()(images), fused(images), strict=True):
            torch.testing.assert_close(theirs, ours, atol=1e-4 * ours.abs().max().item(), rtol=0)


def test_only_batch_norms_without_a_convolution_before_them_remain() -> None:
    left = {name: [key for key, module in fuse_batch_norms(build_net(name, 2, 300)).named_modules()
                   if isinstance(module, nn.BatchNorm2d)]
            for name in ("mb2-ssd-lite", "mb3-small-ssd-lite", "mb2-fpn", "vgg16-ssd")}
    assert left == {"mb2-ssd-lite": [], "mb3-small-ssd-lite": [], "mb2-fpn": [], "vgg16-ssd": ["backbone.norm"]}


MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 255.0)


@pytest.mark.parametrize("name", ["mb2-ssd-lite", "sq-ssd-lite"], ids=["batch norm", "bias"])
def test_the_first_convolution_gives_the_same_for_another_normalisation(name: str) -> None:
    net = build_net(name, 2, 64, seed=1).eval()
    first = net.backbone.features[0] if name == "mb2-ssd-lite" else net.backbone.features[:2]
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        expected = first((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        net.load_state_dict(rescale_input(net.state_dict(), net, MEAN, STD))
        result = first((pixels - net.mean) / net.std)
    torch.testing.assert_close(result[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1


def test_the_same_normalisation_changes_nothing() -> None:
    net = build_net("mb2-ssd-lite", 2, 64, 0.1)
    mean, std = net.mean.flatten().tolist(), net.std.flatten().tolist()
    same = rescale_input(net.state_dict(), net, mean, std)
    assert all(torch.equal(value, same[key]) for key, value in net.state_dict().items())


def test_only_the_first_layer_is_changed() -> None:
    net = build_net("mb2-ssd-lite", 2, 64, 0.1)
    changed = rescale_input(net.state_dict(), net, MEAN, STD)
    different = [key for key, value in net.state_dict().items() if not torch.equal(value, changed[key])]
    assert different == ["backbone.features.0.0.weight", "backbone.features.0.1.running_mean"]
