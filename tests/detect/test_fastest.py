"""Which file of a folder is used. Only its hash is needed of an ssd.pt that is not chosen, so any bytes stand for one."""

import logging
from pathlib import Path

import numpy as np
import pytest
from support.onnx_files import ABOUT, constant_file

from ssd_lib import Detector
from ssd_lib.detect import fastest
from ssd_lib.detect.fastest import choose
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import sha256

INT8, BATCH, ONNX, MODEL = "int8/ssd.onnx", "dynamic_batch/ssd.onnx", "ssd.onnx", "ssd.pt"


def made(folder: Path, sources: dict[str, str]) -> Path:
    """Fill a folder with ONNX files; `sources` says for each whether it is made from the ssd.pt there ("") or another one."""
    if MODEL in sources:
        (folder / MODEL).write_bytes(b"a model")
    own = sha256(folder / MODEL) if MODEL in sources else "gone"
    for name, source in sources.items():
        if name != MODEL:
            precision = "int8" if name == INT8 else "fp32"
            constant_file(folder / name, ABOUT | {"model_sha256": source or own, "precision": precision})
    return folder


@pytest.mark.parametrize(("sources", "chosen", "left_out"), [
    ({MODEL: "", ONNX: "", INT8: ""}, INT8, []),
    ({MODEL: "", ONNX: ""}, ONNX, []),
    ({MODEL: "", ONNX: "", BATCH: "", INT8: ""}, INT8, []),
    ({MODEL: "", ONNX: "", BATCH: ""}, BATCH, []),
    ({MODEL: "", ONNX: "", BATCH: "another"}, ONNX, [BATCH]),
    ({MODEL: "", ONNX: "", INT8: "another"}, ONNX, [INT8]),
    ({MODEL: "", ONNX: "another", INT8: "another"}, MODEL, [INT8, ONNX]),
    ({MODEL: ""}, MODEL, []),
    ({ONNX: "", INT8: ""}, INT8, []),
    ({ONNX: "", INT8: "another"}, ONNX, [INT8]),
    ({INT8: ""}, INT8, []),
])
def test_a_cpu_takes_the_fastest_file_that_was_made_from_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture,
                                                                   sources: dict[str, str], chosen: str,
                                                                   left_out: list[str]) -> None:
    caplog.set_level(logging.INFO)
    path, net = choose(made(tmp_path, sources), "cpu")
    assert path == tmp_path / chosen
    assert (net is None) == (chosen == MODEL)
    *others, last = caplog.messages
    assert last.startswith(f"model: {path}, ")
    assert [message.split(" is left out")[0] for message in others] == [f"model: {tmp_path / name}" for name in left_out]


def test_a_gpu_takes_the_model_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "uses_gpu", lambda device: device != "cpu")
    assert choose(made(tmp_path, {MODEL: "", ONNX: "", INT8: ""}), "auto") == (tmp_path / MODEL, None)
    (tmp_path / MODEL).unlink()
    assert choose(tmp_path, "auto")[0] == tmp_path / INT8


def test_a_detector_of_a_folder_says_its_file_and_works(tmp_path: Path) -> None:
    detector = Detector(made(tmp_path, {MODEL: "", INT8: ""}), "cpu")
    assert detector.path == tmp_path / INT8
    assert detector(np.zeros((10, 20, 3), np.uint8)).names == ("kite", "dog")


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"no model is in this folder; it needs ssd.pt or ssd.onnx"):
        choose(tmp_path, "cpu")


@pytest.mark.parametrize("name", [INT8, ONNX])
def test_a_damaged_file_is_an_error_and_not_left_out(tmp_path: Path, name: str) -> None:
    damaged = made(tmp_path, {MODEL: "", ONNX: "", INT8: ""}) / name
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{name}: not an exported detector of this project"):
        choose(tmp_path, "cpu")
