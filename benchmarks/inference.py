"""Milliseconds an image, decoding and NMS included, of every net and of torchvision's two SSDs, in one run.

    python -m benchmarks.inference

Weights are random, with the background of every net so strong that about `CANDIDATES` class scores of an image pass the
threshold, as in a trained one (see detection.py). The rounds go through all systems in turn; medians are printed.
"""

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large

from benchmarks.detection import background_bias, float_tensors, make_image, make_spec, raise_background, settle, stack
from ssd_lib.boxes.selection import Postprocess
from ssd_lib.export.onnx_file import as_input, to_onnx
from ssd_lib.nets.model_file import Model
from ssd_lib.nets.postprocess import detect, select_detections
from ssd_lib.nets.rewrite import fuse_batch_norms
from ssd_lib.nets.zoo import NETS

CLASSES, THRESHOLD, CANDIDATES = 90, 0.05, 200
BATCHES = (1, 16)
PARAMS = Postprocess(score_threshold=THRESHOLD)
REFERENCE = "torchvision ssdlite320_mobilenet_v3_large, 320 px"

Run = Callable[[Sequence[np.ndarray]], Any]


def main() -> None:
    """Measure every net and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    options = parser.parse_args()
    images = [make_image(seed) for seed in range(max(BATCHES))]
    systems: dict[str, dict[str, Run]] = {REFERENCE: {"PyTorch": torchvision_run(ssdlite320_mobilenet_v3_large, images[0])}}
    systems["torchvision ssd300_vgg16, 300 px"] = {"PyTorch": torchvision_run(ssd300_vgg16, images[0])}
    for net in options.nets:
        for size in (300, 320) if net == "mb2-ssd-lite" else (300,):
            systems[f"{net}, {size} px"] = our_runs(net, size, images[0])
    times = measure(systems, images, options.rounds)
    reference = median(times[REFERENCE, "PyTorch", 1])
    print(f"ms an image, median of {options.rounds} rounds, {torch.get_num_threads()} threads, torch {torch.__version__}, "
          f"ONNX Runtime {onnxruntime.__version__}\n")
    print("| net | PyTorch, 1 | PyTorch, 16 | ONNX Runtime, 1 | ONNX Runtime, 16 | ssdlite320 takes (PyTorch, 1) |")
    print("|---|---|---|---|---|---|")
    for name, runs in systems.items():
        cells = [f"{1000 * median(times[name, runtime, batch]) / batch:.1f}" if runtime in runs else ""
                 for runtime in ("PyTorch", "ONNX Runtime") for batch in BATCHES]
        print(f"| {name} | {' | '.join(cells)} | {reference / median(times[name, 'PyTorch', 1]):.2f} times as long |")


def measure(systems: dict[str, dict[str, Run]], images: Sequence[np.ndarray],
            rounds: int) -> dict[tuple[str, str, int], list[float]]:
    """Return the seconds of every call, by system, runtime and batch; the systems take turns."""
    times: dict[tuple[str, str, int], list[float]] = {}
    for turn in range(rounds + 1):
        for name, runs in systems.items():
            for runtime, run in runs.items():
                run(images[:1])  # what ran before fills the caches, and its threads may still be awake
                for batch in BATCHES:
                    begin = time.perf_counter()
                    run(images[:batch])
                    if turn:  # the first warms up
                        times.setdefault((name, runtime, batch), []).append(time.perf_counter() - begin)
        gc.collect()
    return times


def our_runs(net: str, size: int, image: np.ndarray) -> dict[str, Run]:
    """Return one of our nets in both runtimes."""
    spec = make_spec(net, size, CLASSES)
    ssd = settle(spec.build(), torch.from_numpy(image))
    with torch.inference_mode():
        logits, _ = ssd(stack([image], size))
    raise_background(ssd.class_heads, background_bias(logits, CANDIDATES, THRESHOLD), CLASSES + 1)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads would keep the cores busy
    session = onnxruntime.InferenceSession(to_onnx(Model(ssd, spec, {}), opset=18), options, providers=["CPUExecutionProvider"])

    def in_onnx_runtime(images: Sequence[np.ndarray]) -> None:
        for each in images:
            scores, boxes = session.run(None, {"input_0": as_input(each, size)})
            select_detections(torch.from_numpy(scores[..., 1:]), torch.from_numpy(boxes), PARAMS)

    fused = fuse_batch_norms(ssd)  # as the Detector does
    return {"PyTorch": lambda images: detect(fused, stack(images, size), PARAMS), "ONNX Runtime": in_onnx_runtime}


def torchvision_run(make: Callable[..., nn.Module], image: np.ndarray) -> Run:
    """Return one of torchvision's detectors, which resizes and normalises by itself, with the same thresholds."""
    model = make(weights=None, weights_backbone=None, num_classes=CLASSES + 1, score_thresh=THRESHOLD, nms_thresh=0.45,
                 detections_per_img=100, topk_candidates=200)
    settle(model, torch.from_numpy(image))
    head = model.head.classification_head
    logits: list[Tensor] = []
    hook = head.register_forward_hook(lambda _, __, out: logits.append(out.detach()))
    with torch.inference_mode():
        model(float_tensors([image]))
    hook.remove()
    raise_background(head.module_list, background_bias(logits[0], CANDIDATES, THRESHOLD), CLASSES + 1)

    def run(images: Sequence[np.ndarray]) -> None:
        with torch.inference_mode():
            model(float_tensors(images))

    return run


if __name__ == "__main__":
    main()
