"""Quantise an exported graph to INT8: QDQ nodes of onnxruntime.quantization, by the ranges of values on training images.

Only what lies between the first and the last convolutions is quantised: the input's normalisation, softmax or sigmoid and the
decoding of boxes stay float. Weights have a scale for each output channel, and 7 bits: without VNNI a processor adds two
products in 16 bits, and those of 8 bits overflow them (the demo lost 0.02 to 0.13 of AP by that). What the rounding of the
weights shifts the mean of each channel by is taken from the biases.
"""

import logging
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.numpy_helper import from_array, to_array
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

KINDS = sorted({*QDQRegistry, *QLinearOpsRegistry})  # of nodes that have an INT8 form
ACTIVATIONS = ("Clip", "Relu")  # they become part of the node before them


class Scheme(NamedTuple):
    """How activations are quantised; see `RUNTIME` and `TENSORRT`.

    Attributes:
        activations: the type of their values.
        options: of `QDQQuantizer`.
        is_for_runtime: ONNX Runtime reads the file, so that it needs `kept_float`.
    """

    activations: QuantType
    options: dict[str, Any]
    is_for_runtime: bool


# Unsigned with a zero point: ReLU6 is the saturation of the 8 bits then, and disappears. Signed without zero point it stays a
# float node between two conversions, and the graph takes 1.5 times as long as the one without INT8.
RUNTIME = Scheme(QuantType.QUInt8, {"ActivationSymmetric": False}, True)
# TensorRT has signed values with a zero point of zero only, and fuses Conv, Clip and QuantizeLinear itself.
TENSORRT = Scheme(QuantType.QInt8, {"ActivationSymmetric": True, "OpTypesToExcludeOutputQuantization": ["Conv"]}, False)

Ranges = dict[str, tuple[np.float32, np.float32]]


class Calibration(NamedTuple):
    """What the values of a graph are on some inputs.

    Attributes:
        ranges: of every tensor that inner nodes read or write: its smallest and its largest value.
        means: of the input of every convolution: (C,) float64, the mean of each channel.
    """

    ranges: Ranges
    means: dict[str, np.ndarray]


def prepare(graph: bytes) -> onnx.ModelProto:
    """Return the graph with constants folded and shapes inferred, as ONNX Runtime advises before quantisation."""
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared = (Path(folder) / name for name in ("plain.onnx", "prepared.onnx"))
        plain.write_bytes(graph)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
    about = {entry.key: entry.value for entry in onnx.load_from_string(graph).metadata_props}
    del model.metadata_props[:]
    helper.set_model_props(model, about)
    return model


def inner_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the convolutions and the nodes on a path from one convolution to another; the nodes of the graph are sorted."""
    after: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" or after.intersection(node.input):
            after.update(node.output)
    before: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "Conv" or before.intersection(node.output):
            before.update(node.input)
    return [node for node in graph.node
            if node.op_type == "Conv" or (after.intersection(node.input) and before.intersection(node.output))]


def float_only(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Return the kinds of those nodes for which there is no INT8 form, one name for each node."""
    return [node.op_type for node in nodes if node.op_type not in KINDS]


def calibrate(model: onnx.ModelProto, inputs: Iterable[np.ndarray]) -> Calibration:
    """Return what the values of a graph are on all inputs.

    Args:
        model: from `prepare`.
        inputs: (1, 3, S, S) float32 in [-1, 1], at least one.
    """
    constants = {value.name for value in model.graph.initializer}
    nodes = inner_nodes(model.graph)
    names = sorted({name for node in nodes for name in (*node.input, *node.output)} - constants - {""})
    read = {node.input[0] for node in nodes if node.op_type == "Conv"}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    lowest, highest = np.full(len(names), np.inf, np.float32), np.full(len(names), -np.inf, np.float32)
    sums, count = dict.fromkeys(read, np.zeros(1)), 0
    for pixels in inputs:
        count += 1
        values = session.run(names, {"input_0": pixels})
        lowest = np.minimum(lowest, [value.min() for value in values])
        highest = np.maximum(highest, [value.max() for value in values])
        sums |= {name: sums[name] + value.mean(axis=(0, 2, 3), dtype=np.float64)
                 for name, value in zip(names, values, strict=True) if name in read}
    return Calibration({name: (low, high) for name, low, high in zip(names, lowest, highest, strict=True)},
                       {name: total / count for name, total in sums.items()})


