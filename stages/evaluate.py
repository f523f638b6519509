"""Measure the trained model on the validation images; metrics, curves and drawn detections go to reports/."""

from ssd_lib.evaluate.evaluate import evaluate
from ssd_lib.params import load_params
from stages.runner import run


def main() -> str:
    """Evaluate; return one line of summary."""
    params = load_params("eval")
    return evaluate(params.eval, params.runtime)


if __name__ == "__main__":
    run(main)
