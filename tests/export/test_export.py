"""Export: the contract of the ONNX files, and the checks before they are written."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.onnx_files import constant_file
from support.trained_project import SPEC
from torch import nn

from ssd_lib import Detector
from ssd_lib.boxes.selection import PUBLISHED, Postprocess
from ssd_lib.errors import StateError
from ssd_lib.export import export as export_module
from ssd_lib.export import gate
from ssd_lib.export.export import BATCH_FOLDER, INT8_FOLDER, LABELS_PATH, NMS_FOLDER, ONNX_PATH, REPORT_PATH, export, write_int8
from ssd_lib.export.nms import check_nms, with_nms
from ssd_lib.export.onnx_file import as_input, check_onnx, to_onnx
from ssd_lib.export.runtimes import RUNTIMES
from ssd_lib.files import sha256
from ssd_lib.nets.model_file import MODEL_PATH, load_model, save_model
from ssd_lib.nets.postprocess import select_detections
from ssd_lib.params import ExportParams

BOTH = ExportParams(opset=18, nms=True, int8=True, formats=["onnx"], dynamic_batch=True)
NOISE = as_input(np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8), 64)
OWN = Postprocess(score_threshold=0.02, nms_iou=0.7, top_k_per_class=30, max_detections=40, vote_iou=0.8)
ENGINE = Path("models/ssd.onnx.1.1.8602.GPU.FP16.engine")


@pytest.fixture(scope="module")
def exported(finished_training: Path, weights: dict[str, torch.Tensor],
             tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the summary of an export and its project, which has an old engine and a model with OWN as postprocess values."""
    root = tmp_path_factory.mktemp("exported")
    shutil.copytree(finished_training, root, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        ENGINE.write_bytes(b"")
        shutil.copy("data/fixed/val.npz", "data/fixed/train.npz")
        save_model(MODEL_PATH, SPEC, weights, {"fingerprint": "f00d"}, OWN)
        patch.setattr(gate, "MAX_LOSS", 1.0)  # the AP on these images of noise says nothing
        return export(BOTH), root


def test_the_file_has_the_inputs_and_outputs_of_jetson_inference(exported: tuple[str, Path]) -> None:
    summary, root = exported
    model = load_model(root / MODEL_PATH)
    session = onnxruntime.InferenceSession(root / ONNX_PATH)
    priors = len(model.net.priors)
    assert [(value.name, value.type, value.shape) for value in [*session.get_inputs(), *session.get_outputs()]] == [
        ("input_0", "tensor(float)", [1, 3, 64, 64]),
        ("scores", "tensor(float)", [1, priors, 3]),
        ("boxes", "tensor(float)", [1, priors, 4]),
    ]
    assert (root / LABELS_PATH).read_text() == "BACKGROUND\ndog\nkite\n"
    assert {path.name for path in (root / "models").iterdir()} == {"labels.txt", "ssd.onnx", ENGINE.name, "ssd.pt", "with_nms",
                                                               "int8", "dynamic_batch", *RUNTIMES}
    assert "opset 18" in summary
    assert "at most on 3 validation images" in summary
    assert {node.op_type for node in onnx.load(root / ONNX_PATH).graph.node} >= {"Conv", "Softmax"}
    assert not any(node.op_type == "BatchNormalization" for node in onnx.load(root / ONNX_PATH).graph.node)
    assert str(Path.cwd()).encode() not in (root / ONNX_PATH).read_bytes(), "no path of the machine that wrote it"


def test_scores_and_boxes_equal_those_of_the_net(exported: tuple[str, Path]) -> None:
    _, root = exported
    net = load_model(root / MODEL_PATH).net
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64)).astype(np.float32)
    session = onnxruntime.InferenceSession(root / ONNX_PATH)
    scores, boxes = session.run(None, {"input_0": (pixels / 255 - 0.5) / 0.5})
    with torch.inference_mode():
        logits, _ = net(torch.from_numpy(pixels))
    assert scores == pytest.approx(logits.softmax(dim=2).numpy(), abs=1e-4)
    assert scores.std(axis=1).max() > 0.01  # so that the comparison is meaningful
    assert scores.sum(axis=2) == pytest.approx(1, abs=1e-4)
    assert (boxes.min(), boxes.max()) == (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))


