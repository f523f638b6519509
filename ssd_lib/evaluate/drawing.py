"""Draw boxes with names and scores, and arrange images on a sheet, without torch: detection with an ONNX file uses it."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ssd_lib.errors import visible
from ssd_lib.files import atomic_write

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


def head(text: str) -> np.ndarray:
    """Return a strip with a line of text, as wide as a tile: (HEAD_PX, TILE_PX, 3) uint8."""
    strip = np.full((HEAD_PX, TILE_PX, 3), PAPER, dtype=np.uint8)
    return cv2.putText(strip, text, (2, HEAD_PX - 8), FONT, 0.5, INK, 1, cv2.LINE_AA)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB image atomically, in the format of the suffix."""
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with atomic_write(path) as file:
        file.write(data.tobytes())


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
