"""One demo picture: a crop of a photograph, painted things laid over each other with their shadows, and what is left to see of
each. How a thing looks is known in demo_shapes.py, what a data set is in demo.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from ssd_lib.sources.demo_shapes import CLASSES, CLASSLESS, Look, Painter, Sprite

# The knobs of the demo's difficulty. Sizes are diameters as fractions of the picture's short side.
SIDES_PX = (240, 400)
OBJECTS = (0.2, 0.32, 0.26, 0.14, 0.08)  # how often a picture holds 1, 2, ... objects
SIZE = (0.24, 0.6)
SMALL_SIZE, SMALL_SHARE = (0.15, 0.24), 0.12
LEAN_DEGREES = {"mug": 30.0, "butterfly": 60.0}  # how far a class turns from upright; the others turn any way
SQUEEZE = (0.8, 1.0)  # an object's width to its height, beyond what its painter varies
OUTSIDE = 0.25  # this much of a cut object's diameter may lie outside the picture
CUT_SHARE = 0.12  # of the objects may be cut by the picture's border
CROWDING = 0.68  # centres keep this fraction of the sum of two radii apart
DISTRACTORS = (0.5, 0.35, 0.15)  # how often a picture holds 0, 1, ... shapes of no class, behind the objects
STRIP_SHARE = 0.25  # of the pictures have a narrow strip before everything
CROWD_OBJECTS, CROWD_SIZE = (6, 10), (0.1, 0.16)
VISIBLE_SHARE = 0.3  # an object of which less is visible has no annotation
BACKGROUND_ZOOM = (0.45, 1.0)  # the crop's part of the largest one that fits
NOISE = 3.0  # standard deviation of the sensor's noise, of 255

Kind = Literal["objects", "crowd", "empty"]


@dataclass
class Layer:
    """What is left to see of one thing: alpha over the whole picture (H, W), and its full area before it was cut or covered."""

    class_name: str
    visible: np.ndarray
    full_area: float

    @property
    def visible_share(self) -> float:
        return float(self.visible.sum()) / max(self.full_area, 1.0)


@dataclass
class Scene:
    """A picture (H, W, 3) uint8 BGR; the objects to annotate, each one layer; the crowds, each several layers of a class."""

    picture: np.ndarray
    objects: list[Layer] = field(default_factory=list)
    crowds: list[list[Layer]] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """Where a thing lies: its centre and diameter in pixels."""

    x: float
    y: float
    diameter: float


def make_scene(photographs: Sequence[np.ndarray], kind: Kind, rng: np.random.Generator) -> Scene:
    """Make a picture of 1 to 5 objects, or of a crowd and at most two, or of nothing that has a class.

    Args:
        photographs: backgrounds to choose from, (H, W, 3) uint8 BGR.
        kind: what the picture holds.
        rng: where all its chances come from.

    Returns:
        The picture and what of each object is visible, at least VISIBLE_SHARE.
    """
    canvas = _background(photographs[rng.integers(len(photographs))], rng)
    light = _light(rng)
    layers: list[Layer] = []
    for place in _free_places(canvas, int(rng.choice(len(DISTRACTORS), p=DISTRACTORS)), rng):
        _lay(canvas, layers, "", CLASSLESS[rng.integers(len(CLASSLESS))], place, light, rng)
    crowd = _lay_crowd(canvas, layers, light, rng) if kind == "crowd" else []
    for place in _free_places(canvas, _object_count(kind, rng), rng):
        name = str(rng.choice(list(CLASSES)))
        _lay(canvas, layers, name, CLASSES[name], place, light, rng)
    if rng.random() < STRIP_SHARE:
        _lay_strip(canvas, layers, light, rng)
    noisy = canvas * 255 + rng.standard_normal(canvas.shape, np.float32) * NOISE
    seen = [layer for layer in layers if layer.class_name and layer.visible_share >= VISIBLE_SHARE]
    in_crowd = {id(layer) for layer in crowd}
    return Scene(
        np.clip(np.round(noisy), 0, 255).astype(np.uint8),
        [layer for layer in seen if id(layer) not in in_crowd],
        [crowd] if crowd else [],
    )


def _background(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop of the photograph, maybe mirrored, of another brightness and tint: (H, W, 3) float32 in [0, 1]."""
    height, width = (int(side) for side in rng.integers(*SIDES_PX, 2, endpoint=True))
    zoom = rng.uniform(*BACKGROUND_ZOOM) * min(photograph.shape[0] / height, photograph.shape[1] / width)
    crop_height, crop_width = int(height * zoom), int(width * zoom)
    top = rng.integers(photograph.shape[0] - crop_height + 1)
    left = rng.integers(photograph.shape[1] - crop_width + 1)
    crop = photograph[top : top + crop_height, left : left + crop_width]
    crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    tint = rng.uniform(0.65, 1.1) * rng.uniform(0.88, 1.12, 3)
    return np.clip(crop.astype(np.float32) / 255 * tint + rng.uniform(-0.05, 0.08), 0, 1).astype(np.float32)


