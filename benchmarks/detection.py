"""Nets and net outputs as those of a trained detector, for the benchmarks of postprocessing and of detection.

Weights are random, and speed depends on them only through the number of scores that reach non-maximum suppression. So the
background of a net is raised until about as many scores of an image pass the threshold as do in a trained one: of the demo's
trained net, with its six classes, it is 150 to 510, median 311.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import baseline
from ssd_lib import Detector
from ssd_lib.boxes.prior_levels import MOBILE_PRIORS
from ssd_lib.boxes.priors import make_priors
from ssd_lib.boxes.selection import Postprocess
from ssd_lib.export.onnx_file import to_onnx
from ssd_lib.nets.model_file import Model, NetSpec, save_model
from ssd_lib.nets.postprocess import Detections, decode_candidates, select_detections

CLASSES, CANDIDATES, OBJECTS, PRIORS_OF_AN_OBJECT = 80, 300, 7, 30
IMAGE_SHAPE = (480, 640, 3)
MAP_SIZES = [(side, side) for side in (19, 10, 5, 3, 2, 1)]  # of the mobile nets at 300 px: 3000 priors
PARAMS = Postprocess(score_threshold=baseline.SCORE_THRESHOLD)


class Outputs(NamedTuple):
    """(B, P, K + 1) logits and (B, P, 4) offsets of a net, and its (P, 4) priors."""

    logits: Tensor
    offsets: Tensor
    priors: Tensor


def make_spec(net: str = "mb2-ssd-lite", size: int = 300, classes: int = CLASSES) -> NetSpec:
    """Return a net with numbered classes."""
    return NetSpec(net, size, 1.0, tuple(f"class {i}" for i in range(classes)), tuple(range(1, classes + 1)))


def make_detectors(folder: Path) -> dict[str, Callable[[], object]]:
    """Return functions that detect on the same image with the same weights, by name; model files are written to `folder`."""
    image, spec = make_image(0), make_spec()
    net = settle(spec.build(), torch.from_numpy(image))
    with torch.inference_mode():
        logits, _ = net(torch.from_numpy(image[:300, :300].copy()).permute(2, 0, 1)[None])
    raise_background(net.class_heads, background_bias(logits, CANDIDATES, PARAMS.score_threshold), CLASSES + 1)
    save_model(folder / "ssd.pt", spec, net.state_dict(), {"fingerprint": "none"})
    (folder / "ssd.onnx").write_bytes(to_onnx(Model(net, spec, {}), opset=18))
    in_torch, in_onnx = (Detector(folder / name, device="cpu", threshold=PARAMS.score_threshold)
                         for name in ("ssd.pt", "ssd.onnx"))
    return {"PyTorch": lambda: in_torch(image), "ONNX Runtime": lambda: in_onnx(image),
            "baseline": lambda: baseline.detect(net, image)}


@torch.inference_mode()
def postprocess_ours(outputs: Outputs) -> list[Detections]:
    """Return the detections of a batch."""
    return select_detections(*decode_candidates(*outputs, PARAMS.score_threshold), PARAMS)


@torch.no_grad()
def postprocess_baseline(outputs: Outputs) -> list[list[Tensor]]:
    """Return the same, image by image and class by class."""
    return [baseline.postprocess(logits[None], offsets[None], outputs.priors)
            for logits, offsets in zip(outputs.logits, outputs.offsets, strict=True)]


def trained_outputs(batch: int, seed: int = 0) -> Outputs:
    """Make up outputs with some objects, each found best by the priors nearest to it, over a strong background."""
    rng = torch.Generator().manual_seed(seed)
    priors = make_priors(MOBILE_PRIORS, MAP_SIZES, 300)
    logits = torch.randn(batch, len(priors), CLASSES + 1, generator=rng)
    for image in logits:
        for _ in range(OBJECTS):
            center, side = torch.rand(2, generator=rng), 0.15 + 0.5 * torch.rand((), generator=rng)
            label = int(torch.randint(1, CLASSES + 1, (), generator=rng))
            distance = (priors[:, :2] - center).norm(dim=1) / side + (priors[:, 2:] / side).log().abs().amax(dim=1)
            nearest = distance.topk(PRIORS_OF_AN_OBJECT, largest=False).indices
            image[nearest, label] += torch.linspace(11, 3, PRIORS_OF_AN_OBJECT)
    logits[..., 0] += background_bias(logits, CANDIDATES * batch, PARAMS.score_threshold)
    return Outputs(logits, 0.5 * torch.randn(batch, len(priors), 4, generator=rng), priors)


def new_outputs(batch: int, seed: int = 0) -> Outputs:
    """Make up outputs of a net before training, in which every class has a score of about 1 / 81."""
    rng = torch.Generator().manual_seed(seed)
    priors = make_priors(MOBILE_PRIORS, MAP_SIZES, 300)
    return Outputs(0.1 * torch.randn(batch, len(priors), CLASSES + 1, generator=rng),
                   0.3 * torch.randn(batch, len(priors), 4, generator=rng), priors)


def background_bias(logits: Tensor, candidates: int, threshold: float) -> float:
    """Return what to add to the background's logits so that at most `candidates` scores reach the threshold."""
    low, high = -20.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        shifted = logits.clone()
        shifted[..., 0] += middle
        passing = int((shifted.softmax(dim=-1)[..., 1:] >= threshold).sum())
        low, high = (middle, high) if passing > candidates else (low, middle)
    return high


def raise_background(class_heads: Sequence[nn.Module] | nn.ModuleList, bias: float, values: int) -> None:
    """Add to the background's bias in the last convolution of every head, which has `values` outputs for each prior."""
    for head in class_heads:
        last = [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1]
        last.bias.data.view(-1, values)[:, 0] += bias


def settle(model: nn.Module, image: Tensor) -> Any:
    """Let batch norms see an image, so that activations are as large as those of a trained net.

    Return it in evaluation mode.
    """
    model.eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.train()
    small = cv2.resize(image.numpy(), (320, 320))
    with torch.no_grad():
        for _ in range(30):
            if hasattr(model, "image_size"):
                model(stack([small, small[:, ::-1]], model.image_size))
            else:
                model(float_tensors([small, small[:, ::-1].copy()]))
    return model.eval()


def make_image(seed: int) -> np.ndarray:
    """Return noise at several scales, uint8 RGB, as large as COCO's images."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.uniform(0, 1, (side, side, 3)).astype(np.float32), IMAGE_SHAPE[1::-1])
              for side in (4, 12, 40, 160)]
    return (np.mean(layers, axis=0) * 255).astype(np.uint8)


def stack(images: Sequence[np.ndarray], size: int) -> Tensor:
    """Return (B, 3, size, size) uint8, as the detector makes it."""
    return torch.from_numpy(np.stack([cv2.resize(image, (size, size)) for image in images])).permute(0, 3, 1, 2)


def float_tensors(images: Sequence[np.ndarray]) -> list[Tensor]:
    """Return what torchvision's detectors take: float in [0, 1]."""
    return [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
