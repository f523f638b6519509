"""Quantisation and the attempts of its gate, on a small graph."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.int8_graph import CONVOLUTIONS, INPUTS, made_graph

from ssd_lib.export.gate import FLOAT_NODES, MAX_LOSS, attempts, without_gain
from ssd_lib.export.int8 import (
    RUNTIME,
    TENSORRT,
    Calibration,
    Scheme,
    calibrate,
    inner_nodes,
    kept_float,
    most_sensitive,
    prepare,
    quantise,
    with_short_names,
)


def quantised(scheme: Scheme, floats: tuple[str, ...] = (), outlier: float = 1.0) -> onnx.ModelProto:
    model = prepare(made_graph(outlier=outlier))
    return onnx.load_from_string(quantise(model, calibrate(model, INPUTS), scheme, floats))


@pytest.fixture(scope="module")
def prepared() -> tuple[onnx.ModelProto, Calibration]:
    model = prepare(made_graph())
    return model, calibrate(model, INPUTS)


def test_what_lies_between_convolutions_is_inner() -> None:
    names = [node.name for node in inner_nodes(onnx.load_from_string(made_graph()).graph)]
    assert names == ["first", "b", "middle", "d", "deep", "f", "last"]


def test_ranges_hold_the_values_of_all_inputs(prepared: tuple[onnx.ModelProto, Calibration]) -> None:
    model, (ranges, means) = prepared
    assert calibrate(model, INPUTS[::-1]).ranges == ranges, "the last of the inputs has the extremes"
    assert ranges["scaled"] == (min(one.min() for one in INPUTS) / 2, max(one.max() for one in INPUTS) / 2)
    assert ranges["b"][0] == 0
    assert ranges["b"][1] <= 6
    assert not set(ranges) & {"h", "scores", "first", "low", ""}
    assert set(means) == {"scaled", "b", "d", "f"}
    np.testing.assert_allclose(means["scaled"], np.concatenate(INPUTS).mean(axis=(0, 2, 3)) / 2, rtol=1e-5)


def kinds_in_onnx_runtime(graph: bytes, folder: Path) -> list[str]:
    """Return the operators that ONNX Runtime computes a graph with, after its optimisation."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def losses(graph: bytes, outlier: float = 1.0) -> np.ndarray:
    """Return the mean squared errors of scores and boxes of a quantised graph over all inputs, relative to their variances."""
    plain, other = (onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"])
                    for each in (made_graph(outlier=outlier), graph))
    expected, found = (np.array([session.run(["scores", "boxes"], {"input_0": pixels}) for pixels in INPUTS])
                       for session in (plain, other))
    every = (0, 2, 3, 4)
    return np.square(found - expected).mean(axis=every) / expected.var(axis=every)


def test_onnx_runtime_computes_all_convolutions_in_int8(tmp_path: Path) -> None:
    """A convolution that stays float between two conversions is slower than no INT8 at all."""
    kinds = kinds_in_onnx_runtime(quantised(RUNTIME).SerializeToString(), tmp_path)
    assert kinds.count("QLinearConv") == 4
    assert kinds.count("QLinearAdd") == 1
    assert not {"Conv", "Clip", "Add"} & set(kinds)
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (1, 2), "two outputs read the last one"
    assert {"Mul", "Sigmoid"} <= set(kinds), "normalisation and scores stay float"


def test_the_file_for_tensorrt_has_signed_values_and_no_zero_points() -> None:
    graph = quantised(TENSORRT).graph
    points = [numpy_helper.to_array(value) for value in graph.initializer if value.name.endswith("zero_point")]
    assert {point.dtype for point in points} == {np.dtype(np.int8)}
    assert not any(point.any() for point in points)
    assert [node.input[0] for node in graph.node if node.op_type == "Clip"] == ["a", "e"], "TensorRT fuses it"


@pytest.mark.parametrize("scheme", [RUNTIME, TENSORRT])
def test_a_quantised_graph_gives_nearly_the_same_outputs(scheme: Scheme) -> None:
    plain, small = (onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
                    for graph in (made_graph(), quantised(scheme).SerializeToString()))
    for pixels in INPUTS:
        for expected, found in zip(*(session.run(None, {"input_0": pixels}) for session in (plain, small)), strict=True):
            assert 0 < np.abs(found - expected).mean() < 0.05


