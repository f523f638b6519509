"""Files of other runtimes: about.json, which is compared before a library reads them, and conversion where it is installed."""

import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.project import write_params
from support.runtime_files import CONVERTED, METADATA, folder_of, installed

from ssd_lib.download.later_stages import check_before_download
from ssd_lib.errors import InputError, StateError
from ssd_lib.export.convert import convert
from ssd_lib.export.export import export, validation_inputs, write_format
from ssd_lib.export.onnx_file import TOLERANCE, JetsonNet, check_outputs, to_onnx
from ssd_lib.export.packages import PACKAGES, formats_fault, missing_package
from ssd_lib.export.runtimes import ABOUT_NAME, RUNTIMES, Run, for_threads, is_runtime_path, read_about
from ssd_lib.nets.model_file import MODEL_PATH, load_model
from ssd_lib.params import ExportParams

Damage = Callable[[Path], object]


def edited(**values: object) -> Damage:
    """Return a function that changes about.json in a folder."""
    def edit(folder: Path) -> None:
        about = json.loads((folder / ABOUT_NAME).read_text())
        (folder / ABOUT_NAME).write_text(json.dumps(about | values))
    return edit


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_folder_is_read_if_its_files_are_as_they_were_written(tmp_path: Path, runtime: str) -> None:
    folder = folder_of(runtime, tmp_path)
    first = folder / RUNTIMES[runtime].files[0]
    assert read_about(folder) == read_about(first)
    assert read_about(first).runtime == runtime
    for name in RUNTIMES[runtime].files:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"x")
        with pytest.raises(InputError, match=rf"{name}: not the file that the export stage wrote"):
            read_about(folder)
        (folder / name).unlink()
        with pytest.raises(StateError, match=rf"{name}: missing"):
            read_about(folder)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(("damage", "fault"), [
    (lambda folder: (folder / ABOUT_NAME).write_bytes(b"<html>"), r"about.json: not JSON"),
    (lambda folder: (folder / ABOUT_NAME).write_bytes(b"[" * 100_000), r"about.json: not JSON"),
    (lambda folder: (folder / ABOUT_NAME).write_bytes(b"[]"), r"about.json: found a list of 0; a dict is needed"),
    (lambda folder: (folder / ABOUT_NAME).write_bytes(b"{}"), r"about.json: lacks runtime"),
    (edited(runtime="tvm"), r"its runtime is 'tvm' with the files .* this version knows openvino, ncnn, litert"),
    (edited(sha256={"ssd.xml": "0"}), r"its runtime is 'ncnn' with the files 'ssd.xml'"),
    (edited(metadata=METADATA | {"image_size": 96}), r"about.json: its metadata are not those that the export stage wrote"),
])
def test_a_damaged_about_json_is_one_error(tmp_path: Path, damage: Damage, fault: str) -> None:
    folder = folder_of("ncnn", tmp_path)
    damage(folder)
    with pytest.raises(InputError, match=fault):
        read_about(folder)


def test_a_file_that_begins_as_another_format_is_refused_even_if_its_hash_is_right(tmp_path: Path) -> None:
    folder = folder_of("ncnn", tmp_path, {"ssd.param": b"<html>not found</html>"})
    with pytest.raises(InputError, match=r"ssd.param: not a file of ncnn"):
        read_about(folder)


@pytest.mark.parametrize(("name", "is_one"), [("ssd.xml", True), ("SSD.XML", True), ("a.param", True), ("a.tflite", True),
                                              ("ssd.bin", False), ("ssd.onnx", False), ("ssd.pt", False)])
def test_a_file_of_another_runtime_is_known_by_its_suffix(name: str, is_one: bool, tmp_path: Path) -> None:
    assert is_runtime_path(tmp_path / name) == is_one


def test_the_file_to_give_is_named(tmp_path: Path) -> None:
    folder = folder_of("openvino", tmp_path)
    (folder / "other.xml").write_bytes(b"")
    with pytest.raises(InputError, match=r"other.xml: OpenVINO reads ssd.xml in this folder; give that"):
        read_about(folder / "other.xml")


def test_a_format_without_its_package_is_refused_before_anything_is_downloaded(project: Path,
                                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "ncnn", (("ncnn-of-nobody",), ("pnnx-of-nobody",)))
    write_params(Path("params.yaml"), export__formats=["onnx", "ncnn"])
    line = r"export.formats has ncnn, .*`pip install ncnn-of-nobody pnnx-of-nobody`, or leave it out"
    with pytest.raises(InputError, match=line):
        check_before_download(lambda _: "", formats_fault)
    before = sorted(Path("models").rglob("*"))
    with pytest.raises(InputError, match=line):
        export(ExportParams(opset=18, nms=False, int8=False, dynamic_batch=False, formats=["onnx", "ncnn"]))
    assert sorted(Path("models").rglob("*")) == before


