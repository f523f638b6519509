"""An exported file in ONNX Runtime; faults of such files are made by hand, with graphs of two nodes."""

import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from support.onnx_files import ABOUT, SCORES
from support.onnx_files import constant_file as graph
from support.project import ROOT

from ssd_lib.detect.detector import Detector
from ssd_lib.detect.onnx_net import load_onnx
from ssd_lib.errors import InputError, StateError
from ssd_lib.export.onnx_file import to_onnx
from ssd_lib.images import decode_image
from ssd_lib.nets.model_file import MODEL_PATH, load_model, save_model


@pytest.fixture(scope="module")
def exported(finished_training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "ssd.onnx"
    path.write_bytes(to_onnx(load_model(finished_training / MODEL_PATH), opset=18))
    return path


def test_the_exported_file_finds_in_an_image_what_the_model_finds(exported: Path, finished_training: Path,
                                                                 shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "coco-mirror/zips/val2017.zip") as archive:
        name = next(name for name in archive.namelist() if name.endswith(".jpg"))
        image = decode_image(archive.read(name))
    assert image is not None
    model, file = (Detector(path, "cpu", threshold=0.01, batch_size=2) for path in (finished_training / MODEL_PATH, exported))
    assert file.class_names == model.class_names == ("dog", "kite")
    crops = [image, image[:, ::-1], image[::2]]
    for expected, found in zip(model(crops), file(crops), strict=True):
        assert len(found.scores) == 100
        assert found.scores == pytest.approx(expected.scores, abs=1e-4)
        near = np.abs(found.boxes[:, None] - expected.boxes).max(axis=2) < 0.1  # pixels; equal scores may change places
        assert near.any(axis=1).mean() > 0.98


def test_images_of_a_batch_are_computed_side_by_side_to_the_same_bits(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    net, images = load_onnx(exported, "cpu"), np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3)).astype(np.uint8)
    one_by_one = [net.score_priors(image[None]) for image in images]
    assert "one_thread_run" not in vars(net)  # it costs memory, and nothing has needed it
    for values, expected in zip(net.score_priors(images), zip(*one_by_one, strict=True), strict=True):
        assert values.tobytes() == np.concatenate(expected).tobytes()
    assert "one_thread_run" in vars(net)


def test_the_parts_of_an_image_are_shown_to_a_file_whose_batch_is_one(tmp_path: Path) -> None:
    """The file finds a kite in the upper left quarter of whatever it is shown, and a dog in the lower right one."""
    found = Detector(graph(tmp_path / "a.onnx"), tiles=4)(np.zeros((180, 180, 3), np.uint8))
    corners = [(name, *box) for name, box in zip(found.names, found.boxes.round().tolist(), strict=True)]
    assert {("kite", 0, 0, 90, 90), ("kite", 0, 0, 50, 50), ("dog", 90, 90, 180, 180), ("dog", 130, 130, 180, 180)} < {*corners}
    assert len(corners) == 2 * 5


def test_a_file_is_known_by_its_suffix_and_says_its_classes(tmp_path: Path) -> None:
    detector = Detector(graph(tmp_path / "a.ONNX", ABOUT | {"source_ids": "[18, 38]"}))
    found = detector(np.zeros((100, 200, 3), np.uint8))
    assert found.names == ("kite", "dog")
    assert found.boxes.tolist() == [[0, 0, 100, 50], [100, 50, 200, 100]]
    assert (detector.source_ids, detector.image_size) == ((18, 38), 64)


def test_a_detector_reads_sixteen_bits_as_its_training_did(tmp_path: Path, exported: Path, finished_training: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((9, 9), 2000, np.uint16))
    for model in (exported, finished_training / MODEL_PATH):
        [(pixels, _)] = Detector(model, "cpu").stream([tmp_path / "deep.png"])
        assert (pixels == 2000 >> 8).all()
    trained = load_model(finished_training / MODEL_PATH)
    spec = replace(trained.spec, sixteen_bit_range=(1000, 3000))
    save_model(tmp_path / "ssd.pt", spec, trained.net.state_dict(), {})
    (tmp_path / "ssd.onnx").write_bytes(to_onnx(load_model(tmp_path / "ssd.pt"), opset=18))
    for name in ("ssd.pt", "ssd.onnx"):
        detector = Detector(tmp_path / name, "cpu")
        assert detector.sixteen_bit_range == (1000, 3000)
        [(pixels, _)] = detector.stream([tmp_path / "deep.png"])
        assert (pixels == 128).all()


def test_a_file_without_source_ids_counts_its_classes_from_1(tmp_path: Path) -> None:
    assert load_onnx(graph(tmp_path / "a.onnx"), "cpu").source_ids == (1, 2)


