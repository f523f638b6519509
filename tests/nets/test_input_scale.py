"""A first convolution that is rescaled computes from other pixels what it did from its own."""

import pytest
import torch

from ssd_lib.nets.input_scale import rescale_input
from ssd_lib.nets.zoo import build_net

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 255.0)


@pytest.mark.parametrize("name", ["mb2-ssd-lite", "sq-ssd-lite"], ids=["batch norm", "bias"])
def test_the_first_convolution_sees_what_it_was_trained_on(name: str) -> None:
    net = build_net(name, 2, 64, seed=1).eval()
    first = net.backbone.features[0] if name == "mb2-ssd-lite" else net.backbone.features[:2]
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        wanted = first((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
        net.load_state_dict(rescale_input(net.state_dict(), net, MEAN, STD))
        got = first((pixels - net.mean) / net.std)
    torch.testing.assert_close(got[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], atol=1e-4, rtol=1e-4)
    assert wanted.std() > 0.1


def test_the_same_pixels_change_nothing() -> None:
    net = build_net("mb2-ssd-lite", 2, 64, 0.1)
    mean, std = net.mean.flatten().tolist(), net.std.flatten().tolist()
    same = rescale_input(net.state_dict(), net, mean, std)
    assert all(torch.equal(value, same[key]) for key, value in net.state_dict().items())


def test_all_but_the_first_layer_stays() -> None:
    net = build_net("mb2-ssd-lite", 2, 64, 0.1)
    changed = rescale_input(net.state_dict(), net, MEAN, STD)
    different = [key for key, value in net.state_dict().items() if not torch.equal(value, changed[key])]
    assert different == ["backbone.features.0.0.weight", "backbone.features.0.1.running_mean"]
