"""Other runtimes than ONNX Runtime: the files that each of them reads, and how these are opened. It imports no torch.

A folder has the files of one runtime and about.json: the metadata of the ONNX file, their SHA-256 and that of each file. Some
libraries crash on a damaged file, or compute something from it, so that all is compared before one reads it.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_lib.errors import InputError, StateError
from ssd_lib.export.packages import missing_package
from ssd_lib.files import sha256, why_unreadable
from ssd_lib.plain_values import Strict, check, shown

ABOUT_NAME, METADATA = "about.json", "metadata"
HEAD = 16  # bytes of a file among which its mark is

# (1, 3, S, S) in [-1, 1] to (1, P, K + 1) scores and (1, P, 4) boxes; several threads may call it at the same time.
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Runtime(NamedTuple):
    """A row of `RUNTIMES`.

    Attributes:
        title: its name for people.
        files: names of its files; the first is the one to give to `Detector`, and begins with `mark`.
        mark: bytes near the beginning of the first file.
        open: returns what runs the files of a folder, with so many threads.
    """

    title: str
    files: tuple[str, ...]
    mark: bytes
    open: Callable[[Path, int], Run]


class AboutSchema(Strict):
    """about.json."""

    runtime: str
    sha256: dict[str, str]
    metadata: dict[str, Any]


def about(runtime: str, files: dict[str, bytes], metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the content of about.json."""
    contents = {**files, METADATA: _bytes(metadata)}
    return {"runtime": runtime, "metadata": metadata,
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}


def _bytes(metadata: dict[str, Any]) -> bytes:
    return json.dumps(metadata, sort_keys=True).encode()


def is_runtime_path(path: Path) -> bool:
    """Return whether a path is a folder with about.json, or a file that only another runtime reads."""
    return (path / ABOUT_NAME).is_file() or path.suffix.lower() in {Path(row.files[0]).suffix for row in RUNTIMES.values()}


def read_about(path: Path) -> AboutSchema:
    """Return about.json of a folder, or of the folder of a file, all of whose files are there and as they were written.

    Raises:
        StateError: a file is missing.
        InputError: about.json is not valid, or a file is not the one that was written.
    """
    folder = path if path.is_dir() else path.parent
    read = check(AboutSchema, _parsed(folder / ABOUT_NAME), str(folder / ABOUT_NAME))
    if read.runtime not in RUNTIMES or set(read.sha256) != {*RUNTIMES[read.runtime].files, METADATA}:
        raise InputError(f"{folder / ABOUT_NAME}: its runtime is {shown(read.runtime)} with the files "
                         f"{', '.join(map(shown, read.sha256))}; this version knows {', '.join(RUNTIMES)}, with other files. "
                         "`dvc repro export` makes them anew.")
    row = RUNTIMES[read.runtime]
    if hashlib.sha256(_bytes(read.metadata)).hexdigest() != read.sha256[METADATA]:
        raise InputError(f"{folder / ABOUT_NAME}: its metadata are not those that the export stage wrote. `dvc repro export` "
                         "makes it anew.")
    if path.is_file() and path.name != row.files[0]:
        raise InputError(f"{path}: {row.title} reads {row.files[0]} in this folder; give that.")
    for name in row.files:
        _refuse_missing(folder / name)
        if sha256(folder / name) != read.sha256[name]:
            raise InputError(f"{folder / name}: not the file that the export stage wrote, its SHA-256 differs from that in "
                             f"{ABOUT_NAME}. It is damaged or from another model; `dvc repro export` makes it anew.")
    with (folder / row.files[0]).open("rb") as file:
        if row.mark not in file.read(HEAD):
            raise InputError(f"{folder / row.files[0]}: not a file of {row.title}. `dvc repro export` makes one.")
    return read


def _parsed(path: Path) -> Any:
    _refuse_missing(path)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON. `dvc repro export` makes it anew.") from error


def _refuse_missing(path: Path) -> None:
    if not path.is_file():
        reason = why_unreadable(path) if path.exists() else "missing"
        raise StateError(f"{path}: {reason}. `dvc repro export` makes it if export.formats in params.yaml asks for it.")


def open_runtime(runtime: str, folder: Path, threads: int) -> Run:
    """Return what runs the files of a folder.

    Raises:
        StateError: the package of the runtime is not installed.
        ValueError, RuntimeError: the runtime cannot read the files.
    """
    if package := missing_package(runtime, to_write=False):
        raise StateError(f"{folder}: {RUNTIMES[runtime].title} is not installed. `pip install {package}`")
    return RUNTIMES[runtime].open(folder, threads)


@cache
def _openvino_core() -> Any:
    """Return the one Core of this process.

    Each Core changes the stack for signals (sigaltstack), and puts the one before it back when it goes. If the first of two
    Cores goes first, that one is freed memory, and the next signal ends Python by SIGSEGV.
    """
    import openvino

    return openvino.Core()


def _open_openvino(folder: Path, threads: int) -> Run:
    core = _openvino_core()
    # f32: where a processor has bfloat16 or float16 it would take that.
    compiled = core.compile_model(core.read_model(folder / "ssd.xml"), "CPU", {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads})

    def one() -> Run:
        request = compiled.create_infer_request()

        def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = request.infer(pixels)
            return found["scores"], found["boxes"]

        return run

    return for_threads(one)


def _open_ncnn(folder: Path, threads: int) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{kind}", False)
    if net.load_param(str(folder / "ssd.param")) or net.load_model(str(folder / "ssd.bin")):
        raise ValueError("ncnn cannot load it")

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, extractor = np.ascontiguousarray(pixels[0]), net.create_extractor()
        extractor.input("in0", ncnn.Mat(image).clone())  # a Mat does not keep its array alive
        scores, boxes = (_extracted(extractor, name) for name in ("out0", "out1"))
        return scores, boxes

    return run


def _extracted(extractor: Any, name: str) -> np.ndarray:
    code, values = extractor.extract(name)
    if code:
        raise ValueError(f"ncnn cannot compute {name}, code {code}")
    return np.array(values)[None]


def _open_litert(folder: Path, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    def one() -> Run:
        infer = Interpreter(str(folder / "ssd.tflite"), num_threads=threads).get_signature_runner()

        def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = infer(args_0=pixels)
            return found["output_0"], found["output_1"]

        return run

    return for_threads(one)


def for_threads(make: Callable[[], Run]) -> Run:
    """Return a function that several threads may call at the same time, each of which then has a `Run` of its own."""
    idle = [make()]

    def run(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            own = idle.pop()
        except IndexError:
            own = make()
        try:
            return own(pixels)
        finally:
            idle.append(own)

    return run


RUNTIMES = {
    "openvino": Runtime("OpenVINO", ("ssd.xml", "ssd.bin"), b"<?xml", _open_openvino),
    "ncnn": Runtime("ncnn", ("ssd.param", "ssd.bin"), b"7767517", _open_ncnn),
    "litert": Runtime("LiteRT", ("ssd.tflite",), b"TFL3", _open_litert),
}
