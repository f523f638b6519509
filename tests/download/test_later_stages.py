"""What later stages need, checked before a download."""

from pathlib import Path
from typing import Any

import pytest
from support.project import ROOT, write_params

from ssd_lib.download import later_stages
from ssd_lib.download.later_stages import batch_warning, check_before_download
from ssd_lib.errors import InputError
from ssd_lib.export.packages import formats_fault
from ssd_lib.params import WORDS_FOR_FILES, Params, load_params


def check(path: Path) -> None:
    check_before_download("{} is lost".format, formats_fault, path)


@pytest.mark.parametrize(("key", "value", "fault"), [
    ("model__backbone_weights", "lost.pth", "model.backbone_weights is 'lost.pth', which is not a file"),
    ("model__weights", "lost.pt", "model.weights is 'lost.pt'"),
    ("train__resume", "lost.pt", "train.resume is 'lost.pt'"),
    ("train__augmentation", "ligth", "train.augmentation is 'ligth', which is not a file; it must be ssd, ssdlite, light"),
    ("runtime__device", "cuda:1", "runtime.device is 'cuda:1' and this machine has no CUDA driver")])
def test_what_a_later_stage_needs_is_checked_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str,
                                                              value: Any, fault: str) -> None:
    monkeypatch.setattr(later_stages, "has_cuda_driver", lambda: False)
    path = write_params(tmp_path / "params.yaml", **{key: value})
    load_params(*Params.model_fields, path=path)  # no fault of the values
    with pytest.raises(InputError, match="nothing was downloaded") as caught:
        check(path)
    assert fault in str(caught.value)


def test_imagenet_weights_are_checked_before_a_download_if_the_run_begins_from_them(tmp_path: Path) -> None:
    path = write_params(tmp_path / "params.yaml", model__net="mb2-ssd-lite", model__backbone_weights="imagenet")
    with pytest.raises(InputError, match=r"nothing was downloaded.\n  mb2-ssd-lite is lost"):
        check(path)
    for changes in ({"model__backbone_weights": "auto"}, {"model__backbone_weights": "imagenet", "model__weights": str(path)}):
        check(write_params(tmp_path / "other.yaml", **changes))


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *sorted((ROOT / "recipes").glob("*.yaml"))], ids=lambda p: p.name)
def test_the_shipped_files_pass_the_check_before_a_download(path: Path) -> None:
    check(path)


@pytest.mark.parametrize(("key", "word"), [
    (key, word) for key, words in WORDS_FOR_FILES.items() for word in words if word != "imagenet"])
def test_words_that_stand_for_no_file_pass_the_check_before_a_download(tmp_path: Path, key: str, word: str) -> None:
    check(write_params(tmp_path / "params.yaml", **{key.replace(".", "__"): word}))


def test_fewer_images_than_a_batch_are_said(tmp_path: Path) -> None:
    path = write_params(tmp_path / "params.yaml", train__batch_size=1000)
    assert "train.batch_size is 1000, and there are 96 training images" in batch_warning(96, path)
    assert batch_warning(1000, path) == ""
