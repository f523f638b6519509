"""Weights under upstream's names find their places by order and shape."""

import pytest
import torch
from torch import Tensor

from ssd_lib.errors import InputError
from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.upstream import from_upstream
from ssd_lib.nets.zoo import build_net

OURS = {"backbone": "base_net", "extras": "extras", "class_heads": "classification_headers", "box_heads": "regression_headers"}


def upstream_names(net: SSD) -> dict[str, Tensor]:
    """Its weights, each part under upstream's name."""
    split = {key: key.partition(".") for key in net.state_dict()}
    return {f"{OURS[split[key][0]]}.{split[key][2]}": value for key, value in net.state_dict().items()}


def test_weights_are_renamed() -> None:
    net = build_net("mb2-ssd-lite", 2, 64, 0.1)
    theirs = {f"extras.{i}": torch.rand_like(value.float()).to(value.dtype)
              for i, value in enumerate(net.state_dict().values())}
    net.load_state_dict(from_upstream(theirs, net, "x.pth"))
    assert all(torch.equal(ours, value) for ours, value in zip(net.state_dict().values(), theirs.values(), strict=True))


def test_weights_for_other_classes_name_the_place() -> None:
    theirs = upstream_names(build_net("mb2-ssd-lite", 3, 64, 0.1))
    with pytest.raises(InputError, match=r"'classification_headers\.0.* and 'class_heads\.0.* needs .*Check model\.net"):
        from_upstream(theirs, build_net("mb2-ssd-lite", 2, 64, 0.1), "x.pth")


def test_weights_of_another_project_are_named() -> None:
    with pytest.raises(InputError, match=r"x\.pth: 'model\.layer1' is no name of"):
        from_upstream({"model.layer1": torch.zeros(1)}, build_net("mb2-ssd-lite", 2, 64, 0.1), "x.pth")


def test_weights_of_another_net_are_counted() -> None:
    theirs = dict(list(upstream_names(build_net("mb2-ssd-lite", 2, 64, 0.1)).items())[:-3])
    with pytest.raises(InputError, match=r"475 tensors, and the net has 478"):
        from_upstream(theirs, build_net("mb2-ssd-lite", 2, 64, 0.1), "x.pth")
