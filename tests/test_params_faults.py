"""Faults of params.yaml: all of them, in sentences with the place, the value and what is allowed."""

from pathlib import Path

import pytest
import yaml
from support.project import ROOT, write_params

from ssd_lib.errors import InputError
from ssd_lib.params import load_params


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    path = write_params(tmp_path / "params.yaml", train__lr="abc", train__epochs=0, model__image_size=9, runtime__workers=-1)
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
        load_params(path=write_params(tmp_path / "params.yaml", train__bach_size=8))


def test_a_missing_key_is_reported_with_where_to_find_it(tmp_path: Path) -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    del tree["train"]["lr"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=r"missing key 'train\.lr'"):
        load_params(path=tmp_path / "params.yaml")


def test_text_in_place_of_a_list_is_answered_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 fault; .*\n  data\.classes: .* valid list, found 'dog'; write \[dog\]$"):
        load_params(path=write_params(tmp_path / "params.yaml", data__classes="dog"))
