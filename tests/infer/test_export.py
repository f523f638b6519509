import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from ssd_lib.errors import StateError
from ssd_lib.infer import export as export_module
from ssd_lib.infer.export import LABELS_PATH, ONNX_PATH, JetsonNet, check_onnx, export, to_onnx
from ssd_lib.nets.model_file import Model, load_model
from ssd_lib.params import ExportParams


@pytest.fixture
def exported(project: Path) -> str:
    return export(ExportParams(opset=18))


def test_the_file_is_what_the_jetson_wants(exported: str, project: Path) -> None:
    model = load_model()
    session = onnxruntime.InferenceSession(ONNX_PATH)
    priors = len(model.net.priors)
    assert [(value.name, value.type, value.shape) for value in [*session.get_inputs(), *session.get_outputs()]] == [
        ("input_0", "tensor(float)", [1, 3, 64, 64]),
        ("scores", "tensor(float)", [1, priors, 3]),
        ("boxes", "tensor(float)", [1, priors, 4]),
    ]
    assert LABELS_PATH.read_text() == "BACKGROUND\ndog\nkite\n"
    assert sorted(path.name for path in Path("models").iterdir()) == ["labels.txt", "ssd.onnx", "ssd.pt"]
    assert "opset 18" in exported


def test_scores_and_boxes_are_those_of_the_net(exported: str, project: Path) -> None:
    net = load_model().net
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64)).astype(np.float32)
    scores, boxes = onnxruntime.InferenceSession(ONNX_PATH).run(None, {"input_0": ((pixels / 255 - 0.5) / 0.5).astype(np.float32)})
    with torch.inference_mode():
        logits, _ = net(torch.from_numpy(pixels))
    assert scores == pytest.approx(logits.softmax(dim=2).numpy(), abs=1e-4)
    assert scores.std(axis=1).max() > 0.01  # priors differ: the comparison means something
    assert scores.sum(axis=2) == pytest.approx(1, abs=1e-4)
    assert (boxes.min(), boxes.max()) == (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))


def test_the_file_says_what_it_is(exported: str) -> None:
    graph = onnx.load(ONNX_PATH)
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert json.loads(about["classes"]) == ["BACKGROUND", "dog", "kite"]
    assert (about["net"], about["image_size"], about["fingerprint"]) == ("mb2-ssd-lite", "64", "f00d")
    assert {entry.version for entry in graph.opset_import if entry.domain == ""} == {18}
    assert not any(node.op_type == "NonMaxSuppression" for node in graph.graph.node)


def test_a_stale_engine_is_named(project: Path) -> None:
    engine = Path("models/ssd.onnx.1.1.8602.GPU.FP16.engine")
    engine.write_bytes(b"")
    assert f"WARNING {engine}" in export(ExportParams(opset=18))


class _Shifted(JetsonNet):
    """An exporter's fault."""

    def forward(self, input_0: Tensor) -> tuple[Tensor, Tensor]:
        scores, boxes = super().forward(input_0)
        return scores + 0.01, boxes


def test_nothing_is_written_when_the_graph_differs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model()
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "JetsonNet", _Shifted)
        wrong = to_onnx(model, 18)
    monkeypatch.setattr(export_module, "to_onnx", lambda *_: wrong)
    with pytest.raises(StateError, match=r"differs from PyTorch by 1.0e-02; 0.0001 is allowed"):
        export(ExportParams(opset=18))
    assert [path.name for path in Path("models").iterdir()] == ["ssd.pt"]


def test_another_opset_than_asked_for_is_refused(exported: str) -> None:
    with pytest.raises(StateError, match=r"opset 18; export.opset is 19.*Set export.opset: 18"):
        check_onnx(ONNX_PATH.read_bytes(), load_model(), 19)


def test_a_net_of_nan_is_refused(project: Path) -> None:
    model = load_model()
    nn.init.constant_(model.net.box_heads[0][-1].bias, torch.nan)
    with pytest.raises(StateError, match="differs from PyTorch by nan"):
        check_onnx(to_onnx(model, 18), Model(model.net, model.spec, {}), 18)
