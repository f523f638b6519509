"""Write the trained model as models/ssd.onnx and models/labels.txt, and in INT8, each file checked in ONNX Runtime."""

from ssd_lib.export.export import export
from ssd_lib.params import load_params
from stages.runner import run


def main() -> str:
    """Export; one line of summary."""
    params = load_params("export")
    return export(params.export)


if __name__ == "__main__":
    run(main)
