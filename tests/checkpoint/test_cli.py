"""`ssd checkpoint show PATH` describes a checkpoint."""

from pathlib import Path

import pytest
import torch
import yaml
from checkpoint.conftest import Make, Places

from ssd_lib.cli import main


def _show(*paths: Path) -> int:
    return main(["checkpoint", "show", *map(str, paths)])


def test_all_that_a_checkpoint_is(places: Places, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    places.save(make())
    assert _show(places.folder / "last.pt") == 0
    about = yaml.safe_load(capsys.readouterr().out)
    assert about["net"] == {"net": "mb2-ssd-lite", "image_size": 64, "width_mult": 0.1}
    assert about["classes"] == ["red", "blue"]
    assert about["position"] == {"complete_epochs": 1, "of": 5, "step": 2}
    assert about["metrics"]["AP"] == 0.25
    assert about["params"]["train"]["lr"] == 0.01
    assert about["fingerprint"] == "0123456789abcdef"
    assert about["versions"] == {"torch": "2"}


def test_a_folder_is_shown_a_document_a_file_unreadable_ones_included(
        places: Places, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    places.save(make(step=1))
    places.save(make(step=2))
    (places.folder / "torn.pt").write_bytes(b"PK")
    assert _show(places.folder) == 0
    last, previous, torn = yaml.safe_load_all(capsys.readouterr().out)
    assert [last["position"]["step"], previous["position"]["step"]] == [2, 1]
    assert "it is truncated" in torn["unreadable"]


def test_the_predecessor_s_files_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"epoch": 9, "weights": {"module.a": torch.zeros(2, 3)}, "optimizer": {}}, tmp_path / "x.pth")
    assert _show(tmp_path / "x.pth") == 0
    about = yaml.safe_load(capsys.readouterr().out)
    assert (about["complete_epochs"], about["tensors"], about["values"]) == (10, 1, 6)


def test_what_cannot_be_shown_is_one_line_and_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _show(tmp_path, tmp_path / "none.pt") == 1
    said = capsys.readouterr().err.splitlines()
    assert "no checkpoint (*.pt) is in this folder" in said[0]
    assert said[1] == f"ERROR {tmp_path / 'none.pt'}: not a combo checkpoint of this project: missing."
