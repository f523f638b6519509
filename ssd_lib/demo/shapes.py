"""The things that demo pictures show, painted one at a time: six classes and two shapes of no class. Where they lie in
a picture is decided in demo_scenes.py.

What tells the classes apart is form, shading and pattern; colours come from outside and are a hint at most.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from ssd_lib.demo.brush import (
    Look,
    Sprite,
    bled,
    brightness,
    cover,
    fill,
    grid,
    inside,
    lit,
    polar,
    rotation,
    rounded,
    stroke,
    two_coloured,
)

Painter = Callable[[int, Look], Sprite]  # the side of the canvas in pixels, the look

FORE_WING = ((0.02, -0.12), (0.3, -0.6), (0.72, -0.72), (0.93, -0.5), (0.78, -0.12), (0.45, 0.06), (0.02, 0.06))
HIND_WING = ((0.02, -0.02), (0.45, 0.06), (0.68, 0.26), (0.62, 0.6), (0.38, 0.8), (0.18, 0.62), (0.02, 0.2))
FORE_EYE, HIND_EYE = (0.52, -0.36), (0.38, 0.4)
WING_SLOPE = np.array([0.5, 0, 0.86])  # the left wings' normal: they stand up in a shallow V
BULGES = ((1, 0.14), (2, 0.08), (5, 0.04))  # of a pebble's outline: how many around it, how high
PIPS = ((0.0, 0.0), (-0.5, -0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, 0.0), (0.5, 0.0))  # of a half side


def paint_ball(side: int, look: Look) -> Sprite:
    """Paint a glossy sphere in six panels of two colours, turned any way."""
    x, y = grid(side)
    normal = np.stack([x, y, np.sqrt(np.clip(1 - x * x - y * y, 0, 1))], axis=-1)
    turned = normal @ rotation(look.rng.uniform(0, 2 * math.pi), look.rng.uniform(0.3, 1.1))
    is_second = np.sin(3 * np.arctan2(turned[..., 1], turned[..., 0])) > 0
    return Sprite(lit(two_coloured(look, is_second), normal, look, gloss=0.6), inside(np.hypot(x, y) - 1, side))


def paint_ring(side: int, look: Look) -> Sprite:
    """Paint a torus with four bands, as a life buoy has them, from the front or a little from the side."""
    tube, squeeze = look.rng.uniform(0.2, 0.27), look.rng.uniform(0.65, 1)
    x, y = grid(side)
    y = y / squeeze
    radius = np.maximum(np.hypot(x, y), 1e-6)
    out = np.clip((radius - (1 - tube)) / tube, -1, 1)
    normal = np.stack([out * x / radius, out * y / radius, np.sqrt(1 - out * out)], axis=-1)
    is_band = np.cos(4 * np.arctan2(y, x)) > 0.5
    distance = (np.abs(radius - (1 - tube)) - tube) * squeeze
    return Sprite(lit(two_coloured(look, is_band), normal, look, gloss=0.5), inside(distance, side))


def paint_star(side: int, look: Look) -> Sprite:
    """Paint a five-pointed star of ten bevelled facets."""
    corners = polar(np.where(np.arange(10) % 2 == 0, 1.0, look.rng.uniform(0.42, 0.5)), 10)
    colour = np.zeros((side, side, 3), np.float32)
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        outwards = np.array([other[1] - one[1], one[0] - other[0]])
        normal = np.array([*(outwards / np.linalg.norm(outwards) * 0.75), 0.66])
        fill(colour, [(0, 0), one, other], (brightness(normal, look.light) * look.main).tolist())
    return Sprite(bled(colour), cover(corners, side))


def paint_dice(side: int, look: Look) -> Sprite:
    """Paint a cube with pips, three of its faces in sight."""
    axes = rotation(look.rng.uniform(0.45, 1.1), look.rng.uniform(0.45, 0.85)) / math.sqrt(3)
    colour = np.zeros((side, side, 3), np.float32)
    alpha = np.zeros((side, side), np.float32)
    for number, pips in enumerate(look.rng.permutation([2, 3, 4, 5, 6])[:3].tolist()):
        normal, right, down = np.roll(axes, -number, axis=0)
        normal = normal if normal[2] > 0 else -normal
        shade = brightness(normal * math.sqrt(3), look.light)
        square = np.array([normal + a * right + b * down for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        fill(colour, square, (shade * look.main).tolist())
        for a, b in PIPS[1 - pips % 2 :][:pips]:  # the middle one if their number is odd
            disc = normal + (polar(0.2, 14) + np.array([a, b])) @ np.stack([right, down])
            fill(colour, disc, (shade * look.second).tolist())
        alpha = np.maximum(alpha, cover(square, side))
    return Sprite(bled(colour), alpha)


def paint_mug(side: int, look: Look) -> Sprite:
    """Paint a mug with a handle and a coloured band, looked into from a little above."""
    rim, half_band = look.rng.uniform(0.1, 0.2), look.rng.uniform(0.12, 0.28)
    middle, half_width, top, bottom = -0.24, 0.56, -0.6, 0.66
    x, y = grid(side)
    across = (x - middle) / half_width
    arc = rim * np.sqrt(np.clip(1 - across * across, 0, 1))  # how far a level circle bends down in front
    body = inside(np.maximum(np.abs(across) - 1, np.maximum(top - arc - y, y - bottom - arc)) * half_width, side)
    handle = inside(np.abs(np.hypot(x - 0.34, (y + 0.02) * 0.9) - 0.34) - 0.1, side)
    bend = np.clip(across, -1, 1)
    normal = np.stack([bend, np.zeros_like(bend), np.sqrt(1 - bend * bend)], axis=-1)
    is_band = (np.abs(y - arc - 0.02) < half_band) & (body > 0)
    colour = lit(two_coloured(look, is_band), normal, look, gloss=0.25)
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
            fill(edge, rounded(corners), 1.0)
            fill(wing, rounded(centre + (corners - centre) * 0.78), 1.0)
            fill(eye, centre + polar(eye_size, 24), 1.0)
            stroke(body, [(0, -0.3), (left * 0.1, -0.66), (left * 0.22, -0.84)])
    fill(body, polar(1.0, 30) * (0.08, 0.52), 1.0)
    colour = np.where((wing > 0)[..., None], look.main, look.main * 0.2)
    colour[eye > 0] = look.second
    colour[body > 0] = look.main * 0.2
    slope = np.where(grid(side)[0][..., None] < 0, WING_SLOPE, WING_SLOPE * (-1, 1, 1)).astype(np.float32)
    return Sprite(lit(colour, slope, look, gloss=0), np.maximum(edge, body))


def paint_leaf(side: int, look: Look) -> Sprite:
    """Paint a pointed leaf with veins; a shape of no class."""
    x, y = grid(side)
    half_width = look.rng.uniform(0.25, 0.4) * (1 - y * y)
    is_vein = (np.abs(x) < 0.03) | (np.abs(np.sin(9 * (y + np.abs(x)))) < 0.12)
    normal = np.stack([np.sign(x) * 0.45, np.zeros_like(x), np.full_like(x, 0.89)], axis=-1)
    colour = lit(two_coloured(look, is_vein), normal, look, gloss=0.1)
    return Sprite(colour, inside((np.abs(x) - half_width) * 0.9, side))


def paint_pebble(side: int, look: Look) -> Sprite:
    """Paint a speckled lump without a regular outline; a shape of no class."""
    x, y = grid(side)
    angle, start = np.arctan2(y, x), look.rng.uniform(0, 2 * math.pi, 3).tolist()
    reach = 0.74 + sum(bulge * np.sin(lobes * angle + start[i]) for i, (lobes, bulge) in enumerate(BULGES))
    part = np.hypot(x, y) / reach
    normal = np.stack([x * part * part, y * part * part, np.sqrt(np.clip(1.1 - part**4, 0.05, 1.1))], axis=-1)
    is_speck = cv2.resize(look.rng.random((24, 24), np.float32), (side, side)) > 0.72
    return Sprite(lit(two_coloured(look, is_speck), normal, look, gloss=0), inside((part - 1) * reach, side))


CLASSES: dict[str, Painter] = {
    "ball": paint_ball,
    "butterfly": paint_butterfly,
    "dice": paint_dice,
    "mug": paint_mug,
    "ring": paint_ring,
    "star": paint_star,
}
CLASSLESS: tuple[Painter, ...] = (paint_leaf, paint_pebble)
