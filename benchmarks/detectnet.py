"""Compare what NVIDIA's detectnet finds with an exported file, imitated in ONNX Runtime, with what `Detector` finds.

    python -m benchmarks.detectnet models/ssd.onnx clip.mp4

Source: jetson-inference, read in November 2026: preProcess, postProcessSSD_ONNX, clusterDetections and postProcess in
c/detectNet.cpp, Detection in c/detectNet.h, and gpuTensorNormMean in c/tensorConvert.cu. TensorRT computes there what ONNX
Runtime computes here.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from ssd_lib import Detector
from ssd_lib.boxes.selection import ious
from ssd_lib.detect.detector import Objects
from ssd_lib.detect.video import open_video, read_frames

THRESHOLD, CLUSTERING = 0.5, 0.75  # detectnet's defaults
SAME_IOU, NEAR_IOU = 0.7, 0.5


class Agreement(NamedTuple):
    """Counts over all frames.

    Attributes:
        frames: number of them.
        ours: objects of the Detector.
        found: of these, detectnet has one of the same class with an IoU of at least SAME_IOU.
        theirs: objects of detectnet.
        near: of these, the Detector has one of the same class with an IoU of at least NEAR_IOU.
    """

    frames: int
    ours: int
    found: int
    theirs: int
    near: int


def main() -> None:
    """Print the agreement on a video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="models/ssd.onnx")
    parser.add_argument("video", type=Path)
    options = parser.parse_args()
    with open_video(options.video) as capture:
        counts = compare(options.model, read_frames(capture))
    print(f"{counts.frames} frames; of {counts.ours} objects of Detector, detectnet has {counts.found} (IoU {SAME_IOU}); of "
          f"{counts.theirs} of detectnet, Detector has {counts.near} (IoU {NEAR_IOU})")


def compare(model: Path, frames: Iterable[np.ndarray]) -> Agreement:
    """Count the objects that both have, at the same threshold.

    Args:
        model: a file of the export stage.
        frames: (H, W, 3) uint8 RGB each.
    """
    detector = Detector(model, "cpu", threshold=THRESHOLD)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pairs = [(ours, detectnet(session, frame)) for frame, ours in detector.stream(frames)]
    return Agreement(
        len(pairs), sum(len(ours.labels) for ours, _ in pairs), sum(shared(*pair, SAME_IOU) for pair in pairs),
        sum(len(theirs.labels) for _, theirs in pairs), sum(shared(theirs, ours, NEAR_IOU) for ours, theirs in pairs))


def detectnet(session: onnxruntime.InferenceSession, frame: np.ndarray) -> Objects:
    """Return what detectnet finds in a frame, the largest first, without names.

    Each prior is an object of its best class that is not the background, if that reaches THRESHOLD. An object that shares more
    than CLUSTERING of the larger area with an earlier one of its class is merged into it: their hull, and the higher score.
    """
    size = session.get_inputs()[0].shape[2]
    scores, boxes = (output[0] for output in session.run(["scores", "boxes"], {"input_0": preprocess(frame, size)}))
    labels, height, width = scores[:, 1:].argmax(axis=1) + 1, *frame.shape[:2]
    best = scores[np.arange(len(labels)), labels]
    merged: list[tuple[np.ndarray, int, float]] = []
    for prior in np.flatnonzero(best >= THRESHOLD):
        box, label, score = boxes[prior] * (width, height, width, height), int(labels[prior]), float(best[prior])
        same = (i for i, (other, its, _) in enumerate(merged) if its == label and _share_of_larger(box, other) > CLUSTERING)
        at = next(same, None)
        if at is None:
            merged.append((box, label, score))
        else:
            other, _, its_score = merged[at]
            hull = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
            merged[at] = (hull, label, max(score, its_score))
    merged.sort(key=lambda one: -float((one[0][2:] - one[0][:2]).prod()))
    hulls = np.array([box for box, _, _ in merged], np.float32).reshape(-1, 4)
    return Objects(hulls.clip(0, (width - 1, height - 1) * 2), np.array([label for _, label, _ in merged], np.int64),
                   np.array([score for _, _, score in merged], np.float32), ("",) * len(merged))


def preprocess(frame: np.ndarray, size: int) -> np.ndarray:
    """Return (1, 3, size, size) float32 in [-1, 1]: each pixel is one of the frame, its place rounded down; none is mixed."""
    rows, columns = (np.arange(size, dtype=np.float32) * np.float32(side / size) for side in frame.shape[:2])
    pixels = frame[rows.astype(int)][:, columns.astype(int)].astype(np.float32)
    return ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]


def shared(found: Objects, others: Objects, iou: float) -> int:
    """Return how many objects have one of the same class with at least this IoU among the others."""
    is_same = found.labels[:, None] == others.labels
    return int((is_same & (ious(found.boxes, others.boxes) >= iou)).any(axis=1).sum())


def _share_of_larger(one: np.ndarray, other: np.ndarray) -> float:
    overlap = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(min=0).prod()
    return float(overlap / max((box[2:] - box[:2]).prod() for box in (one, other)))


if __name__ == "__main__":
    main()
