"""Train a YOLO of the package ultralytics with its defaults, and detect with its own evaluation.

Run as a file by the Python that has the package (`--ultralytics-python`), in a folder that it may write to. The package is AGPL
and no requirement of the project; nothing else of the project is imported.
"""

import argparse
import json
import time
from pathlib import Path


def main() -> None:
    """Train from random weights, detect on the test images, and write detections.json and about.json."""
    begin = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="such as yolo11n")
    parser.add_argument("data", help="its YAML file")
    for name in ("epochs", "seed", "threads", "size"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--speed-only", action="store_true", help="do not detect, and keep the mosaic also in the last epochs")
    options = parser.parse_args()
    from ultralytics import YOLO
    from ultralytics.utils import torch_utils

    torch_utils.NUM_THREADS = options.threads  # it would leave one core idle
    here, device = str(Path.cwd()), "cpu"
    model = YOLO(f"{options.model}.yaml")
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    model.train(data=options.data, epochs=options.epochs, imgsz=options.size, seed=options.seed, device=device, plots=False,
                workers=options.threads, project=here, name="train", exist_ok=True,
                **({"close_mosaic": 0} if options.speed_only else {}))
    seconds = time.perf_counter() - begin
    Path("about.json").write_text(json.dumps({"seconds": seconds, "parameters": parameters}))
    if options.speed_only:
        return
    best = YOLO(Path("train/weights/best.pt"))
    best.val(data=options.data, split="test", imgsz=options.size, device=device, plots=False, save_json=True,
             workers=options.threads, project=here, name="test", exist_ok=True)
    found = Path("test/predictions.json")  # not written if nothing was detected
    Path("detections.json").write_text(found.read_text() if found.exists() else "[]")


if __name__ == "__main__":
    main()
