"""The gate of INT8 on images: how a graph is measured, and what make_int8 returns."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.int8_graph import made_graph
from support.project import write_fixed
from support.trained_project import TREE

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.evaluate.validation_ap import SplitImages, split_images
from ssd_lib.export import gate
from ssd_lib.export.gate import ap_of, inputs_of, make_int8
from ssd_lib.export.int8 import RUNTIME, TENSORRT, calibrate, prepare, quantise, with_short_names
from ssd_lib.manifest import FIXED_FOLDER

ABOUT = {"net": "made", "image_size": "8", "sixteen_bit_range": "[0, 65535]", "postprocess": "{}"}


def constant_graph(postprocess: Postprocess) -> bytes:
    """Return a graph that finds the two objects of the first image in every image."""
    values = {"scores": [[[0.05, 0.9, 0.05], [0.3, 0.1, 0.6]]],
              "boxes": [[[10 / 96, 10 / 64, 50 / 96, 40 / 64], [60 / 96, 20 / 64, 80 / 96, 40 / 64]]]}
    arrays = {name: np.array(value, np.float32) for name, value in values.items()}
    model = helper.make_model(helper.make_graph(
        [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)) for name, value in arrays.items()],
        "constant", [helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in arrays.items()],
    ), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, ABOUT | {"postprocess": json.dumps(postprocess.to_plain())})
    return bytes(model.SerializeToString())


def some(split: str, limit: int = 500) -> SplitImages:
    images = split_images(split, limit)
    assert images is not None
    return images


def test_the_ap_of_a_graph_is_that_of_its_objects_by_its_postprocess_values(project: Path) -> None:
    first = some("val", 1)
    assert ap_of(constant_graph(Postprocess(0.05)), first) == pytest.approx(1)
    assert ap_of(constant_graph(Postprocess(0.7)), first) == pytest.approx(0.5), "the dog is found, the kite is not"
    every = ap_of(constant_graph(Postprocess(0.05)), some("val"))
    assert every is not None
    assert 0 < every < 1, "the other images have other objects"


def test_an_image_is_read_and_resized_as_the_metadata_say(tmp_path: Path, project: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((9, 5), 2000, np.uint16))
    images = some("val", 1)._replace(paths=(tmp_path / "deep.png",))
    graph = made_graph(about=ABOUT | {"image_size": "12", "sixteen_bit_range": "[1000, 3000]"})
    [pixels] = inputs_of(graph, images)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 12, 12), np.float32)
    assert pixels == pytest.approx((128 - 127.5) / 127.5)


def write_train(indices: tuple[int, ...]) -> None:
    write_fixed(FIXED_FOLDER, "train", TREE | {"images": [TREE["images"][index] for index in indices], "annotations": []})


def test_the_files_are_quantised_by_the_training_images(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_LOSS", 1.0)  # the AP on these images of noise says nothing
    write_train((2,))
    graph = made_graph(about=ABOUT)
    files, report = make_int8(graph)
    model = prepare(graph)
    calibration = calibrate(model, inputs_of(graph, some("train")))
    assert files == {name: with_short_names(quantise(model, calibration, scheme))
                     for name, scheme in {"ssd.onnx": RUNTIME, "tensorrt.onnx": TENSORRT}.items()}
    assert (report["images"], report["fp32"]["bytes"]) == ({"train": 1, "val": 3}, len(graph))
    assert {name: made["bytes"] for name, made in report["int8"].items()} == {name: len(file) for name, file in files.items()}
    assert all(made["attempts"] == [{"AP": made["AP"], "float_nodes": []}] for made in report["int8"].values())
    assert "no_int8" not in report


def has_unsigned_values(graph: bytes) -> bool:
    return any(value.data_type == TensorProto.UINT8 for value in onnx.load_from_string(graph).graph.initializer)


def test_only_the_file_that_passes_is_returned(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "FLOAT_NODES", (0, 2))
    monkeypatch.setattr(gate, "ap_of", lambda graph, _: 0.4 if has_unsigned_values(graph) else 0.5)
    write_train((0, 1, 2))
    files, report = make_int8(made_graph(about=ABOUT))
    assert set(files) == {"tensorrt.onnx"}
    assert report["no_int8"] == "its AP is more than 0.01 below 0.500, see reports/export.json"
    made = report["int8"]["ssd.onnx"]
    assert made["bytes"] is None
    assert [(row["AP"], len(row["float_nodes"])) for row in made["attempts"]] == [(0.4, 0), (0.4, 2)]
    assert made["float_nodes"] == made["attempts"][1]["float_nodes"]


def test_a_net_without_gain_has_no_file(project: Path) -> None:
    files, report = make_int8(made_graph("HardSwish", about=ABOUT))
    assert files == {}
    assert "have no INT8 form in ONNX Runtime" in report.pop("no_int8")
    assert report == {}


def test_without_ground_truth_there_is_no_file(project: Path) -> None:
    write_train((0, 1, 2))
    write_fixed(FIXED_FOLDER, "val", TREE | {"annotations": []})
    assert make_int8(made_graph(about=ABOUT)) == ({}, {
        "no_int8": "there is no ground truth in the validation images, so that its AP is unknown"})


def test_nodes_go_back_to_float_by_what_they_lose_on_training_images(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_LOSS", -1.0)  # nothing passes
    monkeypatch.setattr(gate, "FLOAT_NODES", (0, 1))
    write_train((0, 1, 2))
    _, report = make_int8(made_graph(outlier=60.0, about=ABOUT))
    assert {name: made["float_nodes"] for name, made in report["int8"].items()} == {
        "ssd.onnx": ["deep"], "tensorrt.onnx": ["deep"]}
