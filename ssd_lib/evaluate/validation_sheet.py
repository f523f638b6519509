"""Draw images of a split with ground truth and detections side by side."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate.drawing import CROWD_COLOUR, TILE_PX, class_colour, draw_boxes, head, sheet
from ssd_lib.images import read_image
from ssd_lib.nets.postprocess import detect
from ssd_lib.nets.ssd import SSD


def validation_sheet(net: SSD, dataset: DetectionDataset, indices: Sequence[int], postprocess: Postprocess,
                     device: torch.device) -> np.ndarray:
    """Draw images of a split twice each: ground truth on the left, those detections on the right that people are shown.

    Args:
        net: on `device`; its mode is unchanged.
        dataset: a split without augmentation.
        indices: of the images to draw; may be empty.
        postprocess: thresholds and limits; `Postprocess.lowest_scores` with "auto" says what is shown.
        device: where to compute.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    heads = [head("ground truth"), head("detections")] * min(2, len(indices))
    pairs = [tile for index in indices for tile in _pair(net, dataset, index, postprocess, device)]
    return sheet([*heads, *pairs], columns=len(heads)) if pairs else head("no images: eval.pictures is 0")


def _pair(net: SSD, dataset: DetectionDataset, index: int, postprocess: Postprocess, device: torch.device) -> list[np.ndarray]:
    """Return an image with its ground truth, and the same image with its detections."""
    fixed, rows = dataset.fixed, slice(dataset.fixed.box_offsets[index], dataset.fixed.box_offsets[index + 1])
    image = read_image(dataset.path_of(fixed.file_name(index)), dataset.deep_range)
    scale = TILE_PX / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    truth = [(f"{fixed.class_names[label - 1]}{' (crowd)' * crowd}", CROWD_COLOUR if crowd else class_colour(label))
             for label, crowd in zip(fixed.labels[rows].tolist(), fixed.is_crowd[rows].tolist(), strict=True)]
    pixels = torch.from_numpy(dataset[0, index].image).permute(2, 0, 1)[None].to(device)
    found = detect(net, pixels, postprocess)[0]
    lowest = torch.tensor(postprocess.lowest_scores("auto", len(fixed.class_names)), device=found.scores.device)
    shown = found.scores >= lowest[found.labels - 1]
    labels, scores = found.labels[shown].tolist(), found.scores[shown].tolist()
    return [
        draw_boxes(image, fixed.boxes[rows] * scale, [name for name, _ in truth], [colour for _, colour in truth]),
        draw_boxes(image, found.boxes[shown].cpu().numpy() * (width, height, width, height),
                   [f"{fixed.class_names[k - 1]} {score:.2f}" for k, score in zip(labels, scores, strict=True)],
                   [class_colour(k) for k in labels]),
    ]
