"""The things that the demo pictures show, painted one at a time: six classes and two shapes of no class. Where they go in a
picture is decided in demo_scenes.py.

A painter works in unit coordinates, x to the right and y down, in which everything fits the unit circle. What tells the
classes apart is form, shading and pattern: their colours come from outside and say nothing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

MARGIN = 0.94  # the unit circle's part of the canvas; what is left keeps soft edges on it
AMBIENT = 0.42  # brightness of a face turned away from the light; 1 is one turned to it
SUBPIXEL_BITS = 4  # OpenCV's polygons take corners in sixteenths of a pixel


class Sprite(NamedTuple):
    """A painted thing: colour (n, n, 3) BGR and alpha (n, n), both float32 in [0, 1]."""

    colour: np.ndarray
    alpha: np.ndarray


class Look(NamedTuple):
    """What varies within a class: two BGR colours, the unit vector towards the light (z to the viewer), and the dice."""

    main: np.ndarray
    second: np.ndarray
    light: np.ndarray
    rng: np.random.Generator


Painter = Callable[[int, Look], Sprite]


def paint_ball(side: int, look: Look) -> Sprite:
    """Paint a glossy sphere in six panels of two colours, turned any way."""
    x, y = _grid(side)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    normal = np.stack([x, y, z], axis=-1)
    turned = normal @ _turn(look.rng.uniform(0, 2 * math.pi), look.rng.uniform(0.3, 1.1))
    panel = np.sin(3 * np.arctan2(turned[..., 1], turned[..., 0])) > 0
    return Sprite(_lit(_mix(look, panel), normal, look, gloss=0.6), _inside(np.hypot(x, y) - 1, side))


def paint_ring(side: int, look: Look) -> Sprite:
    """Paint a torus with four bands, as a life buoy has them, seen from the front or a little from the side."""
    squeeze = look.rng.uniform(0.65, 1)
    x, y = _grid(side)
    y = y / squeeze
    radius = np.maximum(np.hypot(x, y), 1e-6)
    tube = look.rng.uniform(0.2, 0.27)
    out = np.clip((radius - (1 - tube)) / tube, -1, 1)
    normal = np.stack([out * x / radius, out * y / radius, np.sqrt(1 - out * out)], axis=-1)
    band = np.cos(4 * np.arctan2(y, x)) > 0.5
    edge = (np.abs(radius - (1 - tube)) - tube) * squeeze
    return Sprite(_lit(_mix(look, band), normal, look, gloss=0.5), _inside(edge, side))


def paint_star(side: int, look: Look) -> Sprite:
    """Paint a five-pointed star of ten bevelled facets."""
    radii = np.where(np.arange(10) % 2 == 0, 1.0, look.rng.uniform(0.42, 0.5))
    corners = _polar(radii, np.arange(10) * math.pi / 5 - math.pi / 2)
    facets = np.zeros((side, side, 3), np.float32)
    for first, second in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        across = np.array([second[1] - first[1], first[0] - second[0], 0.0])
        normal = across / np.linalg.norm(across) * 0.75 + [0, 0, 0.66]
        cv2.fillPoly(facets, _pixels([[0, 0], first, second], side), _brightness(normal, look.light) * look.main,
                     shift=SUBPIXEL_BITS)
    return Sprite(_spread(facets), _cover(corners, side))


def paint_dice(side: int, look: Look) -> Sprite:
    """Paint a cube with pips, three of its faces in sight."""
    turn = _turn(look.rng.uniform(0.45, 1.1), look.rng.uniform(0.45, 0.85))
    half = 1 / math.sqrt(3)
    colour = np.zeros((side, side, 3), np.float32)
    hull = []
    for face, pips in zip(range(3), look.rng.permutation([2, 3, 4, 5, 6])[:3], strict=True):
        frame = np.roll(np.eye(3), -face, axis=1)  # the face's normal, then its two sides
        normal, right, down = (frame[:, column] @ turn for column in range(3))
        if normal[2] < 0:
            normal = -normal
        corners = (normal + [right + down, right - down, -right - down, -right + down]) * half
        shade = _brightness(normal, look.light)
        cv2.fillPoly(colour, _pixels(corners, side), shade * look.main, shift=SUBPIXEL_BITS)
        for across, along in _pips(int(pips)):
            dot = (normal + right * across + down * along) * half + _polar(np.full(14, 0.12), np.arange(14) / 7 * math.pi,
                                                                           right, down)
            cv2.fillPoly(colour, _pixels(dot, side), shade * look.second, shift=SUBPIXEL_BITS)
        hull.append(corners[:, :2])
    outline = cv2.convexHull(np.concatenate(hull).astype(np.float32))[:, 0]
    return Sprite(_spread(colour), _cover(outline, side))


def paint_mug(side: int, look: Look) -> Sprite:
    """Paint a mug with a handle and a coloured band, looked into from a little above."""
    x, y = _grid(side)
    rim = look.rng.uniform(0.1, 0.2)
    middle, width, top, bottom = -0.24, 0.56, -0.6, 0.66
    across = (x - middle) / width
    arc = rim * np.sqrt(np.clip(1 - across * across, 0, 1))
    body = _inside(np.maximum(np.abs(across) - 1, np.maximum(top - arc - y, y - bottom - arc) ) * width, side)
    handle = _inside(np.abs(np.hypot(x - 0.34, (y + 0.02) * 0.9) - 0.34) - 0.1, side)
    bend = np.clip(across, -1, 1)
    normal = np.stack([bend, np.zeros_like(bend), np.sqrt(1 - bend * bend)], axis=-1)
    band = np.abs(y - arc - 0.02) < look.rng.uniform(0.12, 0.28)
    colour = _lit(_mix(look, band & (body > 0)), normal, look, gloss=0.25)
    lip = np.hypot(across, (y - top) / rim)
    colour = np.where((lip < 1)[..., None], look.main * 0.95, colour)
    colour = np.where((lip < 0.86)[..., None], look.second * 0.3, colour)
    return Sprite(colour.astype(np.float32), np.maximum(body, handle))


def paint_butterfly(side: int, look: Look) -> Sprite:
    """Paint a butterfly from above: dark-edged wings with spots, body and feelers."""
    spread = look.rng.uniform(0.85, 1.1)
    edge, wing, spot, body = (np.zeros((side, side), np.float32) for _ in range(4))
    for left in (-1, 1):
        for centre, axes, tilt in (((0.46, -0.34), (0.52, 0.33), -40), ((0.36, 0.42), (0.4, 0.27), 48)):
            place = (left * centre[0] * spread, centre[1])
            for layer, part in ((edge, 1.0), (wing, 0.8), (spot, 0.36)):
                _ellipse(layer, place, (axes[0] * part, axes[1] * part), left * tilt)
        cv2.polylines(body, _pixels([[0, -0.4], [left * 0.12, -0.72], [left * 0.26, -0.88]], side), False, 1.0,
                      thickness=max(1, side // 60), shift=SUBPIXEL_BITS)
    _ellipse(body, (0, 0.05), (0.075, 0.55), 0)
    dark = look.main * 0.2
    colour = np.where((wing > 0)[..., None], look.main, dark)
    colour = np.where((spot > 0)[..., None], look.second, colour)
    colour = np.where((body > 0)[..., None], dark, colour)
    slope = np.sign(_grid(side)[0])[..., None] * [-0.5, 0, 0] + [0, 0, 0.86]  # the wings stand up in a shallow V
    return Sprite(_lit(colour, slope, look, gloss=0), np.maximum(edge, body))


def paint_leaf(side: int, look: Look) -> Sprite:
    """Paint a pointed leaf with veins; a shape of no class."""
    x, y = _grid(side)
    width = look.rng.uniform(0.25, 0.4) * (1 - y * y)
    vein = (np.abs(x) < 0.03) | (np.abs(np.sin(9 * (y + np.abs(x)))) < 0.12)
    normal = np.stack([np.sign(x) * 0.45, np.zeros_like(x), np.full_like(x, 0.89)], axis=-1)
    return Sprite(_lit(_mix(look, vein), normal, look, gloss=0.1), _inside((np.abs(x) - width) * 0.9, side))


def paint_pebble(side: int, look: Look) -> Sprite:
    """Paint a speckled lump without a regular outline; a shape of no class."""
    x, y = _grid(side)
    angle = np.arctan2(y, x)
    start = look.rng.uniform(0, 2 * math.pi, 3)
    reach = 0.74 + 0.14 * np.sin(angle + start[0]) + 0.08 * np.sin(2 * angle + start[1]) + 0.04 * np.sin(5 * angle + start[2])
    part = np.hypot(x, y) / reach
    normal = np.stack([x * part * part, y * part * part, np.sqrt(np.clip(1.1 - part**4, 0.05, 1.1))], axis=-1)
    speckle = cv2.resize(look.rng.random((24, 24), np.float32), (side, side)) > 0.72
    return Sprite(_lit(_mix(look, speckle), normal, look, gloss=0), _inside((part - 1) * reach, side))


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
    """Unit coordinates of the pixels' centres."""
    line = ((np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1) / MARGIN
    return np.broadcast_to(line, (side, side)), np.broadcast_to(line[:, None], (side, side))


def _pixels(points: object, side: int) -> list[np.ndarray]:
    """Unit coordinates as a polygon that OpenCV draws; a third coordinate is dropped, which is the view from the front."""
    flat = np.asarray(points, np.float64)[:, :2]
    return [np.round((((flat * MARGIN + 1) * side / 2) - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32)]


def _inside(distance: np.ndarray, side: int) -> np.ndarray:
    """Alpha of a form from the distance to its outline, negative inside; the edge is one pixel soft."""
    return np.clip(0.5 - distance * (side * MARGIN / 2), 0, 1).astype(np.float32)


def _cover(corners: np.ndarray, side: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, _pixels(corners, side), 255, cv2.LINE_AA, SUBPIXEL_BITS)
    return mask.astype(np.float32) / 255


def _ellipse(layer: np.ndarray, centre: tuple[float, float], axes: tuple[float, float], tilt_degrees: float) -> None:
    """Add a filled ellipse to `layer`."""
    tilt, angle = math.radians(tilt_degrees), np.arange(40) * math.pi / 20
    right, down = np.array([math.cos(tilt), math.sin(tilt)]), np.array([-math.sin(tilt), math.cos(tilt)])
    outline = np.array(centre) + np.outer(np.cos(angle) * axes[0], right) + np.outer(np.sin(angle) * axes[1], down)
    cv2.fillPoly(layer, _pixels(outline, len(layer)), 1.0, shift=SUBPIXEL_BITS)


def _polar(radii: np.ndarray, angles: np.ndarray, right: np.ndarray | None = None, down: np.ndarray | None = None) -> np.ndarray:
    """Points around the origin, in the plane of the picture or in the one that `right` and `down` span."""
    right, down = np.array([1.0, 0.0]) if right is None else right, np.array([0.0, 1.0]) if down is None else down
    return np.outer(radii * np.cos(angles), right) + np.outer(radii * np.sin(angles), down)


def _turn(yaw: float, pitch: float) -> np.ndarray:
    """A rotation about the upright axis, then about the level one; vectors are rows."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    return np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])


def _pips(count: int) -> list[tuple[float, float]]:
    """Where a die's face has its dots, from -1 to 1."""
    pairs = [(-0.5, -0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, 0.0), (0.5, 0.0)]
    return pairs[: count // 2 * 2] + ([(0.0, 0.0)] if count % 2 else [])


def _brightness(normal: np.ndarray, light: np.ndarray) -> np.ndarray:
    return AMBIENT + (1 - AMBIENT) * np.clip(normal @ light, 0, 1)


def _mix(look: Look, where_second: np.ndarray) -> np.ndarray:
    return np.where(where_second[..., None], look.second, look.main)


def _lit(colour: np.ndarray, normal: np.ndarray, look: Look, gloss: float) -> np.ndarray:
    """Shade by Lambert's law and add a highlight (Blinn's, seen from the front)."""
    lit = colour * _brightness(normal, look.light)[..., None]
    if gloss:
        halfway = look.light + [0, 0, 1]
        lit = lit + gloss * np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1)[..., None] ** 40
    return np.clip(lit, 0, 1).astype(np.float32)


def _spread(colour: np.ndarray) -> np.ndarray:
    """Let the colour run two pixels over its outline, so that a soft edge does not blend with black."""
    grown = cv2.dilate(colour, np.ones((5, 5), np.uint8))
    return np.where(colour.any(axis=-1, keepdims=True), colour, grown)