def test_the_file_has_metadata(exported: tuple[str, Path]) -> None:
    graph = onnx.load(exported[1] / ONNX_PATH)
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(about["classes"]) == ["BACKGROUND", "dog", "kite"]
    assert (about["net"], about["image_size"], about["fingerprint"]) == ("mb2-ssd-lite", "64", "f00d")
    assert json.loads(about["source_ids"]) == [18, 38]
    assert Postprocess.from_plain(json.loads(about["postprocess"])) == OWN
    assert (json.loads(about["mean"]), json.loads(about["std"])) == ([127.5] * 3, [127.5] * 3)
    assert {entry.version for entry in graph.opset_import if entry.domain == ""} == {18}
    assert not any(node.op_type == "NonMaxSuppression" for node in graph.graph.node)


def test_the_graph_with_nms_uses_the_postprocess_values_of_the_model(exported: tuple[str, Path]) -> None:
    plain, graph_with_nms = (onnxruntime.InferenceSession(exported[1] / path)
                             for path in (ONNX_PATH, NMS_FOLDER / ONNX_PATH.name))
    assert [(value.name, value.type) for value in graph_with_nms.get_outputs()] == [
        ("boxes", "tensor(float)"), ("labels", "tensor(int64)"), ("scores", "tensor(float)")]
    boxes, labels, scores = graph_with_nms.run(None, {"input_0": NOISE})
    of_priors, prior_boxes = plain.run(None, {"input_0": NOISE})
    expected, published = (select_detections(torch.from_numpy(of_priors[..., 1:]), torch.from_numpy(prior_boxes), values)[0]
                         for values in (OWN, PUBLISHED))
    assert len(scores) == 40
    assert not np.isin(scores, published.scores).all(), "an nms_iou of 0.7 keeps what 0.45 drops"
    assert (labels == expected.labels.numpy()).all()
    assert (scores == expected.scores.numpy()).all()
    assert boxes == pytest.approx(expected.boxes.numpy(), abs=1e-6)
    assert not np.isin(boxes, prior_boxes).all(), "boxes vote"


@pytest.mark.parametrize("limits", [(1, 100), (7, 100), (200, 3), (200, 5000)])
@pytest.mark.parametrize("iou", [0.3, 0.9])
def test_the_graph_with_nms_has_the_limits_of_select_detections(exported: tuple[str, Path], limits: tuple[int, int],
                                                               iou: float) -> None:
    plain, values = (exported[1] / ONNX_PATH).read_bytes(), Postprocess(0.3, iou, *limits)
    graph_with_nms = onnxruntime.InferenceSession(with_nms(onnx.load_from_string(plain), values).SerializeToString())
    boxes, labels, scores = graph_with_nms.run(None, {"input_0": NOISE})
    of_priors, prior_boxes = onnxruntime.InferenceSession(plain).run(None, {"input_0": NOISE})
    [expected] = select_detections(torch.from_numpy(of_priors[..., 1:]), torch.from_numpy(prior_boxes), values)
    assert len(scores) > 0
    assert [column.tolist() for column in expected] == [boxes.tolist(), labels.tolist(), scores.tolist()]


def test_a_detector_uses_the_postprocess_values_of_the_file(exported: tuple[str, Path]) -> None:
    image = np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    from_onnx, from_model = (Detector(exported[1] / path, "cpu", threshold=None)(image) for path in (ONNX_PATH, MODEL_PATH))
    other = Detector(exported[1] / ONNX_PATH, "cpu", threshold=None, nms_iou=0.45)(image)
    assert len(from_onnx.scores) == 40
    assert from_onnx.scores == pytest.approx(from_model.scores, abs=1e-4)
    assert from_onnx.scores != pytest.approx(other.scores, abs=1e-4)


def test_the_graph_with_nms_has_the_same_metadata(exported: tuple[str, Path]) -> None:
    plain, graph_with_nms = ({entry.key: entry.value for entry in onnx.load(exported[1] / path).metadata_props}
                    for path in (ONNX_PATH, NMS_FOLDER / ONNX_PATH.name))
    assert plain == graph_with_nms


