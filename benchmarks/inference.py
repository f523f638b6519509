"""Milliseconds an image, decoding and NMS included, of every net and of torchvision's two SSDs, in one run.

    python -m benchmarks.inference

Weights are random: speed depends on them through the number of boxes that reach the NMS alone, so the background of every
net is raised until about `CANDIDATES` class scores of an image pass the threshold, as in a trained one. Pictures are
photographs of the size of COCO's, made of noise at several scales. The rounds go through all systems in turn; medians are
printed.
"""

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssd300_vgg16, ssdlite320_mobilenet_v3_large

from ssd_lib.export import as_input, to_onnx
from ssd_lib.nets.fusion import fuse_batch_norms
from ssd_lib.nets.model_file import Model, NetSpec
from ssd_lib.nets.postprocess import Postprocess, detect, select_detections
from ssd_lib.nets.zoo import NETS

CLASSES, THRESHOLD, CANDIDATES = 90, 0.05, 200
PHOTO = (480, 640, 3)
BATCHES = (1, 16)
PARAMS = Postprocess(score_threshold=THRESHOLD)
REFERENCE = "torchvision ssdlite320_mobilenet_v3_large, 320 px"

Run = Callable[[Sequence[np.ndarray]], Any]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    options = parser.parse_args()
    pictures = [make_photo(seed) for seed in range(max(BATCHES))]
    systems: dict[str, dict[str, Run]] = {REFERENCE: {"PyTorch": torchvision_run(ssdlite320_mobilenet_v3_large, pictures[0])}}
    systems["torchvision ssd300_vgg16, 300 px"] = {"PyTorch": torchvision_run(ssd300_vgg16, pictures[0])}
    for net in options.nets:
        for size in (300, 320) if net == "mb2-ssd-lite" else (300,):
            systems[f"{net}, {size} px"] = our_runs(net, size, pictures[0])
    times = measure(systems, pictures, options.rounds)
    reference = median(times[REFERENCE, "PyTorch", 1])
    print(f"ms an image, median of {options.rounds} rounds, {torch.get_num_threads()} threads, torch {torch.__version__}, "
          f"ONNX Runtime {onnxruntime.__version__}\n")
    print("| net | PyTorch, 1 | PyTorch, 16 | ONNX Runtime, 1 | ONNX Runtime, 16 | ssdlite320 takes (PyTorch, 1) |")
    print("|---|---|---|---|---|---|")
    for name, runs in systems.items():
        cells = [f"{1000 * median(times[name, runtime, batch]) / batch:.1f}" if runtime in runs else ""
                 for runtime in ("PyTorch", "ONNX Runtime") for batch in BATCHES]
        print(f"| {name} | {' | '.join(cells)} | {reference / median(times[name, 'PyTorch', 1]):.2f} times as long |")


def measure(systems: dict[str, dict[str, Run]], pictures: Sequence[np.ndarray],
            rounds: int) -> dict[tuple[str, str, int], list[float]]:
    """Seconds of every call, by system, runtime and batch; the systems take turns."""
    times: dict[tuple[str, str, int], list[float]] = {}
    for turn in range(rounds + 1):
        for name, runs in systems.items():
            for runtime, run in runs.items():
                run(pictures[:1])  # whatever ran before has the caches, and its threads may still be awake
                for batch in BATCHES:
                    begin = time.perf_counter()
                    run(pictures[:batch])
                    if turn:  # the first warms up
                        times.setdefault((name, runtime, batch), []).append(time.perf_counter() - begin)
        gc.collect()
    return times


def our_runs(net: str, size: int, picture: np.ndarray) -> dict[str, Run]:
    """A net of ours, in both runtimes."""
    spec = NetSpec(net, size, 1.0, tuple(f"class {i}" for i in range(CLASSES)), tuple(range(1, CLASSES + 1)))
    ssd = settle(spec.build(), torch.from_numpy(picture))
    with torch.inference_mode():
        logits, _ = ssd(_stack([picture], size))
    raise_background([_last_bias(head) for head in ssd.class_heads], CLASSES + 1, logits)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its threads would keep the cores busy
    session = onnxruntime.InferenceSession(to_onnx(Model(ssd, spec, {}), opset=18), options, providers=["CPUExecutionProvider"])

    def in_onnx_runtime(pictures: Sequence[np.ndarray]) -> None:
        for each in pictures:
            scores, boxes = session.run(None, {"input_0": as_input(each, size)})
            select_detections(torch.from_numpy(scores[..., 1:]), torch.from_numpy(boxes), PARAMS)

    fused = fuse_batch_norms(ssd)  # as the Detector does
    return {"PyTorch": lambda pictures: detect(fused, _stack(pictures, size), PARAMS), "ONNX Runtime": in_onnx_runtime}


def torchvision_run(make: Callable[..., nn.Module], picture: np.ndarray) -> Run:
    """One of torchvision's, which resizes and normalises itself; with the same thresholds."""
    model = make(weights=None, weights_backbone=None, num_classes=CLASSES + 1, score_thresh=THRESHOLD, nms_thresh=0.45,
                 detections_per_img=100, topk_candidates=200)
    settle(model, torch.from_numpy(picture))
    heads = model.head.classification_head.module_list
    found: list[Tensor] = []
    hook = model.head.classification_head.register_forward_hook(lambda _, __, out: found.append(out.detach()))
    with torch.inference_mode():
        model(_tensors([picture]))
    hook.remove()
    raise_background([_last_bias(head) for head in heads], CLASSES + 1, found[0])

    def run(pictures: Sequence[np.ndarray]) -> None:
        with torch.inference_mode():
            model(_tensors(pictures))

    return run


def settle(model: nn.Module, picture: Tensor) -> Any:
    """Batch norms that have seen a picture, so that activations are of a size that a trained net's have; evaluation mode."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.train()
    small = cv2.resize(picture.numpy(), (320, 320))
    with torch.no_grad():
        for _ in range(30):
            if hasattr(model, "image_size"):
                model(_stack([small, small[:, ::-1]], model.image_size))
            else:
                model(_tensors([small, small[:, ::-1].copy()]))
    return model.eval()


def raise_background(biases: Sequence[Tensor], values: int, logits: Tensor) -> None:
    """Add to the background's bias until CANDIDATES scores of the (1, P, values) logits pass the threshold."""
    low, high = -20.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        shifted = logits.clone()
        shifted[..., 0] += middle
        passing = int((shifted.softmax(dim=-1)[..., 1:] >= THRESHOLD).sum())
        low, high = (middle, high) if passing > CANDIDATES else (low, middle)
    for bias in biases:
        bias.data.view(-1, values)[:, 0] += high


def make_photo(seed: int) -> np.ndarray:
    """Noise at several scales, uint8 RGB."""
    dice = np.random.default_rng(seed)
    layers = [cv2.resize(dice.uniform(0, 1, (side, side, 3)).astype(np.float32), PHOTO[1::-1]) for side in (4, 12, 40, 160)]
    return (np.mean(layers, axis=0) * 255).astype(np.uint8)


def _stack(pictures: Sequence[np.ndarray], size: int) -> Tensor:
    """(B, 3, size, size) uint8, as the detector makes it."""
    return torch.from_numpy(np.stack([cv2.resize(each, (size, size)) for each in pictures])).permute(0, 3, 1, 2)


def _tensors(pictures: Sequence[np.ndarray]) -> list[Tensor]:
    """What torchvision takes: float in [0, 1]."""
    return [torch.from_numpy(each).permute(2, 0, 1).float() / 255 for each in pictures]


def _last_bias(head: nn.Module) -> Tensor:
    return [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1].bias


if __name__ == "__main__":
    main()