def test_weights_have_a_scale_for_each_channel_and_7_bits() -> None:
    values = {value.name: numpy_helper.to_array(value) for value in quantised(RUNTIME).graph.initializer}
    assert values["deep_scale"].shape == (8,)
    assert values["deep_quantized"].dtype == np.int8
    assert np.abs(values["deep_quantized"]).max() <= 64


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scheme", [RUNTIME, TENSORRT])
def test_biases_make_up_for_what_the_rounding_of_the_weights_adds(scheme: Scheme, bias: bool) -> None:
    """Two groups of channels with different means, so that a shift of the wrong channel would not help."""
    rng = np.random.default_rng(1)
    values = {"weights": rng.normal(0, 1, (8, 3, 3, 3)).astype(np.float32), "bias": rng.normal(0, 1, 8).astype(np.float32),
              "twice": rng.normal(0, 1, (6, 3, 1, 1)).astype(np.float32)}
    node = helper.make_node
    graph = helper.make_graph(
        [node("Conv", ["input_0", "twice"], ["six"], name="six"), node("Clip", ["six"], ["limited"], name="limited"),
         node("Conv", ["limited", "weights", *["bias"] * bias], ["scores"], name="grouped", group=2)], "grouped",
        [helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 8, 6, 6])],
        [numpy_helper.from_array(value, name) for name, value in values.items() if bias or name != "bias"])
    model = prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString())
    inputs = [np.abs(pixels) for pixels in INPUTS]
    calibration = calibrate(model, inputs)
    unknown = calibration._replace(means={name: np.zeros_like(mean) for name, mean in calibration.means.items()})

    def channel_means(content: bytes) -> np.ndarray:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(["scores"], {"input_0": pixels})[0] for pixels in inputs]).mean(axis=(0, 2, 3))

    expected = channel_means(model.SerializeToString())
    shift, left = (np.abs(channel_means(quantise(model, known, scheme)) - expected) for known in (unknown, calibration))
    assert left.mean() < 0.3 * shift.mean()
    found = onnx.load_from_string(quantise(model, calibration, scheme)).graph
    assert {value.name for value in found.initializer} <= {name for one in found.node for name in one.input}


def test_the_same_graph_gives_the_same_bytes(prepared: tuple[onnx.ModelProto, Calibration]) -> None:
    model, calibration = prepared
    before = model.SerializeToString()
    reordered = calibration._replace(ranges=dict(reversed(calibration.ranges.items())))
    assert quantise(model, calibration, RUNTIME) == quantise(model, reordered, RUNTIME)
    assert model.SerializeToString() == before


def test_a_quantised_graph_has_the_metadata_of_the_graph() -> None:
    assert {entry.key: entry.value for entry in quantised(RUNTIME).metadata_props} == {"net": "made", "precision": "int8"}


def test_biases_stay_float() -> None:
    values = {value.name: value.data_type for value in quantised(RUNTIME).graph.initializer if "_bias" in value.name}
    assert values == {f"{name}_bias": TensorProto.FLOAT for name in CONVOLUTIONS}


def test_short_names_change_nothing_but_the_size() -> None:
    long = quantised(RUNTIME)
    short = onnx.load_from_string(with_short_names(long.SerializeToString()))
    assert not short.graph.value_info
    assert {value.name for value in long.graph.initializer}.isdisjoint(value.name for value in short.graph.initializer)
    assert [node.name for node in short.graph.node] == [node.name for node in long.graph.node]
    sessions = [onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
                for graph in (long, short)]
    for pixels in INPUTS:
        expected, found = (session.run(["scores", "boxes"], {"input_0": pixels}) for session in sessions)
        assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]


def test_warnings_are_logged_again_after_quantising(prepared: tuple[onnx.ModelProto, Calibration]) -> None:
    quantise(*prepared, RUNTIME)
    assert logging.getLogger("of another").isEnabledFor(logging.WARNING)


def test_named_nodes_stay_float() -> None:
    readers = {node.name: node.input[1] for node in quantised(RUNTIME, ("deep",)).graph.node if node.op_type == "Conv"}
    assert readers == {"first": "first_DequantizeLinear_Output", "middle": "middle_DequantizeLinear_Output", "deep": "deep",
                       "last": "last_DequantizeLinear_Output"}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_named_nodes_stay_float_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    model = quantised(RUNTIME, (name,))
    nodes = model.graph.node
    assert {one for node in nodes for one in node.output} - {one for node in nodes for one in node.input} == {"scores", "boxes"}
    kinds = kinds_in_onnx_runtime(model.SerializeToString(), tmp_path)
    assert (kinds.count("Conv") + kinds.count("FusedConv"), kinds.count("QLinearConv")) == (1, 3)
    assert (losses(model.SerializeToString()) < losses(quantised(RUNTIME).SerializeToString())).all()


@pytest.mark.parametrize("scheme", [RUNTIME, TENSORRT])
def test_a_node_that_goes_back_to_float_takes_its_loss_with_it(scheme: Scheme) -> None:
    graphs = [kept_float(quantised(scheme, floats, 60.0).SerializeToString()) for floats in ((), ("deep",))]
    before, after = (losses(graph, 60.0) for graph in graphs)
    assert (after < before / 3).all()


