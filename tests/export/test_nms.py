"""The graph with NMS after graphs of two nodes, and its check."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ssd_lib.boxes.selection import Postprocess, Selected, select
from ssd_lib.errors import StateError
from ssd_lib.export.nms import check_nms, with_nms

CPU = ["CPUExecutionProvider"]


def passing_on(priors: int, columns: int) -> onnx.ModelProto:
    """Return a graph with the outputs of an exported one, which are its inputs."""
    shapes = {"scores": [1, priors, columns], "boxes": [1, priors, 4]}
    inputs, outputs = ([helper.make_tensor_value_info(prefix + name, TensorProto.FLOAT, shape)
                        for name, shape in shapes.items()] for prefix in ("given_", ""))
    nodes = [helper.make_node("Identity", [f"given_{name}"], [name]) for name in shapes]
    return helper.make_model(helper.make_graph(nodes, "passing_on", inputs, outputs),
                             opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def detections(scores: np.ndarray, boxes: np.ndarray, values: Postprocess) -> Selected:
    """Return what the graph finds of (P, K + 1) scores and (P, 4) boxes."""
    graph = with_nms(passing_on(*scores.shape), values).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=CPU)
    return Selected(*session.run(["boxes", "labels", "scores"], {"given_scores": scores[None], "given_boxes": boxes[None]}))


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, Postprocess]:
    """Draw scores that all differ, boxes on a grid, of which some coincide and some have no area, and limits."""
    priors, classes = draw(st.integers(1, 60)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 100_000)))
    corner = rng.integers(0, 6, (priors, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 5, (priors, 2))], axis=1).astype(np.float32) / 10
    scores = rng.permutation(np.linspace(0.001, 0.999, priors * (classes + 1), dtype=np.float32)).reshape(priors, -1)
    threshold, iou = draw(st.sampled_from([0.0, 0.01, 0.5])), draw(st.sampled_from([0.11, 0.61]))  # no IoU on this grid
    per_class, of_all = draw(st.sampled_from([1, 4, 200])), draw(st.sampled_from([1, 3, 8, 100]))
    return scores, boxes, Postprocess(threshold, iou, per_class, of_all, vote_iou=draw(st.sampled_from([0.0, 0.11, 0.61])))


@given(images())
def test_its_detections_are_those_of_select(image: tuple[np.ndarray, np.ndarray, Postprocess]) -> None:
    scores, boxes, values = image
    expected, found = select(scores[:, 1:], boxes, values), detections(scores, boxes, values)
    assert [column.tolist() for column in found[1:]] == [column.tolist() for column in expected[1:]]
    assert found.boxes == pytest.approx(expected.boxes, rel=0, abs=1e-6 if values.vote_iou else 0.0)
    assert [column.dtype for column in found] == [np.float32, np.int64, np.float32]


@pytest.mark.parametrize("vote_iou", [0.0, 0.5])
def test_a_check_of_other_box_voting_refuses_the_graph(vote_iou: float) -> None:
    plain = constant([[0.1, 0.9], [0.5, 0.5]], [[0.0, 0.0, 0.4, 0.4], [0.0, 0.0, 0.4, 0.5]])
    graph = with_nms(plain, Postprocess(vote_iou=vote_iou)).SerializeToString()
    check_nms(graph, plain.SerializeToString(), [IMAGE], Postprocess(vote_iou=vote_iou))
    with pytest.raises(StateError, match="is not the best one without it"):
        check_nms(graph, plain.SerializeToString(), [IMAGE], Postprocess(vote_iou=0.5 - vote_iou))


def test_an_image_without_objects_has_none() -> None:
    scores, boxes = np.array([[0.9, 0.1], [0.7, 0.3]], np.float32), np.array([[0, 0, 1, 1]] * 2, np.float32)
    found = detections(scores, boxes, Postprocess(score_threshold=0.4))
    assert [column.shape for column in found] == [(0, 4), (0,), (0,)]


def test_the_graph_without_nms_is_not_changed() -> None:
    graph = passing_on(3, 2)
    before = graph.SerializeToString()
    with_nms(graph, Postprocess())
    assert graph.SerializeToString() == before


def constant(scores: list[list[float]], boxes: list[list[float]]) -> onnx.ModelProto:
    """Return a graph that finds the same in every image."""
    values = {"scores": np.array([scores], np.float32), "boxes": np.array([boxes], np.float32)}
    nodes = [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)) for name, value in values.items()]
    image = helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [1, 3, 64, 64])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in values.items()]
    return helper.make_model(helper.make_graph(nodes, "constant", [image], outputs),
                             opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


IMAGE = np.zeros((1, 3, 64, 64), np.float32)
SCORES, BOXES = [[0.125, 0.125, 0.75], [0.25, 0.5, 0.25]], [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]
WITHOUT_AREA = [0.5, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(("scores", "boxes", "threshold"), [
    (SCORES, BOXES, 0.01), (SCORES, BOXES, 0.8), ([[0.875, 0.0, 0.125], SCORES[1]], BOXES, 0.01),
    (SCORES, [WITHOUT_AREA, BOXES[1]], 0.01), (SCORES, [WITHOUT_AREA] * 2, 0.01)])
def test_what_with_nms_makes_passes_the_check(scores: list[list[float]], boxes: list[list[float]], threshold: float) -> None:
    plain = constant(scores, boxes)
    check_nms(with_nms(plain, Postprocess(threshold)).SerializeToString(), plain.SerializeToString(), [IMAGE],
              Postprocess(threshold))


@pytest.mark.parametrize("threshold", [0.01, 0.8])
@pytest.mark.parametrize(("scores", "boxes"), [
    ([[0.125, 0.75, 0.125], SCORES[1]], BOXES), (SCORES, [[0.0, 0.0, 0.5, 0.625], BOXES[1]]), (SCORES[::-1], BOXES),
    ([SCORES[1], [0.9, 0.1, 0.0]], BOXES)], ids=["label", "box", "prior", "lower score"])
def test_another_best_object_than_the_best_prior_is_refused(scores: list[list[float]], boxes: list[list[float]],
                                                            threshold: float) -> None:
    graph = with_nms(constant(scores, boxes), Postprocess()).SerializeToString()
    with pytest.raises(StateError, match=r"is not the best one without it, which scores [\d.]+. Set export.nms: false"):
        check_nms(graph, constant(SCORES, BOXES).SerializeToString(), [IMAGE], Postprocess(threshold))


def test_no_object_is_refused_where_a_prior_scores_above_the_threshold() -> None:
    plain = constant(SCORES, BOXES)
    graph = with_nms(plain, Postprocess(score_threshold=0.8)).SerializeToString()
    with pytest.raises(StateError, match="is not the best one without it"):
        check_nms(graph, plain.SerializeToString(), [IMAGE], Postprocess(0.7))