def _light(rng: np.random.Generator) -> np.ndarray:
    """A direction from above, to the left or to the right."""
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.8, -0.25), 0.75])
    return light / np.linalg.norm(light)


def _object_count(kind: Kind, rng: np.random.Generator) -> int:
    if kind == "empty":
        return 0
    return int(rng.integers(3)) if kind == "crowd" else 1 + int(rng.choice(len(OBJECTS), p=OBJECTS))


def _free_places(canvas: np.ndarray, count: int, rng: np.random.Generator) -> list[_Place]:
    """Up to `count` places that keep CROWDING between each other."""
    places: list[_Place] = []
    for _ in range(count):
        for _ in range(20):
            place = _any_place(canvas, rng)
            if all(_apart(place, other) for other in places):
                places.append(place)
                break
    return places


def _any_place(canvas: np.ndarray, rng: np.random.Generator) -> _Place:
    height, width = canvas.shape[:2]
    size = rng.uniform(*(SMALL_SIZE if rng.random() < SMALL_SHARE else SIZE))
    diameter = size * min(height, width)
    inset = diameter * (0.5 - (OUTSIDE if rng.random() < CUT_SHARE else 0))
    return _Place(rng.uniform(inset, width - inset), rng.uniform(inset, height - inset), diameter)


def _apart(one: _Place, other: _Place) -> bool:
    return math.hypot(one.x - other.x, one.y - other.y) >= CROWDING * (one.diameter + other.diameter) / 2


def _lay(canvas: np.ndarray, layers: list[Layer], name: str, painter: Painter, place: _Place, light: np.ndarray,
         rng: np.random.Generator) -> None:
    """Paint a thing, turn it, and lay it with its shadow over the canvas and over all earlier layers."""
    lean = math.radians(LEAN_DEGREES.get(name, 180))
    angle = rng.uniform(-lean, lean)
    main, second = _two_colours(rng)
    turned_light = np.array([*_rotate(light[:2], -angle), light[2]])
    sprite = painter(2 * math.ceil(place.diameter), Look(main, second, turned_light, rng))
    patch, corner = _project(sprite, place, angle, rng.uniform(*SQUEEZE))
    _cast_shadow(canvas, patch.alpha, corner, light, rng)
    _cover(canvas, layers, name, patch, corner)


def _lay_crowd(canvas: np.ndarray, layers: list[Layer], light: np.ndarray, rng: np.random.Generator) -> list[Layer]:
    """Lay a heap of small objects of one class; returns their layers."""
    short = min(canvas.shape[:2])
    name = str(rng.choice(list(CLASSES)))
    middle = _Place(rng.uniform(0.3, 0.7) * canvas.shape[1], rng.uniform(0.3, 0.7) * canvas.shape[0], 0.0)
    before = len(layers)
    for _ in range(rng.integers(*CROWD_OBJECTS, endpoint=True)):
        x, y = rng.uniform(-0.2, 0.2, 2) * short
        _lay(canvas, layers, name, CLASSES[name], _Place(middle.x + x, middle.y + y, rng.uniform(*CROWD_SIZE) * short), light, rng)
    return layers[before:]


def _lay_strip(canvas: np.ndarray, layers: list[Layer], light: np.ndarray, rng: np.random.Generator) -> None:
    """Lay a narrow strip across the picture, before everything: what it hides is not visible."""
    height, width = canvas.shape[:2]
    thickness = rng.uniform(0.02, 0.05) * min(height, width)
    angle, anywhere = rng.uniform(0, math.pi), rng.uniform(0.2, 0.8, 2) * (width, height)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    across = (x - anywhere[0]) * math.sin(angle) - (y - anywhere[1]) * math.cos(angle)
    alpha = np.clip(0.5 + thickness - np.abs(across), 0, 1).astype(np.float32)
    round_shade = np.sqrt(np.clip(1 - (across / (thickness + 1)) ** 2, 0.1, 1))[..., None]
    _cast_shadow(canvas, alpha, (0, 0), light, rng)
    _cover(canvas, layers, "", Sprite((_two_colours(rng)[0] * round_shade).astype(np.float32), alpha), (0, 0))