@pytest.mark.parametrize(("changes", "fault"), [
    ({"about": {}}, "its metadata has no image_size and no classes"),
    ({"about": ABOUT | {"image_size": "300"}}, r"its inputs and outputs are .*64.*; they must be .*300"),
    ({"about": ABOUT | {"classes": '["BACKGROUND", "dog"]'}}, r"its inputs .*; they must be .*'scores': \[1, 2, 2\]"),
    ({"about": ABOUT | {"sixteen_bit_range": "[9, 2]"}}, "metadata: sixteen_bit_range: found .*two whole numbers are needed"),
    ({"about": ABOUT | {"postprocess": '{"nms_iou": 7.0}'}}, "metadata postprocess: nms_iou: found 7.0"),
    ({"about": ABOUT | {"source_ids": "[18]"}}, "it has 1 source ids for 2 classes"),
    ({"input_name": "image"}, r"its inputs and outputs are \{'image': \[1, 3.*they must be \{'input_0'"),
])
def test_a_graph_of_another_kind_is_an_error_that_names_the_reason(tmp_path: Path, changes: dict, fault: str) -> None:
    with pytest.raises(InputError, match=rf"a.onnx: not an exported detector of this project.* \({fault}.*`dvc repro export`"):
        load_onnx(graph(tmp_path / "a.onnx", **changes), "auto")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_file_that_is_no_graph_is_the_same_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"a.onnx: not an exported detector of this project"):
        load_onnx(tmp_path / "a.onnx", "cpu")


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"missing. `dvc repro export`"):
        load_onnx(tmp_path / "a.onnx", "cpu")


def test_a_graph_that_outputs_nan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="nan or infinite"):
        Detector(graph(tmp_path / "a.onnx", scores=SCORES * np.nan))(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="CUDA is there")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_onnx_runtime_cannot_use_is_an_error_and_auto_does_without(tmp_path: Path, device: str) -> None:
    path = graph(tmp_path / "a.onnx")
    assert load_onnx(path, "auto").device == "cpu"
    with pytest.raises(StateError, match=rf"'{device}' is not available for .* has CPUExecutionProvider.*onnxruntime-gpu"):
        load_onnx(path, device)


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"], cwd=folder,
                          capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("torch", ["missing", "installed"])
def test_an_exported_file_needs_no_torch(tmp_path: Path, torch: str) -> None:
    graph(tmp_path / "a.onnx")
    hide = 'sys.modules["torch"] = sys.modules["torchvision"] = None' if torch == "missing" else ""
    names = run_python(f"{hide}\nimport numpy as np\nfrom ssd_lib import Detector\n"
                       "found = Detector('a.onnx')(np.zeros((10, 20, 3), np.uint8))\n"
                       "assert not sys.modules.get('torch')\nprint(*found.names)", tmp_path)
    assert names == "kite dog\n"


def test_the_command_needs_no_torch_for_an_exported_file(tmp_path: Path) -> None:
    graph(tmp_path / "a.onnx")
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((10, 20, 3), np.uint8))
    printed = run_python("from ssd_lib.cli import main\n"
                         "code = main(['detect', 'photo.png', '--model', 'a.onnx', '--out', 'drawn'])\nprint(code, "
                         "{'torch', 'torchvision', 'matplotlib'} & set(sys.modules))", tmp_path)
    assert printed.endswith("0 set()\n")
    assert (tmp_path / "drawn" / "photo.jpg").is_file()


def test_the_example_for_plain_onnx_runtime_finds_the_best_object(exported: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs/deployment.md").read_text()
    [example] = [code for code in re.findall("```python\n(.*?)```", page, flags=re.DOTALL) if "onnxruntime" in code]
    (tmp_path / "models").mkdir()
    (tmp_path / "models/ssd.onnx").write_bytes(exported.read_bytes())
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "photo.jpg"), image)
    best = Detector(exported, "cpu", threshold=0.0, top_k=1)(tmp_path / "photo.jpg")
    name, score, box = run_python(example, tmp_path).split(maxsplit=2)
    assert (name, float(score)) == (best.names[0], pytest.approx(float(best.scores[0]), abs=1e-4))
    assert [float(value) for value in box.strip("[] \n").split()] == pytest.approx(best.boxes[0].tolist(), abs=0.1)


def test_the_name_of_an_object_is_that_of_its_label(tmp_path: Path) -> None:
    detector = Detector(graph(tmp_path / "a.onnx"))
    found = detector(np.zeros((10, 20, 3), np.uint8))
    assert found.names == tuple(detector.class_names[label - 1] for label in found.labels)
