"""The learning rate is a function of the step; what is decayed, and by which rate each part is trained."""

import pytest
import yaml
from support.project import ROOT

from ssd_lib.nets.ssd import SSD
from ssd_lib.nets.zoo import NETS, build_net
from ssd_lib.params import TrainParams
from ssd_lib.train.optimizer import learning_rate, make_optimizer, set_learning_rate, with_rate


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


@pytest.mark.parametrize(("optimizer", "batches", "growth"), [("sgd", (8, 32), 4), ("adam", (8, 32), 2), ("adam", (8, 2), 0.5)])
def test_an_automatic_rate_grows_with_the_batch(optimizer: str, batches: tuple[int, int], growth: float) -> None:
    first, second = (with_rate(_params(lr="auto", optimizer=optimizer, batch_size=batch), "lite0-fpn") for batch in batches)
    assert second.peak_rate / first.peak_rate == pytest.approx(growth, rel=0.05)


def test_an_automatic_rate_is_the_net_s_and_one_that_is_given_stays() -> None:
    of_nets = [with_rate(_params(lr="auto", batch_size=8, optimizer="sgd"), net).lr for net in ("vgg16-ssd", "mb2-ssd-lite")]
    assert of_nets == [NETS[net].rates[0] for net in ("vgg16-ssd", "mb2-ssd-lite")]
    assert with_rate(_params(lr=0.1), "vgg16-ssd").lr == 0.1


@pytest.fixture(scope="module")
def net() -> SSD:
    return build_net("mb2-ssd-lite", 2, 64, 0.1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("decay_norms", "of_norms"), [(False, 0.0), (True, 0.5)])
def test_norms_and_biases_are_decayed_on_request_alone(net: SSD, optimizer: str, decay_norms: bool, of_norms: float) -> None:
    groups = make_optimizer(net, _params(optimizer=optimizer, weight_decay=0.5, decay_norms=decay_norms)).param_groups
    assert [(group["weight_decay"], {p.ndim for p in group["params"]}) for group in groups] == [
        (0.5, {4}), (of_norms, {1})] * 3


def test_every_parameter_is_in_one_group(net: SSD) -> None:
    listed = [id(p) for group in make_optimizer(net, _params()).param_groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in net.parameters())


def test_every_group_gets_the_rate(net: SSD) -> None:
    optimizer = make_optimizer(net, _params())
    set_learning_rate(optimizer, 0.7)
    assert [group["lr"] for group in optimizer.param_groups] == [0.7] * 6


def test_backbone_and_extra_maps_have_their_own_share_of_the_rate(net: SSD) -> None:
    optimizer = make_optimizer(net, _params(lr=0.1, backbone_lr=0.001, extras_lr=0.05))
    set_learning_rate(optimizer, 0.08)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0008] * 2 + [0.04] * 2 + [0.08] * 2)
    assert any(p is next(net.backbone.parameters()) for p in optimizer.param_groups[0]["params"])
    assert any(p is next(net.extras.parameters()) for p in optimizer.param_groups[2]["params"])
