"""The speed of training, measured."""

import pytest
import yaml
from support.project import ROOT

from ssd_lib.init import speed
from ssd_lib.params import check_params


@pytest.mark.parametrize(("net", "width"), [("mb2-ssd-lite", 0.1), ("mb2-fpn", 0.1)])
def test_the_speed_of_steps_is_measured_but_not_above_what_is_loaded(monkeypatch: pytest.MonkeyPatch, net: str,
                                                                   width: float) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["model"] |= {"net": net, "width_mult": width, "image_size": 64}
    tree["train"] |= {"batch_size": 2}
    tree["runtime"] |= {"device": "cpu", "workers": 1, "threads": 1}
    params = check_params(yaml.safe_dump(tree).encode(), ROOT)
    monkeypatch.setattr(speed, "MEASURED_S", 0.1)
    monkeypatch.setattr(speed, "LOADED_PER_S", 1e9)
    images_per_s, how = speed.training_speed(params, 3)
    assert 0 < images_per_s < 1e6
    assert "steps on the cpu" in how
    monkeypatch.setattr(speed, "LOADED_PER_S", 1e-3)
    assert speed.training_speed(params, 3)[0] == 1e-3
