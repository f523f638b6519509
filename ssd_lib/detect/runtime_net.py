"""Load the files of another runtime than ONNX Runtime, as the export stage writes them for export.formats; without torch."""

from pathlib import Path

import numpy as np

from ssd_lib.detect.exported_net import ExportedNet, checked_metadata, exported_net, thread_count, wanted_shapes
from ssd_lib.errors import InputError, StateError, first_line
from ssd_lib.export.runtimes import RUNTIMES, open_runtime, read_about


def load_runtime(path: Path, device: str) -> ExportedNet:
    """Load an exported detector.

    Args:
        path: a folder of the export stage, such as models/openvino, or its first file, such as models/openvino/ssd.xml.
        device: "auto" | "cpu".

    Raises:
        StateError: a file or the package of the runtime is missing, or the device is a GPU.
        InputError: a file is damaged or not of this project.
    """
    about = read_about(path)
    title, folder = RUNTIMES[about.runtime].title, path if path.is_dir() else path.parent
    if device.startswith("cuda"):
        raise StateError(f"device: '{device}' is not available for {path}; {title} computes on the CPU here. Use device auto, "
                         "or models/ssd.pt.")
    try:
        values = checked_metadata(about.metadata)
        run = open_runtime(about.runtime, folder, thread_count())
        scores, boxes = run(np.zeros((1, 3, values.image_size, values.image_size), np.float32))
        wanted = wanted_shapes(values, 1, [*boxes.shape[1:2]])
        if [*scores.shape] != wanted["scores"] or [*boxes.shape] != wanted["boxes"]:
            raise ValueError(f"its outputs have the shapes {scores.shape} and {boxes.shape}; they must be {wanted}")
    except StateError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not an exported detector of this project ({first_line(error)}). `dvc repro export` "
                         "makes one.") from error
    return exported_net(run, lambda threads: open_runtime(about.runtime, folder, threads), values, "cpu", title)
