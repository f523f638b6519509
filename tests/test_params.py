"""params.yaml: which values are valid, and what a stage gets of them."""

from pathlib import Path
from typing import Any

import pytest
from support.architecture import PIPELINE
from support.project import ROOT, write_params

from ssd_lib.errors import InputError
from ssd_lib.params import Params, load_params

GROUPS = ("data", "fix", "model", "train", "postprocess", "eval", "export")


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.name)
def test_the_shipped_files_are_valid(path: Path) -> None:
    assert load_params(*GROUPS, path=path).runtime.device == "auto"


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.name)
def test_every_key_is_explained(path: Path) -> None:
    for line in path.read_text().splitlines():
        if line.startswith("  ") and ":" in line and not line.lstrip().startswith("#"):
            assert "# " in line or len(line) > 40, f"{line} has no comment"


def test_a_stage_gets_only_the_groups_it_asks_for() -> None:
    params = load_params("data", path=ROOT / "params.yaml")
    assert params.data.source == "demo"
    assert params.runtime.device == "auto"
    with pytest.raises(AttributeError):
        _ = params.train


@pytest.mark.parametrize("text", ["train: [", "\t- x", "just words"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"params\.yaml"):
        load_params(path=tmp_path / "params.yaml")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="git checkout"):
        load_params(path=tmp_path / "params.yaml")


def test_numbers_in_exponential_notation_are_numbers(tmp_path: Path) -> None:
    """PyYAML reads 1e-3 as a string."""
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text().replace("weight_decay: 4e-5", "weight_decay: 1e-3"))
    assert load_params("train", path=path).train.weight_decay == pytest.approx(1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_rate_that_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match=r"train\.lr"):
        load_params(path=write_params(tmp_path / "params.yaml", train__lr=value))


@pytest.mark.parametrize("value", ["Auto", [5], [3000, 1000], [0, 65536], [0.5, 9], 8])
def test_a_range_of_16_bit_images_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"model\.sixteen_bit_range: .* is not full or auto, and no \[low, high\]"):
        load_params(path=write_params(tmp_path / "params.yaml", model__sixteen_bit_range=value))
    pair = write_params(tmp_path / "params.yaml", model__sixteen_bit_range=[5, 9])
    assert load_params("model", path=pair).model.sixteen_bit_range == (5, 9)


def test_a_local_dataset_needs_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="paths is empty; source: local needs folders or zip files"):
        load_params(path=write_params(tmp_path / "params.yaml", data__source="local"))


def test_params_are_frozen() -> None:
    params = load_params("train", path=ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.train.lr = 1.0  # type: ignore[misc]


def test_params_has_every_group() -> None:
    assert (*GROUPS, "runtime") == tuple(Params.model_fields)


def test_a_changed_group_runs_again_the_stages_that_use_its_values() -> None:
    """The model that train writes passes `postprocess` on to evaluate and export; `eval` does not change training."""
    stages = {group: [name for name, stage in PIPELINE.items() if group in stage["params"]] for group in (*GROUPS, "runtime")}
    assert stages == {"data": ["download", "validate", "train"], "fix": ["fix_annotations", "train"], "model": ["train"],
                      "train": ["train"], "postprocess": ["train"], "eval": ["evaluate"], "export": ["export"], "runtime": []}