def _project(sprite: Sprite, place: _Place, angle: float, squeeze: float) -> tuple[Sprite, tuple[int, int]]:
    """Turn and scale a sprite to its place; returns the patch of the picture that it fills and the patch's left and top."""
    half = math.ceil(place.diameter * 0.53) + 2
    left, top = round(place.x) - half, round(place.y) - half
    scale = place.diameter / len(sprite.alpha)
    turn = np.array([_rotate((scale * squeeze, 0), angle), _rotate((0, scale), angle)]).T
    middle = (len(sprite.alpha) - 1) / 2
    shift = np.array([place.x - left - 0.5, place.y - top - 0.5]) - turn @ [middle, middle]
    matrix = np.column_stack([turn, shift])
    size = (2 * half, 2 * half)
    alpha = cv2.GaussianBlur(cv2.warpAffine(sprite.alpha, matrix, size), (3, 3), 0.6)
    colour = cv2.warpAffine(sprite.colour, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    return Sprite(colour, alpha), (left, top)


def _cast_shadow(canvas: np.ndarray, alpha: np.ndarray, corner: tuple[int, int], light: np.ndarray,
                 rng: np.random.Generator) -> None:
    """Darken the canvas beside a thing, away from the light."""
    reach = max(2.0, 0.05 * min(alpha.shape)) if min(alpha.shape) < min(canvas.shape[:2]) else 5.0
    pad = math.ceil(3 * reach)
    blurred = cv2.GaussianBlur(cv2.copyMakeBorder(alpha, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0), (0, 0), reach)
    shadow = blurred * rng.uniform(0.35, 0.6)
    shift = -light[:2] * 1.6 * reach
    left, top = corner[0] - pad + round(shift[0]), corner[1] - pad + round(shift[1])
    here, there = _overlap(canvas.shape, shadow.shape, (left, top))
    canvas[here] *= 1 - shadow[there][..., None]


def _cover(canvas: np.ndarray, layers: list[Layer], name: str, patch: Sprite, corner: tuple[int, int]) -> None:
    """Blend a patch over the canvas, take what it covers from the earlier layers, and add its own layer."""
    here, there = _overlap(canvas.shape, patch.alpha.shape, corner)
    alpha = patch.alpha[there]
    canvas[here] += alpha[..., None] * (patch.colour[there] - canvas[here])
    for layer in layers:
        layer.visible[here] *= 1 - alpha
    visible = np.zeros(canvas.shape[:2], np.float32)
    visible[here] = alpha
    layers.append(Layer(name, visible, float(patch.alpha.sum())))


def _overlap(canvas: tuple[int, ...], patch: tuple[int, ...], corner: tuple[int, int]) -> tuple[tuple, tuple]:
    """The slices of the canvas and of a patch, whose left and top are `corner`, that lie over each other."""
    here, there = [], []
    for length, part, start in zip(canvas[:2], patch, reversed(corner), strict=True):
        begin, end = min(max(start, 0), length), min(max(start + part, 0), length)
        here.append(slice(begin, end))
        there.append(slice(begin - start, end - start))
    return tuple(here), tuple(there)


def _rotate(vector: Sequence[float] | np.ndarray, angle: float) -> np.ndarray:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([cosine * vector[0] - sine * vector[1], sine * vector[0] + cosine * vector[1]])


def _two_colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two BGR colours that differ in hue, and in brightness by so much that a pattern of them shows."""
    hue = rng.uniform(0, 360)
    bright, dark = rng.uniform(0.8, 1.0), rng.uniform(0.2, 0.5)
    pair = [(hue, rng.uniform(0.3, 0.95), bright), (hue + rng.uniform(60, 300), rng.uniform(0.1, 0.8), dark)]
    hsv = np.array([[[h % 360, s, v] for h, s, v in pair]], np.float32)
    first, second = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0]
    return (first, second) if rng.random() < 0.6 else (second, first)