def test_what_only_writes_a_format_is_not_needed_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGES, "ncnn", (("pydantic-core",), ("pnnx-of-nobody",)))  # the module of the first is pydantic_core
    assert (missing_package("ncnn", to_write=False), missing_package("ncnn")) == ("", "pnnx-of-nobody")


def test_a_format_that_is_not_asked_for_leaves_a_note_and_no_file(project: Path) -> None:
    folder_of("ncnn", Path("models"))
    assert write_format("ncnn", False, load_model(), b"", []) == ""
    note, = Path("models/ncnn").iterdir()
    assert "if export.formats in params.yaml has ncnn" in note.read_text(), "DVC warns of an empty folder"


@pytest.mark.slow
@pytest.mark.parametrize("runtime", CONVERTED)
def test_a_model_is_written_only_if_its_outputs_are_those_of_pytorch_and_always_the_same_bytes(runtime: str,
                                                                                               project: Path) -> None:
    installed(runtime)
    model = load_model(MODEL_PATH)
    graph, inputs = to_onnx(model, 18, "f00d"), validation_inputs(model.net.image_size)
    files, difference = convert(runtime, model, graph, inputs)
    assert difference < 1e-5
    assert convert(runtime, model, graph, inputs)[0] == files
    metadata = json.loads(files[ABOUT_NAME])["metadata"]
    assert (metadata["classes"], metadata["model_sha256"]) == (["BACKGROUND", "dog", "kite"], "f00d")
    assert not any(str(Path.cwd()).encode() in content for content in files.values()), "no path of the machine that wrote it"


def test_a_graph_that_is_not_of_the_model_is_not_converted(project: Path) -> None:
    installed("openvino")
    model = load_model(MODEL_PATH)
    shapes = {"scores": [1, 2, 3], "boxes": [1, 2, 4]}
    nodes = [helper.make_node("ReduceMean", ["input_0"], ["grey"], keepdims=0),
             *(helper.make_node("Mul", ["grey", f"{name}_of_priors"], [name]) for name in shapes)]
    graph = helper.make_model(helper.make_graph(
        nodes, "made", [helper.make_tensor_value_info("input_0", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(np.ones(shape, np.float32), f"{name}_of_priors") for name, shape in shapes.items()],
    ), opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()
    with pytest.raises(StateError, match=r"the outputs of OpenVINO have the shapes .*PyTorch's have .* Nothing was written"):
        convert("openvino", model, graph, validation_inputs(model.net.image_size))
    with pytest.raises(StateError, match=r"OpenVINO cannot run mb2-ssd-lite: .+\. Nothing was written. Take openvino out of"):
        convert("openvino", model, b"<html>", [])


@pytest.mark.slow
def test_a_converter_that_fails_is_one_error_with_its_last_words(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("ncnn")
    program = Path("pnnx.sh").absolute()
    program.write_text("#!/bin/sh\necho loading >&2\necho no such operator >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr("pnnx.EXEC_PATH", str(program))
    with pytest.raises(StateError, match=r"ncnn cannot run mb2-ssd-lite: pnnx ended with 3: .*no such operator.* Nothing was"):
        convert("ncnn", load_model(MODEL_PATH), b"", [])


def test_outputs_that_differ_from_those_of_pytorch_are_refused(project: Path) -> None:
    model = load_model(MODEL_PATH)
    [pixels] = validation_inputs(model.net.image_size)[:1]
    with torch.inference_mode():
        scores, boxes = (output.numpy() for output in JetsonNet(model.net)(torch.from_numpy(pixels)))
    difference = check_outputs(lambda _: (scores, boxes + TOLERANCE / 2), model, [pixels], "ncnn")
    assert difference == pytest.approx(TOLERANCE / 2, rel=0.1)
    with pytest.raises(StateError, match=r"ncnn differs from PyTorch by 1.0e-02; 0.0001 is allowed. Nothing was written"):
        check_outputs(lambda _: (scores + 0.01, boxes), model, [pixels], "ncnn")
    with pytest.raises(StateError, match="the outputs of ncnn have the shapes"):
        check_outputs(lambda _: (scores[0], boxes), model, [pixels], "ncnn")


def test_threads_that_compute_at_the_same_time_have_a_run_each() -> None:
    together, made = threading.Barrier(3), itertools.count()

    def make() -> Run:
        number = np.array(next(made))

        def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            together.wait(timeout=60)
            return number, pixels

        return run

    run = for_threads(make)
    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            assert sorted(int(number) for number, _ in pool.map(run, [np.zeros(1)] * 3)) == [0, 1, 2]