def test_the_file_for_tensorrt_has_one_scale_for_the_activations_of_a_float_node() -> None:
    values = {value.name: numpy_helper.to_array(value).shape for value in quantised(TENSORRT, ("deep",)).graph.initializer}
    assert {name for name, shape in values.items() if name.endswith("scale") and shape} == {
        "first_scale", "middle_scale", "last_scale"}


def test_the_node_whose_weights_have_outliers_is_the_most_sensitive() -> None:
    model = prepare(made_graph(outlier=60.0))
    order = most_sensitive(model, calibrate(model, INPUTS), RUNTIME, INPUTS)
    assert order[0] == "deep"
    assert sorted(order) == sorted([*CONVOLUTIONS, "d"])


def test_the_most_sensitive_node_loses_most_if_it_alone_is_quantised(prepared: tuple[onnx.ModelProto, Calibration]) -> None:
    names = (*CONVOLUTIONS, "d")
    alone = {name: losses(quantised(RUNTIME, tuple({*names} - {name})).SerializeToString()).sum() for name in names}
    assert most_sensitive(*prepared, RUNTIME, INPUTS) == sorted(names, key=lambda name: -alone[name])


def test_the_loss_of_an_output_is_relative_to_its_variance() -> None:
    """The boxes come from a convolution of their own here, whose weights are a thousandth of the others, with outliers."""
    model = onnx.load_from_string(made_graph())
    weights = 0.001 * numpy_helper.to_array(next(value for value in model.graph.initializer if value.name == "last"))
    weights[:, 0, 0, 0] *= 60
    model.graph.initializer.append(numpy_helper.from_array(weights, "small"))
    *others, tanh = model.graph.node
    tanh.input[0] = "of_boxes"
    del model.graph.node[:]
    model.graph.node.extend([*others, helper.make_node("Conv", ["f", "small"], ["flat"], "small", pads=[1] * 4),
                             helper.make_node("Reshape", ["flat", "shape"], ["of_boxes"], "reshape"), tanh])
    model = prepare(model.SerializeToString())
    assert most_sensitive(model, calibrate(model, INPUTS), RUNTIME, INPUTS)[0] == "small"


def test_nodes_go_back_to_float_until_the_ap_is_good_enough(prepared: tuple[onnx.ModelProto, Calibration]) -> None:
    model, calibration = prepared

    def floats(graph: bytes) -> list[str]:
        return [node.name for node in onnx.load_from_string(graph).graph.node
                if node.op_type == "Conv" and node.input[1] in CONVOLUTIONS]

    passed, rows = attempts(model, calibration, RUNTIME, lambda: CONVOLUTIONS[::-1], 0.5,
                            lambda graph: 0.3 if len(floats(graph)) < 2 else 0.5 - MAX_LOSS)
    assert passed is not None
    assert floats(passed) == ["deep", "last"]
    assert [row["AP"] for row in rows] == [0.3] * (len(rows) - 1) + [0.49]
    assert [len(row["float_nodes"]) for row in rows] == list(FLOAT_NODES[:len(rows)])
    [first] = attempts(model, calibration, RUNTIME, pytest.fail, 0.5, lambda _: 0.6)[1]
    assert first == {"AP": 0.6, "float_nodes": []}


def test_what_is_measured_for_tensorrt_has_its_float_nodes_in_float(prepared: tuple[onnx.ModelProto, Calibration]) -> None:
    measured: list[bytes] = []

    def measure(graph: bytes) -> float:
        measured.append(graph)
        return 0.5 if len(measured) == 2 else 0.3

    passed, _ = attempts(*prepared, TENSORRT, lambda: ["deep"], 0.5, measure)
    assert passed is not None
    assert measured[1] == kept_float(passed) != passed


def test_no_graph_passes_whose_ap_is_always_too_low(prepared: tuple[onnx.ModelProto, Calibration]) -> None:
    passed, rows = attempts(*prepared, RUNTIME, lambda: CONVOLUTIONS, 0.5, lambda _: 0.489)
    assert passed is None
    assert len(rows) == len(FLOAT_NODES)


def test_a_net_of_activations_without_int8_form_gains_nothing() -> None:
    model = prepare(made_graph())
    assert without_gain(model.graph) == ""
    one = next(node for node in model.graph.node if node.name == "b")
    one.CopyFrom(helper.make_node("HardSigmoid", one.input[:1], one.output, name="b"))
    assert without_gain(model.graph) == "", "one for four convolutions is little"
    assert "2 of the net's nodes (HardSigmoid) have no INT8 form" in without_gain(prepare(made_graph("HardSwish")).graph)
