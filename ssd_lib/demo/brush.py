"""What the painters of demo_shapes.py paint with: unit coordinates, soft-edged masks, light. It knows no class.

Unit coordinates have x to the right, y down and z to the viewer; the unit circle fills the canvas but for a margin.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

MARGIN = 0.94  # the unit circle's part of the canvas; what is left keeps soft edges on it
AMBIENT = 0.42  # brightness of a face turned away from the light; one turned to it has 1
SUBPIXEL_BITS = 4  # OpenCV's polygons take corners in sixteenths of a pixel


class Sprite(NamedTuple):
    """A painted thing: colour (n, n, 3) BGR and alpha (n, n), both float32 in [0, 1]."""

    colour: np.ndarray
    alpha: np.ndarray


class Look(NamedTuple):
    """What varies within a class: two BGR colours, the unit vector to the light (all float32), and the chances."""

    main: np.ndarray
    second: np.ndarray
    light: np.ndarray
    rng: np.random.Generator


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Give x and y of every pixel's centre, each (side, side)."""
    line = ((np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1) / MARGIN
    return np.broadcast_to(line, (side, side)), np.broadcast_to(line[:, None], (side, side))


def inside(distance: np.ndarray, side: int) -> np.ndarray:
    """Give the alpha of a form from all pixels' distances to its outline, negative inside; the edge is a pixel soft."""
    return np.clip(0.5 - distance * (side * MARGIN / 2), 0, 1).astype(np.float32)


def cover(corners: ArrayLike, side: int) -> np.ndarray:
    """Give the alpha of a polygon, with a soft edge."""
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, _pixels(corners, side), 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def fill(layer: np.ndarray, corners: ArrayLike, value: float | Sequence[float]) -> None:
    """Draw a polygon into `layer`, with a hard edge; seen from the front if its corners have a z."""
    cv2.fillPoly(layer, _pixels(corners, len(layer)), value, shift=SUBPIXEL_BITS)


def stroke(layer: np.ndarray, corners: ArrayLike) -> None:
    """Draw a thin line through the corners into `layer`."""
    side = len(layer)
    cv2.polylines(layer, _pixels(corners, side), False, 1.0, max(1, side // 60), shift=SUBPIXEL_BITS)


def polar(radii: float | np.ndarray, count: int) -> np.ndarray:
    """Give `count` points around the origin, (count, 2), the first one upwards."""
    angles = np.arange(count) * 2 * math.pi / count
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def rounded(corners: np.ndarray) -> np.ndarray:
    """Give a closed polygon with its corners cut twice (Chaikin's rule)."""
    for _ in range(2):
        after = np.roll(corners, -1, axis=0)
        corners = np.stack([0.75 * corners + 0.25 * after, 0.25 * corners + 0.75 * after], axis=1).reshape(-1, 2)
    return corners


def rotation(yaw: float, pitch: float) -> np.ndarray:
    """Give the matrix that turns row vectors about the upright axis, then about the level one."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return turn.astype(np.float32)


def brightness(normal: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Give the light that a face of this unit normal sends back, by Lambert's law."""
    return AMBIENT + (1 - AMBIENT) * np.clip(normal @ light, 0, 1)


def two_coloured(look: Look, is_second: np.ndarray) -> np.ndarray:
    """Give a colour field: the look's second colour where `is_second`, else its main one."""
    return np.stack([look.main, look.second]).take(is_second.astype(np.intp), axis=0)


def lit(colour: np.ndarray, normal: np.ndarray, look: Look, gloss: float) -> np.ndarray:
    """Shade a colour field by its field of normals and add a highlight (Blinn's, seen from the front)."""
    shaded = colour * to_bgr(brightness(normal, look.light))
    if gloss:
        halfway = look.light + np.array([0, 0, 1], np.float32)
        facing = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1)
        shaded += gloss * to_bgr(cv2.pow(facing, 40))
    return np.clip(shaded, 0, 1)


def to_bgr(values: np.ndarray) -> np.ndarray:
    """Give three equal channels, (H, W, 3); far faster to calculate with than broadcasting (H, W, 1)."""
    return cv2.cvtColor(values.astype(np.float32, copy=False), cv2.COLOR_GRAY2BGR)


def bled(colour: np.ndarray) -> np.ndarray:
    """Give a colour field that runs two pixels over its outline, so that a soft edge does not blend with black."""
    grown = cv2.dilate(colour, np.ones((5, 5), np.uint8))
    return np.where(colour.any(axis=-1, keepdims=True), colour, grown)


def _pixels(corners: ArrayLike, side: int) -> list[np.ndarray]:
    flat = np.asarray(corners, np.float64)[:, :2]
    return [np.round(((flat * MARGIN + 1) * side / 2 - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)]