def test_a_graph_with_nms_with_wrong_labels_is_refused(exported: tuple[str, Path]) -> None:
    plain = (exported[1] / ONNX_PATH).read_bytes()
    graph = with_nms(onnx.load_from_string(plain), Postprocess())
    check_nms(graph.SerializeToString(), plain, [NOISE], Postprocess())
    one = next(value for value in graph.graph.initializer if value.name == "nms_first_label")
    one.CopyFrom(onnx.numpy_helper.from_array(np.array([0]), one.name))
    with pytest.raises(StateError, match="is not the best one without it"):
        check_nms(graph.SerializeToString(), plain, [NOISE], Postprocess())


def test_without_export_nms_the_folder_is_empty_and_images_may_be_missing(project: Path) -> None:
    for path in Path("data/raw/tiny/val").iterdir():
        path.unlink()
    NMS_FOLDER.mkdir()
    (NMS_FOLDER / "ssd.onnx").write_bytes(b"an earlier model's")
    summary = export(ExportParams(opset=18, nms=False, int8=True, formats=["onnx"], dynamic_batch=False))
    assert "at most on noise (the validation images are not on this machine)" in summary
    note, = NMS_FOLDER.iterdir()
    assert "export.nms" in note.read_text(), "DVC warns of an empty folder"
    assert "int8: none; it needs training and validation images, and they are not on this machine" in summary
    note, = INT8_FOLDER.iterdir()
    assert "There is no INT8 file: it needs training" in note.read_text()
    assert "it needs training" in json.loads(REPORT_PATH.read_text())["no_int8"]


def test_without_export_int8_the_folder_has_only_a_note(project: Path) -> None:
    INT8_FOLDER.mkdir()
    (INT8_FOLDER / "ssd.onnx").write_bytes(b"an earlier model's")
    assert write_int8(b"", is_wanted=False) == "int8: none; export.int8 in params.yaml is false"
    note, = INT8_FOLDER.iterdir()
    assert "export.int8 in params.yaml is false" in note.read_text(), "DVC warns of an empty folder"


def test_the_int8_files_find_what_the_float_file_finds_and_have_its_metadata(exported: tuple[str, Path]) -> None:
    summary, root = exported
    report = json.loads((root / REPORT_PATH).read_text())
    plain = onnx.load(root / ONNX_PATH)
    about = {entry.key: entry.value for entry in plain.metadata_props}
    assert about["model_sha256"] == sha256(root / MODEL_PATH)
    assert report["images"] == {"train": 3, "val": 3}
    image = np.random.default_rng(3).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    expected = Detector(root / ONNX_PATH, "cpu", threshold=None)(image)
    for name in ("ssd.onnx", "tensorrt.onnx"):
        path = root / INT8_FOLDER / name
        graph = onnx.load(path)
        assert {entry.key: entry.value for entry in graph.metadata_props} == about | {"precision": "int8"}
        assert all(value.data_type != onnx.TensorProto.INT32 for value in graph.graph.initializer), "biases stay float"
        assert report["int8"][name]["bytes"] == path.stat().st_size
        found = Detector(path, "cpu", threshold=None)(image)
        assert found.scores[:10] == pytest.approx(expected.scores[:10], abs=0.05)
        assert found.scores.tolist() != expected.scores.tolist()
    assert "int8: models/int8/ssd.onnx" in summary


