"""Things laid over each other on a canvas: projection, shadow, blending, and how much of each can still be seen. What
the things are, and where they lie, is decided in demo_scenes.py.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from ssd_lib.demo.brush import Sprite, to_bgr


class Place(NamedTuple):
    """Where a thing lies: its centre and diameter in pixels."""

    x: float
    y: float
    diameter: float


class Corner(NamedTuple):
    """Where a patch lies: its left and top in whole pixels, maybe outside the canvas."""

    left: int
    top: int


@dataclass
class Layer:
    """What can be seen of a thing: alpha over the whole canvas (H, W), and its area before it was cut or covered."""

    class_name: str  # "" for a shape of no class
    visible: np.ndarray
    full_area: float

    @property
    def visible_share(self) -> float:
        return float(self.visible.sum()) / self.full_area


@dataclass
class Stack:
    """A picture in the making: canvas (H, W, 3) float32 BGR in [0, 1], unit vector to the light, layers upwards."""

    canvas: np.ndarray
    light: np.ndarray
    layers: list[Layer] = field(default_factory=list)

    @property
    def short_side(self) -> int:
        return min(self.canvas.shape[:2])


def project(sprite: Sprite, place: Place, angle: float, squeeze: float) -> tuple[Sprite, Corner]:
    """Squeeze a sprite's width, turn it clockwise by `angle`, scale it to its place: a patch and its corner."""
    half = math.ceil(place.diameter * 0.53) + 2  # the sprite's margin and its blur
    corner = Corner(round(place.x) - half, round(place.y) - half)
    side = len(sprite.alpha)
    turn = rotation_2d(angle) @ np.diag([squeeze, 1.0]) * (place.diameter / side)
    middle = np.array([place.x - corner.left, place.y - corner.top]) - 0.5
    matrix = np.column_stack([turn, middle - turn @ np.full(2, (side - 1) / 2)])
    size = (2 * half, 2 * half)
    alpha = cv2.GaussianBlur(cv2.warpAffine(sprite.alpha, matrix, size), (3, 3), 0.6)
    return Sprite(cv2.warpAffine(sprite.colour, matrix, size, borderMode=cv2.BORDER_REPLICATE), alpha), corner


def lay(stack: Stack, patch: Sprite, corner: Corner, class_name: str, shadow: float) -> None:
    """Lay a patch with its shadow on top of the stack, and take what it covers from the layers below."""
    _cast_shadow(stack, patch.alpha * shadow, corner)
    here, there = _overlap(stack.canvas, patch.alpha, corner)
    alpha = patch.alpha[there]
    stack.canvas[here] += to_bgr(alpha) * (patch.colour[there] - stack.canvas[here])
    for layer in stack.layers:
        layer.visible[here] *= 1 - alpha
    visible = np.zeros(stack.canvas.shape[:2], np.float32)
    visible[here] = alpha
    stack.layers.append(Layer(class_name, visible, float(patch.alpha.sum())))


def rotation_2d(angle: float) -> np.ndarray:
    """Give the matrix that turns column vectors clockwise, as y points down."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def _cast_shadow(stack: Stack, darkness: np.ndarray, corner: Corner) -> None:
    """Darken the canvas beside a thing, on the side that is away from the light."""
    reach = float(np.clip(0.05 * min(darkness.shape), 2, 8))
    pad = math.ceil(3 * reach)
    padded = cv2.copyMakeBorder(darkness, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    shadow = cv2.GaussianBlur(padded, (0, 0), reach)
    right, down = (round(float(part)) for part in -1.6 * reach * stack.light[:2])
    here, there = _overlap(stack.canvas, shadow, Corner(corner.left - pad + right, corner.top - pad + down))
    stack.canvas[here] *= to_bgr(1 - shadow[there])


def _overlap(canvas: np.ndarray, patch: np.ndarray, corner: Corner) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slice the canvas and the patch to where they lie over each other."""
    here, there = [], []
    for start, length, part in zip((corner.top, corner.left), canvas.shape, patch.shape, strict=False):
        begin, end = min(max(start, 0), length), min(max(start + part, 0), length)
        here.append(slice(begin, end))
        there.append(slice(begin - start, end - start))
    return tuple(here), tuple(there)
