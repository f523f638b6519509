"""Names of runs: what makes another run of it, and which keys differ."""

import pytest
from checkpoint.conftest import run_params

from ssd_lib.checkpoint.fingerprint import differences, make_fingerprint
from ssd_lib.errors import InputError

DIGEST = "d" * 64


@pytest.mark.parametrize(("key", "allowed"), [("weights", "none, or"), ("backbone_weights", "none, auto, imagenet, or")])
def test_weights_that_do_not_exist_are_an_error_that_names_the_key(key: str, allowed: str) -> None:
    with pytest.raises(InputError, match=rf"params.yaml: model\.{key} is 'gone\.pth', which cannot be read .* {allowed}"):
        make_fingerprint(run_params(model={key: "gone.pth"}), DIGEST)


def test_fingerprints_of_earlier_versions_stay_valid() -> None:
    params = {"data": {"balance": "none", "cache": "none"}, "fix": {}, "train": {"lr": 0.01, "resume": "auto"},
              "model": {"image_size": 64, "weights": "none", "backbone_weights": "none"}}
    assert make_fingerprint(params, "0" * 64) == "cc35d921a11c1da3"
    new_key = {**params, "train": {**params["train"], "sync_batch_norm": False}}
    used_key = {**params, "train": {**params["train"], "sync_batch_norm": True}}
    assert make_fingerprint(new_key, "0" * 64) == make_fingerprint(params, "0" * 64) != make_fingerprint(used_key, "0" * 64)
    assert differences(params, new_key) == []
    full, auto = ({**params, "model": {**params["model"], "sixteen_bit_range": word}} for word in ("full", "auto"))
    assert make_fingerprint(full, "0" * 64) == make_fingerprint(params, "0" * 64) != make_fingerprint(auto, "0" * 64)
    assert differences(params, full) == []
    assert differences(params, auto) == ["model.sixteen_bit_range: full -> auto"]
    assert differences(params, used_key) == ["train.sync_batch_norm: False -> True"]


def test_differences_leave_out_what_does_not_shape_the_result() -> None:
    before, now = run_params(lr=1, epochs=2, resume="auto"), run_params(lr=2, epochs=3, resume="never")
    assert differences(before, now) == ["train.lr: 1 -> 2"]