def quantise(model: onnx.ModelProto, calibration: Calibration, scheme: Scheme, floats: Collection[str] = ()) -> bytes:
    """Return the bytes of the quantised graph; the same arguments give the same bytes.

    Args:
        model: from `prepare`; it is not changed.
        calibration: of `calibrate`.
        scheme: how activations are quantised.
        floats: names of inner nodes that stay float.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [node.name for node in inner_nodes(copy.graph) if node.name not in floats]
    options = {"WeightSymmetric": True, "QuantizeBias": False, **scheme.options}  # ONNX Runtime quantises biases when it loads
    logging.disable(logging.WARNING)
    try:
        quantizer = QDQQuantizer(copy, True, True, QuantType.QInt8, scheme.activations,
                                 TensorsData(CalibrationMethod.MinMax, dict(calibration.ranges)), nodes, [], KINDS, options)
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    finally:
        logging.disable(logging.NOTSET)
    result = quantizer.model.model
    _correct_biases(result.graph, model.graph, calibration.means)
    about = {entry.key: entry.value for entry in model.metadata_props}
    del result.metadata_props[:]
    helper.set_model_props(result, {**about, "precision": "int8"})
    onnx.checker.check_model(result)
    content = bytes(result.SerializeToString())
    return kept_float(content) if scheme.is_for_runtime else content


def kept_float(graph: bytes) -> bytes:
    """Return a quantised graph with the same outputs, whose float convolutions stay float in ONNX Runtime.

    Where the values before and after a convolution are quantised, ONNX Runtime quantises its float weights, too, with one scale
    for all channels (WeightBiasQuantization in its source), which loses more than weights of `quantise` do. It does not if the
    scale of the input is a vector. TensorRT leaves such convolutions float, but reads no vector as the scale of activations.
    """
    model = onnx.load_from_string(graph)
    values = {value.name: value for value in model.graph.initializer}
    sources = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        source = sources.get(node.input[0])
        if node.op_type == "Conv" and node.input[1] in values and source and not values[source.input[1]].dims:
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            names = [f"{node.name}_input_{name}" for name in ("scale", "zero_point")]
            for name, scalar in zip(names, source.input[1:], strict=True):
                vector = np.repeat(to_array(values[scalar]), values[node.input[1]].dims[1] * groups)
                model.graph.initializer.append(from_array(vector, name))
            node.input[0] = f"{node.name}_input"
            nodes.append(helper.make_node(source.op_type, [source.input[0], *names], [node.input[0]], node.input[0], axis=1))
        nodes.append(node)
    read = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    nodes = [node for node in nodes if node.op_type != "DequantizeLinear" or node.output[0] in read]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _correct_biases(quantised: onnx.GraphProto, graph: onnx.GraphProto, means: dict[str, np.ndarray]) -> None:
    """Subtract from each bias what the rounding of the weights adds to the mean of the convolution's output.

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, sec. 4.2, with
    means that are measured. Padding is neglected.

    Args:
        quantised: is changed.
        graph: the same in float.
        means: of `calibrate`.
    """
    values = {value.name: value for value in (*graph.initializer, *quantised.initializer)}
    makers = {node.output[0]: node for node in quantised.node}
    in_float = {node.name: node for node in graph.node}
    for node in quantised.node:
        if node.op_type != "Conv" or node.input[1] not in makers:
            continue
        rounded, scales = (to_array(values[name]) for name in makers[node.input[1]].input[:2])
        weights, mean = to_array(values[in_float[node.name].input[1]]), means[in_float[node.name].input[0]]
        errors = rounded * scales.reshape(-1, 1, 1, 1).astype(np.float64) - weights
        groups = len(mean) // weights.shape[1]
        shifts = np.einsum("goihw,gi->go", errors.reshape(groups, -1, *weights.shape[1:]), mean.reshape(groups, -1)).ravel()
        bias = to_array(values[node.input[2]]) if len(node.input) > 2 else 0
        node.input[2:] = [f"{node.name}_bias"]  # its own, where two nodes share one
        quantised.initializer.append(from_array((bias - shifts).astype(np.float32), node.input[2]))
    read = {name for node in quantised.node for name in node.input}
    for unread in [value for value in quantised.initializer if value.name not in read]:
        quantised.initializer.remove(unread)


def with_short_names(graph: bytes) -> bytes:
    """Return the same graph without the names and shapes of its inner values, which are 3 % of an INT8 file of 2 MB.

    The names of inputs, outputs and nodes stay.
    """
    model = onnx.load_from_string(graph)
    del model.graph.value_info[:]
    short = {value.name: value.name for value in (*model.graph.input, *model.graph.output)} | {"": ""}

    def name(long: str) -> str:
        return short.setdefault(long, f"{len(short):x}")

    for value in model.graph.initializer:
        value.name = name(value.name)
    for node in model.graph.node:
        node.input[:], node.output[:] = map(name, node.input), map(name, node.output)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def most_sensitive(model: onnx.ModelProto, calibration: Calibration, scheme: Scheme,
                   inputs: Sequence[np.ndarray]) -> list[str]:
    """Return the names of the inner nodes, that first which changes the outputs most if it alone is quantised."""
    nodes = inner_nodes(model.graph)
    expected = _outputs(model.SerializeToString(), inputs)

    def error(candidate: onnx.NodeProto) -> float:
        floats = {node.name for node in nodes if node.op_type not in ACTIVATIONS} - {candidate.name}
        found = _outputs(quantise(model, calibration, scheme, floats), inputs)
        return float(sum(np.square(one - other).mean() / one.var() for one, other in zip(expected, found, strict=True)))

    computing = tqdm([node for node in nodes if node.op_type not in ACTIVATIONS], "int8: what each node loses", unit=" nodes",
                     leave=False, dynamic_ncols=True, disable=None)
    errors = {node.name: error(node) for node in computing}
    return sorted(errors, key=lambda name: -errors[name])


def _outputs(graph: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the scores and the boxes of all inputs."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    runs = [session.run(["scores", "boxes"], {"input_0": pixels}) for pixels in inputs]
    return [np.concatenate(column) for column in zip(*runs, strict=True)]
