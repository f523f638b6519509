"""A model file is data: every wrong value of every field is refused in one line, by name, before anything is built from it."""

import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from support.wrong_values import MISSING, assert_refused, with_value, wrong_trees

from ssd_lib import Detector
from ssd_lib.boxes.selection import PUBLISHED
from ssd_lib.checkpoint.weights import read_weights
from ssd_lib.nets.model_file import NetSpec, load_model

SPEC = NetSpec("mb2-ssd-lite", 64, 0.1, ("cat", "dog", "cup"), (17, 18, 19))
FIELDS: dict[str, Callable[[Any], bool]] = {  # field -> is this value allowed there?
    "format": lambda value: False,
    "spec": lambda value: False,
    "spec/net": lambda value: False,
    "spec/image_size": lambda value: False,
    "spec/width_mult": lambda value: False,
    "spec/class_names": lambda value: False,
    "spec/source_ids": lambda value: value == (1, 2, 3),
    "spec/prior_sizes": lambda value: value is MISSING or (isinstance(value, list) and not value),
    "weights": lambda value: False,
    "weights/extras.0.conv.2.weight": lambda value: False,
    "about": lambda value: value is MISSING or (isinstance(value, dict) and 1 not in value),
    "postprocess": lambda value: value is MISSING or (isinstance(value, dict) and 1 not in value),
    "postprocess/score_threshold": lambda value: value is MISSING or (type(value) is int and value == 0),
    "postprocess/nms_iou": lambda value: value is MISSING or (type(value) is int and value == 0),
    "postprocess/vote_iou": lambda value: value is MISSING or (type(value) is int and value == 0),
    "postprocess/top_k_per_class": lambda value: value is MISSING or (type(value) is int and value == 10**9),
    "postprocess/max_detections": lambda value: value is MISSING or (type(value) is int and value == 10**9),
    "postprocess/class_thresholds": lambda value: value is MISSING or value in ([], [1]),
}


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """Return the content of a small ssd.pt."""
    return {"format": "ssd-model-1", "spec": asdict(SPEC), "weights": SPEC.build().state_dict(), "about": {"epochs": 1},
            "postprocess": PUBLISHED._asdict()}


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
def test_every_wrong_value_is_refused_in_one_line(content: dict[str, Any], tmp_path: Path, field: str) -> None:
    path = tmp_path / "ssd.pt"
    for label, tree in wrong_trees(content, field, FIELDS[field]):
        torch.save(tree, path)
        assert_refused(label, str(path), lambda: load_model(path))


def test_the_message_names_the_field_what_was_found_and_what_is_allowed(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "ssd.pt"
    for field, value, parts in (
        ("spec/image_size", 20000, ["spec: image_size: found 20000", "less than or equal to 1024"]),
        ("spec/image_size", "300", ["spec: image_size: found '300'", "valid integer"]),
        ("spec/class_names", [1, 2, 3], ["spec: class_names.0: found 1", "valid string"]),
        ("spec/class_names", ["a"] * 100_000, ["spec: class_names: found a list of 100000", "at most 20000"]),
        ("spec/prior_sizes", [float("nan")] * 7, ["spec: prior_sizes.0: found nan", "finite"]),
        ("spec/sixteen_bit_range", [3000, 1000], ["spec: sixteen_bit_range: found", "two whole numbers are needed"]),
        ("spec/prior_sizes", [0.1], ["prior_sizes: found 1 sizes", "needs none or 7"]),
        ("spec", None, ["spec: found None", "valid dict"]),
        ("postprocess/nms_iou", 2, ["postprocess: nms_iou: found 2", "less than or equal to 1"]),
    ):
        torch.save(with_value(content, field, value), path)
        for read in (load_model, Detector, read_weights):
            message = assert_refused(field, str(path), lambda read=read: read(path))  # type: ignore[misc]
            assert all(part in message for part in parts), message


def test_many_classes_without_their_weights_need_no_memory(content: dict[str, Any], tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(20_000)]
    torch.save(content | {"spec": asdict(SPEC) | {"net": "vgg16-ssd", "width_mult": 1.0, "image_size": 300,
                                                  "class_names": names,
                                                  "source_ids": list(range(20_000))}}, tmp_path / "ssd.pt")
    assert "do not fit" in assert_refused("20000 classes", str(tmp_path / "ssd.pt"), lambda: load_model(tmp_path / "ssd.pt"))


def _rewritten(source: Path, target: Path, compression: int, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    """Torch would give a tensor over memory that is not the file's."""
    torch.save({"x": torch.zeros(100)}, tmp_path / "x.pt")
    for claim in (101, 10**6, 10**9):
        def enlarge(name: str, content: bytes, claim: int = claim) -> bytes:
            if not name.endswith("data.pkl"):
                return content
            number = pickle.dumps(claim, 2)[2:-1]
            return content.replace(b"Kd", number)
        _rewritten(tmp_path / "x.pt", tmp_path / "large.pt", zipfile.ZIP_STORED, enlarge)
        message = assert_refused(str(claim), str(tmp_path / "large.pt"), lambda: read_weights(tmp_path / "large.pt"))
        assert "claims" in message


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(10_000_000)}, tmp_path / "x.pt")
    _rewritten(tmp_path / "x.pt", tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED, lambda _, content: content)
    message = assert_refused("bomb", str(tmp_path / "bomb.pt"), lambda: read_weights(tmp_path / "bomb.pt"))
    assert "is compressed" in message


def test_nothing_is_executed_while_claims_are_read(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))
    torch.save({"x": Malice()}, tmp_path / "x.pt")
    assert_refused("malice", str(tmp_path / "x.pt"), lambda: read_weights(tmp_path / "x.pt"))
    assert not (tmp_path / "executed").exists()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ssd.pt")
    assert "it is a pipe" in assert_refused("pipe", str(tmp_path / "ssd.pt"), lambda: load_model(tmp_path / "ssd.pt"))


def test_parameters_that_refer_to_themselves_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    laughs: list[Any] = ["ha"]
    for _ in range(18):
        laughs = [laughs] * 10
    for value in (loop, laughs):
        torch.save(content | {"about": {"params": value}}, tmp_path / "ssd.pt")
        assert_refused("about", str(tmp_path / "ssd.pt"), lambda: load_model(tmp_path / "ssd.pt"))
