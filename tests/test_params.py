"""params.yaml: valid values, and messages for faults."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.architecture import PIPELINE
from support.project import ROOT

from ssd_lib import params as params_module
from ssd_lib.errors import InputError
from ssd_lib.params import Params, batch_warning, check_before_download, load_params

GROUPS = ("data", "fix", "model", "train", "postprocess", "eval", "export")


def _write(path: Path, **changes: Any) -> Path:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for dotted, value in changes.items():
        group, key = dotted.split("__")
        tree[group][key] = value
    path.write_text(yaml.safe_dump(tree))
    return path


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


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = _write(tmp_path / "params.yaml", train__lr="abc", train__epochs=0, model__image_size=9, runtime__workers=-1)
    with pytest.raises(InputError) as caught:
        load_params(path=path)
    text = str(caught.value)
    assert "4 faults" in text
    assert "train.lr: input should be 'auto' or a valid number, found 'abc'" in text
    for place in ("train.lr", "train.epochs", "model.image_size", "runtime.workers"):
        assert place in text
    assert "'abc'" in text


def test_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown key 'train\.bach_size'; did you mean 'batch_size'\?"):
        load_params(path=_write(tmp_path / "params.yaml", train__bach_size=8))


def test_a_missing_key_is_reported_with_where_to_find_it(tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    del tree["train"]["lr"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=r"missing key 'train\.lr'"):
        load_params(path=tmp_path / "params.yaml")


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
        load_params(path=_write(tmp_path / "params.yaml", train__lr=value))


@pytest.mark.parametrize("value", ["Auto", [5], [3000, 1000], [0, 65536], [0.5, 9], 8])
def test_a_range_of_16_bit_images_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InputError, match=r"model\.sixteen_bit_range: .* is not full or auto, and no \[low, high\]"):
        load_params(path=_write(tmp_path / "params.yaml", model__sixteen_bit_range=value))
    pair = _write(tmp_path / "params.yaml", model__sixteen_bit_range=[5, 9])
    assert load_params("model", path=pair).model.sixteen_bit_range == (5, 9)


def test_a_local_dataset_needs_a_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="paths is empty; source: local needs folders or zip files"):
        load_params(path=_write(tmp_path / "params.yaml", data__source="local"))


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


@pytest.mark.parametrize(("key", "value", "fault"), [
    ("model__backbone_weights", "lost.pth", "model.backbone_weights is 'lost.pth', which is not a file"),
    ("model__weights", "lost.pt", "model.weights is 'lost.pt'"),
    ("train__resume", "lost.pt", "train.resume is 'lost.pt'"),
    ("train__augmentation", "ligth", "train.augmentation is 'ligth', which is not a file; it must be ssd, ssdlite, light"),
    ("runtime__device", "cuda:1", "runtime.device is 'cuda:1' and this machine has no CUDA driver")])
def test_what_a_later_stage_needs_is_checked_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str,
                                                              value: Any, fault: str) -> None:
    monkeypatch.setattr(params_module, "has_cuda_driver", lambda: False)
    path = _write(tmp_path / "params.yaml", **{key: value})
    load_params(*GROUPS, path=path)  # no fault of the values
    with pytest.raises(InputError, match="nothing was downloaded") as caught:
        check_before_download(path)
    assert fault in str(caught.value)


def test_imagenet_weights_are_checked_before_a_download_if_the_run_begins_from_them(tmp_path: Path) -> None:
    path = _write(tmp_path / "params.yaml", model__net="mb2-ssd-lite", model__backbone_weights="imagenet")
    with pytest.raises(InputError, match=r"nothing was downloaded.\n  mb2-ssd-lite is lost"):
        check_before_download(path, imagenet_fault="{} is lost".format)
    for changes in ({"model__backbone_weights": "auto"}, {"model__backbone_weights": "imagenet", "model__weights": str(path)}):
        check_before_download(_write(tmp_path / "other.yaml", **changes), imagenet_fault="{} is lost".format)


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.name)
def test_the_shipped_files_pass_the_check_before_a_download(path: Path) -> None:
    check_before_download(path)


def test_fewer_images_than_a_batch_are_said(tmp_path: Path) -> None:
    path = _write(tmp_path / "params.yaml", train__batch_size=1000)
    assert "train.batch_size is 1000, and there are 96 training images" in batch_warning(96, path)
    assert batch_warning(1000, path) == ""


@pytest.mark.parametrize(("key", "word"), [
    (key, word) for key, words in params_module.WORDS_FOR_FILES.items() for word in words])
def test_words_that_stand_for_no_file_pass_the_check_before_a_download(tmp_path: Path, key: str, word: str) -> None:
    check_before_download(_write(tmp_path / "params.yaml", **{key.replace(".", "__"): word}))


def test_weights_may_be_taken_where_they_can_be_had() -> None:
    assert "auto" in params_module.WORDS_FOR_FILES["model.backbone_weights"]
