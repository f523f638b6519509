"""The learning rate is a function of the step; norms and biases are not decayed."""

import pytest
import yaml
from project import ROOT
from torch import nn

from ssd_lib.params import TrainParams
from ssd_lib.train.optim import learning_rate, make_optimizer, set_learning_rate


def _params(**changes: object) -> TrainParams:
    return TrainParams(**{**yaml.safe_load((ROOT / "params.yaml").read_text())["train"], "lr": 0.1, **changes})


def test_warmup_rises_in_a_line_and_is_over_after_its_steps() -> None:
    rates = [learning_rate(step, 1000, 4, _params(schedule="constant")) for step in range(6)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1])


def test_cosine_ends_near_zero_and_halves_half_way() -> None:
    params = _params(schedule="cosine")
    assert learning_rate(500, 1000, 0, params) == pytest.approx(0.05)
    assert 0 < learning_rate(999, 1000, 0, params) < 1e-5


def test_multistep_drops_by_gamma_at_each_milestone() -> None:
    params = _params(schedule="multistep", milestones=[0.5, 0.75], gamma=0.2)
    rates = [learning_rate(step, 100, 0, params) for step in (0, 49, 50, 74, 75, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004])


def test_the_first_step_has_a_rate() -> None:
    """The predecessors step their scheduler before the first epoch and skip the first rate."""
    assert learning_rate(0, 10, 0, _params(schedule="constant")) == 0.1


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_norms_and_biases_are_not_decayed(optimizer: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = make_optimizer(net, _params(optimizer=optimizer, weight_decay=0.5)).param_groups
    assert [(group["weight_decay"], sorted(p.ndim for p in group["params"])) for group in groups] == [
        (0.5, [4]), (0.0, [1, 1, 1])]


def test_every_group_gets_the_rate() -> None:
    optimizer = make_optimizer(nn.Conv2d(3, 4, 3), _params())
    set_learning_rate(optimizer, 0.7)
    assert [group["lr"] for group in optimizer.param_groups] == [0.7, 0.7]
