"""Milliseconds from a picture in memory to its objects: the Detector in PyTorch and in ONNX Runtime, and the predecessors' way.

    python -m benchmarks.detection

The net is mb2-ssd-lite at 300 px with 80 classes, its weights random but with a background so strong that some 200 scores pass
the threshold of 0.01. One picture at a time; the ways take turns.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.inference import make_photo, settle
from benchmarks.postprocess import CANDIDATES, CLASSES, background_bias
from benchmarks.reference_postprocess import SCORE_FLOOR, detect_plain
from ssd_lib import Detector
from ssd_lib.export import to_onnx
from ssd_lib.nets.model_file import Model, NetSpec, save_model

SPEC = NetSpec("mb2-ssd-lite", 300, 1.0, tuple(f"class {i}" for i in range(CLASSES)), tuple(range(1, CLASSES + 1)))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        times = measure(make_ways(Path(folder)), rounds)
    plain = median(times["plain"])
    print(f"ms a picture, {rounds} rounds, {torch.get_num_threads()} threads\n\n| | median | min to max | ratio |")
    print("|---|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {1000 * median(values):.1f} | {1000 * min(values):.1f} to {1000 * max(values):.1f} | "
              f"{plain / median(values):.2f} |")


def make_ways(folder: Path) -> dict[str, Callable[[], object]]:
    """Every way to detect on the same picture with the same weights."""
    photo = make_photo(0)
    net = settle(SPEC.build(), torch.from_numpy(photo))
    with torch.inference_mode():
        logits, _ = net(torch.from_numpy(photo[:300, :300].copy()).permute(2, 0, 1)[None])
    bias = background_bias(logits, CANDIDATES)
    for head in net.class_heads:
        last = [module for module in head.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        last.bias.data.view(-1, CLASSES + 1)[:, 0] += bias
    save_model(folder / "ssd.pt", SPEC, net.state_dict(), {"fingerprint": "none"})
    (folder / "ssd.onnx").write_bytes(to_onnx(Model(net, SPEC, {}), opset=18))
    in_torch, in_onnx = (Detector(folder / name, device="cpu", threshold=SCORE_FLOOR) for name in ("ssd.pt", "ssd.onnx"))
    return {"plain": lambda: detect_plain(net, photo), "PyTorch": lambda: in_torch(photo),
            "ONNX Runtime": lambda: in_onnx(photo)}


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            way()  # whatever ran before has the caches, and its threads may still be awake
            begin = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
