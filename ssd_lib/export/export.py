"""The export stage: models/ssd.onnx, the graph with NMS, the INT8 files and reports/export.json, from models/ssd.pt."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from ssd_lib.annotations.fixed_set import BACKGROUND_NAME
from ssd_lib.errors import InputError
from ssd_lib.evaluate.validation_ap import split_images
from ssd_lib.export.convert import convert
from ssd_lib.export.gate import MAX_LOSS, make_int8
from ssd_lib.export.nms import check_nms, with_nms
from ssd_lib.export.onnx_file import as_input, check_any_batch, check_onnx, to_onnx
from ssd_lib.export.packages import formats_fault
from ssd_lib.export.runtimes import RUNTIMES
from ssd_lib.files import atomic_write, sha256, write_json, write_text
from ssd_lib.images import FULL_RANGE, Range, read_image
from ssd_lib.nets.model_file import MODEL_PATH, Model, load_model
from ssd_lib.params import ExportParams

ONNX_PATH = Path("models/ssd.onnx")
LABELS_PATH = Path("models/labels.txt")
REPORT_PATH = Path("reports/export.json")
NMS_FOLDER = Path("models/with_nms")  # it has only a note if export.nms is false: DVC requires its outs to exist
NMS_NOTE = "The graph with NMS, ssd.onnx, is written here if export.nms in params.yaml is true.\n"
BATCH_FOLDER = Path("models/dynamic_batch")  # likewise
BATCH_NOTE = "The graph for batches, ssd.onnx, is written here if export.dynamic_batch in params.yaml is true.\n"
INT8_FOLDER = Path("models/int8")  # likewise
FORMAT_FOLDERS = {name: Path("models") / name for name in RUNTIMES}  # likewise
COMPARED_IMAGES = 4  # validation images to compare ONNX Runtime and PyTorch on


def export(params: ExportParams) -> str:
    """Write models/ssd.onnx, models/labels.txt and reports/export.json from models/ssd.pt, and what `params` asks for.

    Guarantees: the files appear only after ONNX Runtime gave PyTorch's numbers from them, on noise and, if they are on this
    machine, on validation images; an INT8 file, only after its AP.

    Returns:
        One line of summary, one on INT8, and a warning for each TensorRT engine that the Jetson would use instead of the file.

    Raises:
        InputError: a package for one of the formats is missing.
        StateError: there is no model, or the exported graph is not as required.
    """
    if fault := formats_fault(params.formats):
        raise InputError(f"{fault}.")
    model = load_model()
    inputs = [*validation_inputs(model.net.image_size, model.spec.sixteen_bit_range), _noise(model.net.image_size)]
    graph = to_onnx(model, params.opset, sha256(MODEL_PATH))
    error = check_onnx(graph, model, params.opset, inputs)
    ended = of_batches = None
    if params.nms:
        ended = with_nms(onnx.load_from_string(graph), model.postprocess).SerializeToString()
        check_nms(ended, graph, inputs, model.postprocess)
    if params.dynamic_batch:
        of_batches = to_onnx(model, params.opset, sha256(MODEL_PATH), any_batch=True)
        check_any_batch(of_batches, model, inputs)
    _write_or_note(NMS_FOLDER, ended, NMS_NOTE)
    _write_or_note(BATCH_FOLDER, of_batches, BATCH_NOTE)
    write_text(LABELS_PATH, "\n".join([BACKGROUND_NAME, *model.spec.class_names]) + "\n")
    _write(ONNX_PATH, graph)
    lines = [write_format(name, name in params.formats, model, graph, inputs) for name in RUNTIMES]
    stale = [f"\nWARNING {engine}: built from an earlier model; the Jetson uses it instead of {ONNX_PATH.name}. Delete it."
             for engine in sorted(ONNX_PATH.parent.glob("*.engine"))]
    compared = (f"{len(inputs) - 1} validation images" if len(inputs) > 1
                else "noise (the validation images are not on this machine)")
    return (f"export: {ONNX_PATH}{f' and {NMS_FOLDER / ONNX_PATH.name}' * params.nms}"
            f"{f' and {BATCH_FOLDER / ONNX_PATH.name}' * params.dynamic_batch}, {len(graph) / 1e6:.1f} MB, opset "
            f"{params.opset}, {len(model.net.priors)} priors, differs from PyTorch by {error:.1e} at most on {compared}\n"
            f"{''.join(lines)}{write_int8(graph, params.int8)}{''.join(stale)}")


def validation_inputs(image_size: int, deep_range: Range = FULL_RANGE) -> list[np.ndarray]:
    """Return some validation images as inputs of the graph; none if they or their list are not on this machine."""
    images = split_images("val", COMPARED_IMAGES)
    return [as_input(read_image(path, deep_range), image_size) for path in images.paths] if images else []


def write_format(runtime: str, is_wanted: bool, model: Model, graph: bytes, inputs: Sequence[np.ndarray]) -> str:
    """Write the files of another runtime, or a note if they are not asked for; return a line of summary, "" for a note."""
    folder = FORMAT_FOLDERS[runtime]
    shutil.rmtree(folder, ignore_errors=True)
    if not is_wanted:
        write_text(folder / "README.txt", f"The files of {RUNTIMES[runtime].title} are written here if export.formats in "
                                          f"params.yaml has {runtime}.\n")
        return ""
    files, error = convert(runtime, model, graph, inputs)
    for name, content in files.items():
        _write(folder / name, content)
    return (f"{runtime}: {folder / next(iter(files))}, {sum(map(len, files.values())) / 1e6:.1f} MB, differs from PyTorch by "
            f"{error:.1e} at most\n")


def write_int8(graph: bytes, is_wanted: bool) -> str:
    """Write the INT8 files, or a note that says why there are none, and the report; return a line of summary."""
    shutil.rmtree(INT8_FOLDER, ignore_errors=True)
    if is_wanted:
        files, report = make_int8(graph)
    else:
        files, report = {}, {"no_int8": "export.int8 in params.yaml is false"}
    for name, content in files.items():
        _write(INT8_FOLDER / name, content)
    if not files:
        write_text(INT8_FOLDER / "README.txt", f"There is no INT8 file: {report['no_int8']}.\n")
    write_json(REPORT_PATH, report, indent=1)
    if ONNX_PATH.name not in files:
        return f"int8: none; {report['no_int8']}"
    made = report["int8"][ONNX_PATH.name]
    floats = f", {len(made['float_nodes'])} nodes stay float" if made["float_nodes"] else ""
    return (f"int8: {INT8_FOLDER / ONNX_PATH.name}, {made['bytes'] / 1e6:.1f} MB, AP {made['AP']:.3f} on "
            f"{report['images']['val']} validation images, in float {report['fp32']['AP']:.3f}; {MAX_LOSS} less is allowed"
            f"{floats}")


def _noise(image_size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (1, 3, image_size, image_size)).astype(np.float32)


def _write_or_note(folder: Path, graph: bytes | None, note: str) -> None:
    """Write a graph as the only file of a folder, or a note in its place."""
    shutil.rmtree(folder, ignore_errors=True)
    if graph is None:
        write_text(folder / "README.txt", note)
    else:
        _write(folder / ONNX_PATH.name, graph)


def _write(path: Path, graph: bytes) -> None:
    with atomic_write(path) as file:
        file.write(graph)
