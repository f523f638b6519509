"""The lean ReLU6 is ReLU6."""

import pytest
import torch
from torch import nn

from ssd_lib.nets.activation import LeanReLU6, use_lean_activations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_relu6(dtype: torch.dtype) -> None:
    """At and around the bends, too."""
    x = torch.cat([torch.linspace(-3, 9, 97), torch.tensor([0.0, -0.0, 6.0, torch.nan, torch.inf, -torch.inf])]).to(dtype)
    weight = torch.linspace(1, 2, len(x), dtype=dtype)
    results = []
    for activation in (nn.ReLU6(), LeanReLU6(inplace=True)):
        leaf = x.clone().requires_grad_()
        y = activation(leaf * 1)
        (y * weight).sum().backward()
        results.append((y.detach(), leaf.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0, equal_nan=True)


def test_training_keeps_one_tensor_a_layer() -> None:
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.data_ptr())
        return tensor
    for activation, tensors in ((nn.ReLU6(inplace=True), 2), (LeanReLU6(inplace=True), 1)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            y = activation(torch.randn(9, requires_grad=True) * 1)
        assert len({*kept, y.data_ptr()}) == tensors


def test_every_relu6_of_a_net_becomes_lean() -> None:
    net = nn.Sequential(nn.ReLU6(inplace=True), nn.Sequential(nn.ReLU6(), nn.ReLU()))
    use_lean_activations(net)
    assert [type(module) for module in net.modules()][1:] == [LeanReLU6, nn.Sequential, LeanReLU6, nn.ReLU]