def test_where_no_int8_file_passes_there_are_a_note_and_the_attempts(exported: tuple[str, Path], project: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_LOSS", -1.0)  # nothing passes
    monkeypatch.setattr(gate, "FLOAT_NODES", (0,))
    shutil.copy("data/fixed/val.npz", "data/fixed/train.npz")
    graph = (exported[1] / ONNX_PATH).read_bytes()
    summary = write_int8(graph, is_wanted=True)
    report = json.loads(REPORT_PATH.read_text())
    reason = report["no_int8"]
    assert reason.startswith("its AP is more than -1.0 below 0.")
    assert summary == f"int8: none; {reason}"
    note, = INT8_FOLDER.iterdir()
    assert reason in note.read_text()
    assert report["fp32"]["bytes"] == len(graph)
    for tried in report["int8"].values():
        assert (tried["bytes"], tried["attempts"]) == (None, [{"AP": tried["AP"], "float_nodes": []}])


def test_the_file_for_batches_finds_what_the_static_file_finds(exported: tuple[str, Path],
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    summary, root = exported
    assert "models/with_nms/ssd.onnx and models/dynamic_batch/ssd.onnx, " in summary
    path = root / BATCH_FOLDER / ONNX_PATH.name
    graph, plain = onnx.load(path), onnx.load(root / ONNX_PATH)
    shapes = [value.type.tensor_type.shape.dim[0].dim_param for value in [*graph.graph.input, *graph.graph.output]]
    assert shapes == ["batch"] * 3
    assert {(entry.key, entry.value) for entry in graph.metadata_props} == {
        (entry.key, entry.value) for entry in plain.metadata_props}
    images = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3)).astype(np.uint8) for seed in range(5)]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for one, other in zip(*(Detector(file, "cpu", threshold=None)(images) for file in (path, root / ONNX_PATH)), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_a_stale_engine_is_named(exported: tuple[str, Path]) -> None:
    assert f"WARNING {ENGINE}: built from an earlier model" in exported[0]


def test_nothing_is_written_if_the_graph_is_of_another_net(exported: tuple[str, Path], project: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    graph = (exported[1] / ONNX_PATH).read_bytes()
    model = load_model()
    model.net.class_heads[0][-1].bias.data[0] += 0.5
    save_model(MODEL_PATH, model.spec, model.net.state_dict(), {})
    monkeypatch.setattr(export_module, "to_onnx", lambda *_: graph)
    with pytest.raises(StateError, match=r"differs from PyTorch by .*; 0.0001 is allowed. Nothing was written"):
        export(BOTH)
    assert [path.name for path in Path("models").iterdir()] == ["ssd.pt"]


def test_an_opset_other_than_export_opset_is_refused(exported: tuple[str, Path], project: Path) -> None:
    with pytest.raises(StateError, match=r"opset 18; export.opset is 19.*Set export.opset: 18"):
        check_onnx((exported[1] / ONNX_PATH).read_bytes(), load_model(), 19, [NOISE])


def test_a_graph_with_other_outputs_is_refused(project: Path) -> None:
    graph = constant_file(Path("a.onnx")).read_bytes()
    with pytest.raises(StateError, match=r"the graph has .*'scores': \[1, 2, 3\].*; it must have .*'scores': \[1, \d+, 3\]"):
        check_onnx(graph, load_model(), 18, [NOISE])


def test_a_net_of_nan_is_refused(exported: tuple[str, Path], project: Path) -> None:
    model = load_model()
    nn.init.constant_(model.net.box_heads[0][-1].bias, torch.nan)
    with pytest.raises(StateError, match="differs from PyTorch by nan"):
        check_onnx((exported[1] / ONNX_PATH).read_bytes(), model, 18, [NOISE])


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(exported: tuple[str, Path]) -> None:
    path = exported[1] / MODEL_PATH
    assert to_onnx(load_model(path), 18, sha256(path)) == (exported[1] / ONNX_PATH).read_bytes()


@pytest.mark.slow
def test_the_graph_with_nms_drops_boxes_without_an_area(project: Path) -> None:
    model = load_model()
    for head in model.net.box_heads:
        last = [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1]
        last.bias.data.view(-1, 4)[:, 0] += 100  # all centres far to the right
    plain = to_onnx(model, 18)
    graph_with_nms = with_nms(onnx.load_from_string(plain), Postprocess()).SerializeToString()
    boxes, labels, scores = onnxruntime.InferenceSession(graph_with_nms).run(None, {"input_0": NOISE})
    assert onnxruntime.InferenceSession(plain).run(["scores"], {"input_0": NOISE})[0][..., 1:].max() > 0.01
    assert (len(boxes), len(labels), len(scores)) == (0, 0, 0)
    check_nms(graph_with_nms, plain, [NOISE], Postprocess())
