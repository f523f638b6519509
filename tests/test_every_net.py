"""Exported nets give the detections of PyTorch on a real image, and jetson-inference's decoding finds the same objects."""

import zipfile
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from support.nets import only_quick
from torch import Tensor, nn
from torchvision.ops import box_iou

from benchmarks.detectnet import compare
from ssd_lib import Detector
from ssd_lib.boxes.loss import detection_loss
from ssd_lib.boxes.matching import match_priors
from ssd_lib.detect.detector import Objects
from ssd_lib.detect.video import open_video, read_frames
from ssd_lib.export.onnx_file import as_input, check_onnx, to_onnx
from ssd_lib.images import decode_image
from ssd_lib.nets.model_file import NetSpec, load_model, save_model
from ssd_lib.nets.ssd import SSD, Scores
from ssd_lib.nets.zoo import NETS

NAMES = ("cat", "dog", "kite")
SCORES: dict[str, Scores] = {name: "softmax" if row.criterion.class_loss == "multibox" else "sigmoid"
                             for name, row in NETS.items()}


@pytest.fixture(scope="module")
def image(shared_data: Path) -> np.ndarray:
    """Return an image of COCO."""
    with zipfile.ZipFile(shared_data / "coco-mirror/zips/val2017.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        pixels = decode_image(archive.read(names[0]))
    assert pixels is not None
    return pixels


def _calibrate(net: SSD, image: np.ndarray) -> SSD:
    """Set the statistics of batch norms from an image and scale the heads: outputs vary like those of a trained net."""
    pixels = torch.from_numpy(as_input(image, net.image_size)) * 127.5 + 127.5
    for module in net.eval().modules():
        module.train(isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        for _ in range(4):
            net(torch.cat([pixels, pixels.flip(3)]))
        net.eval()
        predictors = net.class_heads.predictors()
        for predictor in predictors:
            cast(Tensor, predictor.bias).zero_()
        logits = net(pixels)[0][0]
        scale = 2 / logits.std(dim=0).mean()
        for predictor in predictors:
            predictor.weight *= scale
            cast(Tensor, predictor.bias).view(-1, net.columns).sub_(scale * logits.mean(dim=0))
    return net


@pytest.mark.parametrize("name", only_quick(NETS))
def test_an_exported_net_has_the_detections_of_pytorch_on_a_real_image(name: str, image: np.ndarray, tmp_path: Path) -> None:
    spec = NetSpec(name, 300, 1.0, NAMES, (1, 2, 3), scores=SCORES[name])
    save_model(tmp_path / "ssd.pt", spec, _calibrate(spec.build(seed=1), image).state_dict(), {})
    model = load_model(tmp_path / "ssd.pt")
    graph = to_onnx(model, opset=18)
    check_onnx(graph, model, 18, [as_input(image, 300)])
    (tmp_path / "ssd.onnx").write_bytes(graph)
    ours, exported = (Detector(tmp_path / file, "cpu", threshold=0.2, top_k=20)(image) for file in ("ssd.pt", "ssd.onnx"))
    assert len(ours.scores) == len(exported.scores) == 20
    for one, other in ((ours, exported), (exported, ours)):  # NMS may decide differently on boxes at its threshold
        assert _matches(one, other, iou=0.99, score=1e-3) >= 15


@pytest.fixture(scope="module", params=["mb2-ssd-lite", "mb2-fpn"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """Return a folder with a model and its export, and four images with two objects each that the net has overfitted."""
    folder, name = tmp_path_factory.mktemp("trained"), request.param
    spec = NetSpec(name, 96, 0.25, NAMES, (1, 2, 3), scores=SCORES[name])
    boxes = torch.tensor([[[0.05, 0.1, 0.5, 0.6], [0.6, 0.5, 0.95, 0.95]], [[0.4, 0.3, 0.9, 0.8], [0.0, 0.0, 0.35, 0.3]],
                          [[0.0, 0.5, 0.4, 1.0], [0.5, 0.0, 1.0, 0.5]], [[0.1, 0.1, 0.6, 0.5], [0.3, 0.55, 0.9, 0.98]]])
    labels = torch.tensor([[1, 2], [3, 1], [2, 3], [1, 2]])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 120, (4, 3, 96, 96), dtype=torch.uint8, generator=generator)
    for image, rows, row_labels in zip(images, boxes, labels, strict=True):
        for (x1, y1, x2, y2), label in zip((rows * 96).int().tolist(), row_labels.tolist(), strict=True):
            image[label - 1, y1:y2, x1:x2] = 250
    net = spec.build(seed=1).train()
    optimizer, criterion = torch.optim.Adam(net.parameters(), lr=5e-3), NETS[name].criterion
    for _ in range(120):
        per_level = net.priors_per_map if criterion.assignment == "atss" else ()
        matched, targets = match_priors(boxes, labels, torch.zeros(4, 0, 4), net.priors_xyxy, per_level=per_level)
        sums = detection_loss(*net(images), targets, matched, net.priors, criterion)
        optimizer.zero_grad()
        ((sums.classification + sums.box) / sums.positives).backward()
        optimizer.step()
    with torch.no_grad():
        for _ in range(40):
            net(images)  # update the statistics of batch norms
    save_model(folder / "ssd.pt", spec, net.state_dict(), {})
    (folder / "ssd.onnx").write_bytes(to_onnx(load_model(folder / "ssd.pt"), opset=18))
    return folder, [image.permute(1, 2, 0).numpy() for image in images]


@pytest.mark.slow
def test_detectnet_finds_the_objects_of_the_detector_in_a_video(trained: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    folder, images = trained
    shape = (192, 288)  # (height, width): two and three times the net's input, so that all ways to resize give the same
    writer = cv2.VideoWriter(str(tmp_path / "a.mkv"), cv2.VideoWriter.fourcc(*"FFV1"), 10, shape[::-1])
    for image in [*images, *images[::-1]]:
        writer.write(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_NEAREST)[..., ::-1].copy())
    writer.release()
    with open_video(tmp_path / "a.mkv") as capture:
        counts = compare(folder / "ssd.onnx", read_frames(capture))
    assert (counts.frames, counts.ours, counts.found) == (8, 16, 16)
    assert counts.near == counts.theirs


def _matches(found: Objects, others: Objects, iou: float, score: float) -> int:
    """Return how many objects are also in `others`, with scores that differ by at most `score`."""
    overlaps = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(others.boxes)).numpy()
    same = (found.labels[:, None] == others.labels) & (abs(found.scores[:, None] - others.scores) <= score)
    return int(((overlaps >= iou) & same).any(axis=1).sum())
