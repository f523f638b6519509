"""Conversion of state dicts to upstream's names and back."""

from pathlib import Path

import pytest
import torch
from support.golden import UPSTREAM_NETS, golden_weights, read_golden
from support.nets import all_but_large
from torch import Tensor

from ssd_lib.errors import InputError
from ssd_lib.nets.upstream import from_upstream, to_upstream
from ssd_lib.nets.zoo import build_net


@pytest.fixture(scope="module")
def own() -> dict[str, Tensor]:
    return build_net("mb2-ssd-lite", 2, 64, 0.1).state_dict()


@pytest.mark.parametrize("name", all_but_large(UPSTREAM_NETS))
def test_a_round_trip_keeps_names_and_weights(name: str, shared_data: Path) -> None:
    theirs = golden_weights(read_golden(shared_data, name))
    ours = from_upstream(theirs, build_net(name, 20, 300).state_dict(), "golden")
    back = to_upstream(ours)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[key], theirs[key]) for key in theirs)


def test_num_batches_tracked_may_be_missing(own: dict[str, Tensor]) -> None:
    theirs = {key: value for key, value in to_upstream(own).items() if "num_batches" not in key}
    assert from_upstream(theirs, own, "old.pth").keys() == own.keys()


def test_class_heads_may_have_another_number_of_classes(own: dict[str, Tensor]) -> None:
    theirs = to_upstream(build_net("mb2-ssd-lite", 7, 64, 0.1).state_dict())
    assert len(from_upstream(theirs, own, "x.pth")["class_heads.5.weight"]) == 6 * 8


def test_an_unknown_name_is_reported(own: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=r"x\.pth: its weights are not this net's: the net has no 'model\.layer1'"):
        from_upstream({"model.layer1": torch.zeros(1)}, own, "x.pth")


def test_a_missing_weight_is_reported(own: dict[str, Tensor]) -> None:
    theirs = to_upstream(own)
    del theirs["extras.1.conv.3.weight"]
    with pytest.raises(InputError, match=r"'extras\.1\.conv\.3\.weight' is missing. Check the net"):
        from_upstream(theirs, own, "x.pth")


def test_another_shape_is_reported(own: dict[str, Tensor]) -> None:
    theirs = to_upstream(build_net("mb2-ssd-lite", 2, 64, 0.5).state_dict())
    with pytest.raises(InputError, match=r"'base_net\.0\.0\.weight' has the shape \(16, 3, 3, 3\); in this net it is \(8, 3, "
                                         r"3, 3\)"):
        from_upstream(theirs, own, "x.pth")
