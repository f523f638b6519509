"""Draw the things that demo images show, one at a time: six classes and two shapes of no class.

The classes differ in form, shading and pattern; colours are given from outside and are only a hint. Unit coordinates have x to
the right, y down and z to the viewer; the unit circle fills the canvas but for a margin. Where a thing lies is decided in
scenes.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

MARGIN = 0.94  # the unit circle's part of the canvas; what is left keeps soft edges on it
AMBIENT = 0.42  # brightness of a face turned away from the light; one turned to it has 1
SUBPIXEL_BITS = 4  # OpenCV's polygons take corners in sixteenths of a pixel
FORE_WING = ((0.02, -0.12), (0.3, -0.6), (0.72, -0.72), (0.93, -0.5), (0.78, -0.12), (0.45, 0.06), (0.02, 0.06))
HIND_WING = ((0.02, -0.02), (0.45, 0.06), (0.68, 0.26), (0.62, 0.6), (0.38, 0.8), (0.18, 0.62), (0.02, 0.2))
FORE_EYE, HIND_EYE = (0.52, -0.36), (0.38, 0.4)
WING_SLOPE = np.array([0.5, 0, 0.86])  # the left wings' normal: they stand up in a shallow V
BULGES = ((1, 0.14), (2, 0.08), (5, 0.04))  # of a pebble's outline: how many around it, how high
PIPS = ((0.0, 0.0), (-0.5, -0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, 0.0), (0.5, 0.0))  # of a half side


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


Painter = Callable[[int, Look], Sprite]  # the side of the canvas in pixels, the look


def to_bgr(values: np.ndarray) -> np.ndarray:
    """Return three equal channels, (H, W, 3); far faster to calculate with than broadcasting (H, W, 1)."""
    return cv2.cvtColor(values.astype(np.float32, copy=False), cv2.COLOR_GRAY2BGR)


def paint_ball(side: int, look: Look) -> Sprite:
    """Paint a glossy sphere in six panels of two colours, turned any way."""
    x, y = _grid(side)
    normal = np.stack([x, y, np.sqrt(np.clip(1 - x * x - y * y, 0, 1))], axis=-1)
    turned = normal @ _rotation(look.rng.uniform(0, 2 * math.pi), look.rng.uniform(0.3, 1.1))
    is_second = np.sin(3 * np.arctan2(turned[..., 1], turned[..., 0])) > 0
    return Sprite(_lit(_two_coloured(look, is_second), normal, look, gloss=0.6), _inside(np.hypot(x, y) - 1, side))


def paint_ring(side: int, look: Look) -> Sprite:
    """Paint a torus with four bands, as a life buoy has them, from the front or a little from the side."""
    tube, squeeze = look.rng.uniform(0.2, 0.27), look.rng.uniform(0.65, 1)
    x, y = _grid(side)
    y = y / squeeze
    radius = np.maximum(np.hypot(x, y), 1e-6)
    out = np.clip((radius - (1 - tube)) / tube, -1, 1)
    normal = np.stack([out * x / radius, out * y / radius, np.sqrt(1 - out * out)], axis=-1)
    is_band = np.cos(4 * np.arctan2(y, x)) > 0.5
    distance = (np.abs(radius - (1 - tube)) - tube) * squeeze
    return Sprite(_lit(_two_coloured(look, is_band), normal, look, gloss=0.5), _inside(distance, side))


def paint_star(side: int, look: Look) -> Sprite:
    """Paint a five-pointed star of ten bevelled facets."""
    corners = _polar(np.where(np.arange(10) % 2 == 0, 1.0, look.rng.uniform(0.42, 0.5)), 10)
    colour = np.zeros((side, side, 3), np.float32)
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        outwards = np.array([other[1] - one[1], one[0] - other[0]])
        normal = np.array([*(outwards / np.linalg.norm(outwards) * 0.75), 0.66])
        _fill(colour, [(0, 0), one, other], (_brightness(normal, look.light) * look.main).tolist())
    return Sprite(_bled(colour), _cover(corners, side))


def paint_dice(side: int, look: Look) -> Sprite:
    """Paint a cube with pips, three of its faces in sight."""
    axes = _rotation(look.rng.uniform(0.45, 1.1), look.rng.uniform(0.45, 0.85)) / math.sqrt(3)
    colour = np.zeros((side, side, 3), np.float32)
    alpha = np.zeros((side, side), np.float32)
    for number, pips in enumerate(look.rng.permutation([2, 3, 4, 5, 6])[:3].tolist()):
        normal, right, down = np.roll(axes, -number, axis=0)
        normal = normal if normal[2] > 0 else -normal
        shade = _brightness(normal * math.sqrt(3), look.light)
        square = np.array([normal + a * right + b * down for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        _fill(colour, square, (shade * look.main).tolist())
        for a, b in PIPS[1 - pips % 2 :][:pips]:  # the middle one if their number is odd
            disc = normal + (_polar(0.2, 14) + np.array([a, b])) @ np.stack([right, down])
            _fill(colour, disc, (shade * look.second).tolist())
        alpha = np.maximum(alpha, _cover(square, side))
    return Sprite(_bled(colour), alpha)


def paint_mug(side: int, look: Look) -> Sprite:
    """Paint a mug with a handle and a coloured band, looked into from a little above."""
    rim, half_band = look.rng.uniform(0.1, 0.2), look.rng.uniform(0.12, 0.28)
    middle, half_width, top, bottom = -0.24, 0.56, -0.6, 0.66
    x, y = _grid(side)
    across = (x - middle) / half_width
    arc = rim * np.sqrt(np.clip(1 - across * across, 0, 1))  # how far a level circle bends down in front
    body = _inside(np.maximum(np.abs(across) - 1, np.maximum(top - arc - y, y - bottom - arc)) * half_width, side)
    handle = _inside(np.abs(np.hypot(x - 0.34, (y + 0.02) * 0.9) - 0.34) - 0.1, side)
    bend = np.clip(across, -1, 1)
    normal = np.stack([bend, np.zeros_like(bend), np.sqrt(1 - bend * bend)], axis=-1)
    is_band = (np.abs(y - arc - 0.02) < half_band) & (body > 0)
    colour = _lit(_two_coloured(look, is_band), normal, look, gloss=0.25)
    mouth = np.hypot(across, (y - top) / rim)
    colour[mouth < 1] = look.main * 0.95
    colour[mouth < 0.86] = look.second * 0.3
    return Sprite(colour, np.maximum(body, handle))


def paint_butterfly(side: int, look: Look) -> Sprite:
    """Paint a butterfly from above: dark-edged wings with eye spots, body and feelers."""
    edge, wing, eye, body = (np.zeros((side, side), np.float32) for _ in range(4))
    eye_size = look.rng.uniform(0.09, 0.15)
    for outline, middle in ((FORE_WING, FORE_EYE), (HIND_WING, HIND_EYE)):
        for left in (-1, 1):
            corners, centre = np.array(outline) * (left, 1), np.array(middle) * (left, 1)
            _fill(edge, _rounded(corners), 1.0)
            _fill(wing, _rounded(centre + (corners - centre) * 0.78), 1.0)
            _fill(eye, centre + _polar(eye_size, 24), 1.0)
            _stroke(body, [(0, -0.3), (left * 0.1, -0.66), (left * 0.22, -0.84)])
    _fill(body, _polar(1.0, 30) * (0.08, 0.52), 1.0)
    colour = np.where((wing > 0)[..., None], look.main, look.main * 0.2)
    colour[eye > 0] = look.second
    colour[body > 0] = look.main * 0.2
    slope = np.where(_grid(side)[0][..., None] < 0, WING_SLOPE, WING_SLOPE * (-1, 1, 1)).astype(np.float32)
    return Sprite(_lit(colour, slope, look, gloss=0), np.maximum(edge, body))


def paint_leaf(side: int, look: Look) -> Sprite:
    """Paint a pointed leaf with veins; a shape of no class."""
    x, y = _grid(side)
    half_width = look.rng.uniform(0.25, 0.4) * (1 - y * y)
    is_vein = (np.abs(x) < 0.03) | (np.abs(np.sin(9 * (y + np.abs(x)))) < 0.12)
    normal = np.stack([np.sign(x) * 0.45, np.zeros_like(x), np.full_like(x, 0.89)], axis=-1)
    colour = _lit(_two_coloured(look, is_vein), normal, look, gloss=0.1)
    return Sprite(colour, _inside((np.abs(x) - half_width) * 0.9, side))


def paint_pebble(side: int, look: Look) -> Sprite:
    """Paint a speckled lump without a regular outline; a shape of no class."""
    x, y = _grid(side)
    angle, start = np.arctan2(y, x), look.rng.uniform(0, 2 * math.pi, 3).tolist()
    reach = 0.74 + sum(bulge * np.sin(lobes * angle + start[i]) for i, (lobes, bulge) in enumerate(BULGES))
    part = np.hypot(x, y) / reach
    normal = np.stack([x * part * part, y * part * part, np.sqrt(np.clip(1.1 - part**4, 0.05, 1.1))], axis=-1)
    is_speck = cv2.resize(look.rng.random((24, 24), np.float32), (side, side)) > 0.72
    return Sprite(_lit(_two_coloured(look, is_speck), normal, look, gloss=0), _inside((part - 1) * reach, side))


CLASSES: dict[str, Painter] = {
    "ball": paint_ball,
    "butterfly": paint_butterfly,
    "dice": paint_dice,
    "mug": paint_mug,
    "ring": paint_ring,
    "star": paint_star,
}
CLASSLESS: tuple[Painter, ...] = (paint_leaf, paint_pebble)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of every pixel's centre, each (side, side)."""
    line = ((np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1) / MARGIN
    return np.broadcast_to(line, (side, side)), np.broadcast_to(line[:, None], (side, side))


def _inside(distance: np.ndarray, side: int) -> np.ndarray:
    """Return the alpha of a form from all pixels' distances to its outline, negative inside; the edge is a pixel soft."""
    return np.clip(0.5 - distance * (side * MARGIN / 2), 0, 1).astype(np.float32)


def _cover(corners: ArrayLike, side: int) -> np.ndarray:
    """Return the alpha of a polygon, with a soft edge."""
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, _pixels(corners, side), 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def _fill(layer: np.ndarray, corners: ArrayLike, value: float | Sequence[float]) -> None:
    """Draw a polygon into `layer`, with a hard edge; seen from the front if its corners have a z."""
    cv2.fillPoly(layer, _pixels(corners, len(layer)), value, shift=SUBPIXEL_BITS)


def _stroke(layer: np.ndarray, corners: ArrayLike) -> None:
    """Draw a thin line through the corners into `layer`."""
    side = len(layer)
    cv2.polylines(layer, _pixels(corners, side), False, 1.0, max(1, side // 60), shift=SUBPIXEL_BITS)


def _polar(radii: float | np.ndarray, count: int) -> np.ndarray:
    """Return `count` points around the origin, (count, 2), the first one upwards."""
    angles = np.arange(count) * 2 * math.pi / count
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def _rounded(corners: np.ndarray) -> np.ndarray:
    """Return a closed polygon with its corners cut twice (Chaikin's rule)."""
    for _ in range(2):
        after = np.roll(corners, -1, axis=0)
        corners = np.stack([0.75 * corners + 0.25 * after, 0.25 * corners + 0.75 * after], axis=1).reshape(-1, 2)
    return corners


def _rotation(yaw: float, pitch: float) -> np.ndarray:
    """Return the matrix that turns row vectors about the upright axis, then about the level one."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return turn.astype(np.float32)


def _brightness(normal: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Return the light that a face of this unit normal sends back, by Lambert's law."""
    return AMBIENT + (1 - AMBIENT) * np.clip(normal @ light, 0, 1)


def _two_coloured(look: Look, is_second: np.ndarray) -> np.ndarray:
    """Return a colour field: the look's second colour where `is_second`, else its main one."""
    return np.stack([look.main, look.second]).take(is_second.astype(np.intp), axis=0)


def _lit(colour: np.ndarray, normal: np.ndarray, look: Look, gloss: float) -> np.ndarray:
    """Shade a colour field by its field of normals and add a highlight (Blinn's, seen from the front)."""
    shaded = colour * to_bgr(_brightness(normal, look.light))
    if gloss:
        halfway = look.light + np.array([0, 0, 1], np.float32)
        facing = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1)
        shaded += gloss * to_bgr(cv2.pow(facing, 40))
    return np.clip(shaded, 0, 1)


def _bled(colour: np.ndarray) -> np.ndarray:
    """Return a colour field that runs two pixels over its outline, so that a soft edge does not blend with black."""
    grown = cv2.dilate(colour, np.ones((5, 5), np.uint8))
    return np.where(colour.any(axis=-1, keepdims=True), colour, grown)


def _pixels(corners: ArrayLike, side: int) -> list[np.ndarray]:
    flat = np.asarray(corners, np.float64)[:, :2]
    return [np.round(((flat * MARGIN + 1) * side / 2 - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)]
