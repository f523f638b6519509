"""Weights under upstream's names find their places by order and shape."""

import pytest
import torch

from ssd_lib.errors import InputError
from ssd_lib.nets.upstream import from_upstream
from ssd_lib.nets.zoo import build_net


def test_weights_are_renamed() -> None:
    net = build_net("mb2-ssd-lite", 2, 64, 0.1)
    theirs = {f"base_net.{i}": torch.rand_like(value.float()).to(value.dtype)
              for i, value in enumerate(net.state_dict().values())}
    net.load_state_dict(from_upstream(theirs, net, "x.pth"))
    assert all(torch.equal(ours, value) for ours, value in zip(net.state_dict().values(), theirs.values(), strict=True))


def test_weights_for_other_classes_name_the_place() -> None:
    theirs = build_net("mb2-ssd-lite", 3, 64, 0.1).state_dict()
    with pytest.raises(InputError, match=r"x.pth: its weights do not fit this net: 'class_heads.* is .* needs .*Check"):
        from_upstream(theirs, build_net("mb2-ssd-lite", 2, 64, 0.1), "x.pth")


def test_weights_of_another_net_are_counted() -> None:
    theirs = dict(list(build_net("mb2-ssd-lite", 2, 64, 0.1).state_dict().items())[:-3])
    with pytest.raises(InputError, match=r"475 tensors, and the net has 478"):
        from_upstream(theirs, build_net("mb2-ssd-lite", 2, 64, 0.1), "x.pth")
