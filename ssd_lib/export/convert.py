"""Convert a model to the files of other runtimes, and compare their outputs with PyTorch's."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from ssd_lib.errors import StateError, first_line
from ssd_lib.export.onnx_file import JetsonNet, check_outputs, quiet
from ssd_lib.export.runtimes import ABOUT_NAME, RUNTIMES, about, open_runtime
from ssd_lib.nets.model_file import Model
from ssd_lib.nets.rewrite import fuse_batch_norms

TEXTS = ("net", "fingerprint", "model_sha256", "precision")  # metadata of the ONNX file that are not JSON


def convert(runtime: str, model: Model, graph: bytes, inputs: Sequence[np.ndarray]) -> tuple[dict[str, bytes], float]:
    """Return the files of a runtime, about.json the last of them, and the largest difference of its outputs from PyTorch's.

    Args:
        runtime: a key of `RUNTIMES`.
        model: a trained detector.
        graph: of `to_onnx`, of the same model.
        inputs: (1, 3, S, S) float32 in [-1, 1], at least one.

    Raises:
        StateError: the net cannot be converted, or the outputs differ by more than the ONNX file's may.
    """
    title, hint = RUNTIMES[runtime].title, f"Nothing was written. Take {runtime} out of export.formats, and report it."
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            CONVERTERS[runtime](model, graph, folder)
            run = open_runtime(runtime, folder, threads=1)
            difference = check_outputs(run, model, inputs, title)
        except StateError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise StateError(f"export: {title} cannot run {model.spec.net}: {first_line(error)}. {hint}") from error
        files = {name: (folder / name).read_bytes() for name in RUNTIMES[runtime].files}
    metadata = {entry.key: entry.value if entry.key in TEXTS else json.loads(entry.value)
                for entry in onnx.load_from_string(graph).metadata_props}
    files[ABOUT_NAME] = (json.dumps(about(runtime, files, metadata), indent=1, ensure_ascii=False) + "\n").encode()
    return files, difference


def _to_openvino(_: Model, graph: bytes, folder: Path) -> None:
    import openvino

    read = openvino.Core().read_model(graph)
    for number, node in enumerate(read.get_ordered_ops()):  # its own names count on from one conversion to the next
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
    openvino.save_model(read, folder / "ssd.xml", compress_to_fp16=False)


def _to_ncnn(model: Model, _: bytes, folder: Path) -> None:
    import pnnx

    size = model.net.image_size
    with quiet(), torch.no_grad():
        torch.jit.trace(_plain(model), torch.zeros(1, 3, size, size), check_trace=False).save(folder / "net.pt")
    done = subprocess.run([pnnx.EXEC_PATH, "net.pt", f"inputshape=[1,3,{size},{size}]", "fp16=0"], cwd=folder, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pnnx ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    for suffix in ("param", "bin"):
        (folder / f"net.ncnn.{suffix}").rename(folder / f"ssd.{suffix}")


def _to_litert(model: Model, _: bytes, folder: Path) -> None:
    with quiet():
        import litert_torch

        size = model.net.image_size
        litert_torch.convert(_plain(model), (torch.zeros(1, 3, size, size),)).export(str(folder / "ssd.tflite"))


def _plain(model: Model) -> JetsonNet:
    return JetsonNet(fuse_batch_norms(model.net)).eval()


CONVERTERS = {"openvino": _to_openvino, "ncnn": _to_ncnn, "litert": _to_litert}
