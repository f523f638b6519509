"""Draw boxes with names and scores, and sheets of images with ground truth and detections side by side."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.errors import visible
from ssd_lib.files import atomic_write
from ssd_lib.images import read_image
from ssd_lib.nets.postprocess import detect
from ssd_lib.nets.ssd import SSD

SHOWN_SCORE = 0.3  # detections with a lower score count for AP but are not drawn
Colour = tuple[int, int, int]  # RGB
CROWD_COLOUR = (150, 150, 150)
PAPER, INK, EDGE = (255, 255, 255), (60, 64, 67), (30, 30, 30)
TILE_PX, GAP_PX, HEAD_PX = 320, 8, 26
GOLDEN = 0.618034  # this step around the colour circle keeps consecutive labels far apart
SATURATIONS, VALUES = (0.85, 0.6), (0.95, 0.75)
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_PX = 30  # height of a line of text at scale 1


def draw_boxes(image: np.ndarray, boxes: np.ndarray, names: Sequence[str], colours: Sequence[Colour]) -> np.ndarray:
    """Return a copy of an image with boxes and names, the first box on top. A name without free space is left out.

    Args:
        image: (H, W, 3) uint8, RGB.
        boxes: (N, 4) xyxy in pixels.
        names: N texts.
        colours: N RGB colours, for example of `class_colour`.
    """
    result = np.ascontiguousarray(image).copy()
    line = max(2, round(min(image.shape[:2]) / 200))
    corners = boxes.round().astype(int).tolist()
    for (x1, y1, x2, y2), colour in list(zip(corners, colours, strict=True))[::-1]:
        cv2.rectangle(result, (x1, y1), (x2, y2), EDGE, line + 2)  # keeps the line visible on a background of its colour
        cv2.rectangle(result, (x1, y1), (x2, y2), colour, line)
    taken = np.zeros(image.shape[:2], dtype=bool)
    for box, name, colour in zip(corners, names, colours, strict=True):
        _draw_tag(result, taken, name, box, colour)
    return result


def class_colour(label: int) -> Colour:
    """Return the colour of a label: consecutive labels differ in hue, later ones with a similar hue in strength."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN % 1, SATURATIONS[label // 7 % 2], VALUES[label // 14 % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def sheet(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Arrange images of any size on a white page, row by row.

    Args:
        images: (H, W, 3) uint8 each, at least one.
        columns: images per row.
    """
    rows = [images[i:i + columns] for i in range(0, len(images), columns)]
    widths = [max(image.shape[1] for image in images[k::columns]) + GAP_PX for k in range(min(columns, len(images)))]
    heights = [max(image.shape[0] for image in row) + GAP_PX for row in rows]
    page = np.full((sum(heights) + GAP_PX, sum(widths) + GAP_PX, 3), PAPER, dtype=np.uint8)
    top = GAP_PX
    for row, height in zip(rows, heights, strict=True):
        left = GAP_PX
        for image, width in zip(row, widths, strict=False):  # the last row may be short
            page[top:top + image.shape[0], left:left + image.shape[1]] = image
            left += width
        top += height
    return page


def validation_sheet(net: SSD, dataset: DetectionDataset, indices: Sequence[int], postprocess: Postprocess,
                     device: torch.device) -> np.ndarray:
    """Draw images of a split twice each: ground truth on the left, detections of `SHOWN_SCORE` or more on the right.

    Args:
        net: on `device`; its mode is unchanged.
        dataset: a split without augmentation.
        indices: of the images to draw; may be empty.
        postprocess: thresholds and limits.
        device: where to compute.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    head = [_head("ground truth"), _head(f"detections, score {SHOWN_SCORE} or more")] * min(2, len(indices))
    pairs = [tile for index in indices for tile in _pair(net, dataset, index, postprocess, device)]
    return sheet([*head, *pairs], columns=len(head)) if pairs else _head("no images: eval.pictures is 0")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB image atomically, in the format of the suffix."""
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _pair(net: SSD, dataset: DetectionDataset, index: int, postprocess: Postprocess, device: torch.device) -> list[np.ndarray]:
    """Return an image with its ground truth, and the same image with its detections."""
    fixed, rows = dataset.fixed, slice(dataset.fixed.box_offsets[index], dataset.fixed.box_offsets[index + 1])
    image = read_image(dataset.path_of(fixed.file_name(index)))
    scale = TILE_PX / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    truth = [(f"{fixed.class_names[label - 1]}{' (crowd)' * crowd}", CROWD_COLOUR if crowd else class_colour(label))
             for label, crowd in zip(fixed.labels[rows].tolist(), fixed.is_crowd[rows].tolist(), strict=True)]
    pixels = torch.from_numpy(dataset[0, index].image).permute(2, 0, 1)[None].to(device)
    found = detect(net, pixels, postprocess)[0]
    shown = int((found.scores >= SHOWN_SCORE).sum())
    labels, scores = found.labels[:shown].tolist(), found.scores[:shown].tolist()
    return [
        draw_boxes(image, fixed.boxes[rows] * scale, [name for name, _ in truth], [colour for _, colour in truth]),
        draw_boxes(image, found.boxes[:shown].cpu().numpy() * (width, height, width, height),
                   [f"{fixed.class_names[k - 1]} {score:.2f}" for k, score in zip(labels, scores, strict=True)],
                   [class_colour(k) for k in labels]),
    ]


def _head(text: str) -> np.ndarray:
    strip = np.full((HEAD_PX, TILE_PX, 3), PAPER, dtype=np.uint8)
    return cv2.putText(strip, text, (2, HEAD_PX - 8), FONT, 0.5, INK, 1, cv2.LINE_AA)


def _draw_tag(image: np.ndarray, taken: np.ndarray, text: str, box: Sequence[int], colour: Colour) -> None:
    """Draw a name on a coloured patch at the first corner of the box, inside the image, that no other name covers."""
    text = visible(text, 60)
    scale = float(np.clip(min(image.shape[:2]) / 26, 11, 48)) / FONT_PX
    (width, height), below = cv2.getTextSize(text, FONT, scale, 1)
    pad = max(2, height // 4)
    wide, tall = width + 2 * pad, height + below + pad
    left = int(np.clip(box[0], 0, max(0, image.shape[1] - wide)))
    for edge in (box[1] - tall, box[1], box[3] - tall, box[3]):  # above, inside at the top, inside at the bottom, below
        top = int(np.clip(edge, 0, max(0, image.shape[0] - tall)))
        if not taken[top:top + tall, left:left + wide].any():
            taken[top:top + tall, left:left + wide] = True
            cv2.rectangle(image, (left, top), (left + wide - 1, top + tall - 1), colour, cv2.FILLED)
            start = (left + pad, top + height + pad // 2)
            cv2.putText(image, text, start, FONT, scale, _text_colour(colour), 1, cv2.LINE_AA)
            return


def _text_colour(colour: Colour) -> Colour:
    """Return black or white, whichever is readable on `colour`."""
    return (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else (255, 255, 255)
