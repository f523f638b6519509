"""Compose a demo image: a crop of a photograph, objects of the six classes and distractors, and how much of each is visible.

Sizes, counts, colours and covering are drawn here; how a thing looks is in shapes.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import cv2
import numpy as np

from ssd_lib.demo.shapes import CLASSES, CLASSLESS, Look, Painter, Sprite, to_bgr

# The knobs of the demo's difficulty. Sizes are diameters as fractions of the image's short side.
SIDES_PX = (224, 360)
OBJECTS = (0.22, 0.36, 0.26, 0.11, 0.05)  # how often an image holds 1, 2, ... objects
SIZE = (0.32, 0.66)
SMALL_SIZE, SMALL_SHARE = (0.18, 0.32), 0.1  # this share of the objects is small
HUES = {"ball": 0, "star": 50, "dice": 110, "ring": 165, "mug": 215, "butterfly": 285}  # a class's favourite, degrees
HUE_SPREAD, HUE_SHARE = 25, 0.7  # this share of the objects has about its class's hue, the others have any
LEAN_DEGREES = {"mug": 30.0, "butterfly": 60.0}  # how far a class turns from upright; the others turn any way
SQUEEZE = (0.8, 1.0)  # an object's width to its height, beyond what its painter varies
CUT, CUT_SHARE = 0.25, 0.12  # this share of the objects may lie this part of its diameter outside the image
CROWDING = 0.68  # centres keep this fraction of the sum of two radii apart
DISTRACTORS = (0.6, 0.3, 0.1)  # how often an image holds 0, 1, ... shapes of no class, below the objects
STRIP_SHARE = 0.2  # of the images have a narrow strip on top of everything
CROWD_OBJECTS, CROWD_SIZE = (6, 10), (0.1, 0.16)
VISIBLE_SHARE = 0.3  # an object of which less is visible has no annotation
SHADOW = (0.35, 0.6)
BACKGROUND_ZOOM = (0.45, 1.0)  # the crop's part of the largest one that fits
OVERSAMPLING = 1.25  # things are painted this much larger than they are shown
NOISE = 3.0  # standard deviation of the sensor's noise, of 255

Kind = Literal["objects", "crowd", "empty"]


class Place(NamedTuple):
    """Position of a thing: its centre and diameter in pixels."""

    x: float
    y: float
    diameter: float


class Corner(NamedTuple):
    """Position of a patch: its left and top in whole pixels, possibly outside the canvas."""

    left: int
    top: int


@dataclass
class Layer:
    """The visible part of a thing: alpha over the whole canvas (H, W), and its area before it was cut or covered."""

    class_name: str  # "" for a shape of no class
    visible: np.ndarray
    full_area: float

    @property
    def visible_share(self) -> float:
        return float(self.visible.sum()) / self.full_area


@dataclass
class Stack:
    """An unfinished image: canvas (H, W, 3) float32 BGR in [0, 1], unit vector to the light, layers upwards."""

    canvas: np.ndarray
    light: np.ndarray
    layers: list[Layer] = field(default_factory=list)

    @property
    def short_side(self) -> int:
        return min(self.canvas.shape[:2])


class Scene(NamedTuple):
    """An image (H, W, 3) uint8 BGR, the objects to annotate one by one, and a crowd of one class (mostly none)."""

    image: np.ndarray
    objects: list[Layer]
    crowd: list[Layer]


def make_scene(photographs: Sequence[np.ndarray], kind: Kind, rng: np.random.Generator) -> Scene:
    """Make an image of 1 to 5 objects, or of a crowd and up to two objects, or of nothing that has a class.

    Args:
        photographs: backgrounds to choose from, (H, W, 3) uint8 BGR.
        kind: what the image holds.
        rng: where all its chances come from.

    Returns:
        The image, and its objects of which at least VISIBLE_SHARE is visible.
    """
    stack = Stack(_background(photographs[int(rng.integers(len(photographs)))], rng), _light(rng))
    for place in _free_places(stack, int(rng.choice(len(DISTRACTORS), p=DISTRACTORS)), rng):
        _lay_thing(stack, "", CLASSLESS[int(rng.integers(len(CLASSLESS)))], place, rng)
    for place in _free_places(stack, _object_count(kind, rng), rng):
        name = _any_class(rng)
        _lay_thing(stack, name, CLASSES[name], place, rng)
    objects = [layer for layer in stack.layers if layer.class_name]
    crowd = _lay_crowd(stack, rng) if kind == "crowd" else []
    if rng.random() < STRIP_SHARE:
        _lay_strip(stack, rng)
    noise = rng.standard_normal(stack.canvas.shape[:2], np.float32) * NOISE
    image = np.clip(stack.canvas * 255 + to_bgr(noise), 0, 255).astype(np.uint8)
    return Scene(image, [layer for layer in objects if layer.visible_share >= VISIBLE_SHARE], crowd)


def project(sprite: Sprite, place: Place, angle: float, squeeze: float) -> tuple[Sprite, Corner]:
    """Squeeze a sprite's width, turn it clockwise by `angle`, scale it to its place: a patch and its corner."""
    half = math.ceil(place.diameter * 0.53) + 2  # the sprite's margin and its blur
    corner = Corner(round(place.x) - half, round(place.y) - half)
    side = len(sprite.alpha)
    turn = _rotation_2d(angle) @ np.diag([squeeze, 1.0]) * (place.diameter / side)
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


def _background(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Crop the photograph, maybe mirror it, change its brightness and tint: (H, W, 3) float32 in [0, 1]."""
    height, width = (int(side) for side in rng.integers(*SIDES_PX, 2, endpoint=True))
    zoom = rng.uniform(*BACKGROUND_ZOOM) * min(photograph.shape[0] / height, photograph.shape[1] / width)
    crop_height, crop_width = int(height * zoom), int(width * zoom)
    top = int(rng.integers(photograph.shape[0] - crop_height + 1))
    left = int(rng.integers(photograph.shape[1] - crop_width + 1))
    crop = photograph[top : top + crop_height, left : left + crop_width]
    crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    tint = (rng.uniform(0.65, 1.1) * rng.uniform(0.88, 1.12, 3) / 255).astype(np.float32)
    return np.clip(crop * tint + np.float32(rng.uniform(-0.05, 0.08)), 0, 1)


def _light(rng: np.random.Generator) -> np.ndarray:
    """A direction from above and before the image, to the left or to the right."""
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.8, -0.25), 0.75])
    return (light / np.linalg.norm(light)).astype(np.float32)


def _object_count(kind: Kind, rng: np.random.Generator) -> int:
    if kind == "empty":
        return 0
    return int(rng.integers(3)) if kind == "crowd" else 1 + int(rng.choice(len(OBJECTS), p=OBJECTS))


def _any_class(rng: np.random.Generator) -> str:
    return list(CLASSES)[int(rng.integers(len(CLASSES)))]


def _free_places(stack: Stack, count: int, rng: np.random.Generator) -> list[Place]:
    """Up to `count` places that keep CROWDING between each other."""
    places: list[Place] = []
    for _ in range(20 * count):
        place = _any_place(stack, rng)
        if all(_is_apart(place, other) for other in places):
            places.append(place)
        if len(places) == count:
            break
    return places


def _any_place(stack: Stack, rng: np.random.Generator) -> Place:
    height, width = stack.canvas.shape[:2]
    diameter = rng.uniform(*(SMALL_SIZE if rng.random() < SMALL_SHARE else SIZE)) * stack.short_side
    inset = diameter * (0.5 - (CUT if rng.random() < CUT_SHARE else 0))
    return Place(rng.uniform(inset, width - inset), rng.uniform(inset, height - inset), diameter)


def _is_apart(one: Place, other: Place) -> bool:
    return math.hypot(one.x - other.x, one.y - other.y) >= CROWDING * (one.diameter + other.diameter) / 2


def _lay_thing(stack: Stack, name: str, painter: Painter, place: Place, rng: np.random.Generator) -> None:
    """Paint a thing in colours of its own, lit as the image is, and lay it turned and squeezed on the stack."""
    lean = math.radians(LEAN_DEGREES.get(name, 180))
    angle = rng.uniform(-lean, lean)
    light = np.append(_rotation_2d(-angle) @ stack.light[:2], stack.light[2]).astype(np.float32)
    look = Look(*_two_colours(_any_hue(name, rng), rng), light, rng)
    sprite = painter(math.ceil(place.diameter * OVERSAMPLING), look)
    patch, corner = project(sprite, place, angle, rng.uniform(*SQUEEZE))
    lay(stack, patch, corner, name, rng.uniform(*SHADOW))


def _lay_crowd(stack: Stack, rng: np.random.Generator) -> list[Layer]:
    """Lay a heap of small objects of one class; return their layers."""
    height, width = stack.canvas.shape[:2]
    name, below = _any_class(rng), len(stack.layers)
    middle_x, middle_y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height
    for _ in range(int(rng.integers(*CROWD_OBJECTS, endpoint=True))):
        right, down = rng.uniform(-0.2, 0.2, 2) * stack.short_side
        place = Place(middle_x + right, middle_y + down, rng.uniform(*CROWD_SIZE) * stack.short_side)
        _lay_thing(stack, name, CLASSES[name], place, rng)
    return stack.layers[below:]


def _lay_strip(stack: Stack, rng: np.random.Generator) -> None:
    """Lay a round bar across the image, on top of everything: what it hides is not visible."""
    height, width = stack.canvas.shape[:2]
    half = rng.uniform(0.02, 0.05) * stack.short_side
    angle, middle_x, middle_y = rng.uniform(0, math.pi), rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
    y, x = np.ogrid[:height, :width]
    across = ((x - middle_x) * math.sin(angle) - (y - middle_y) * math.cos(angle)).astype(np.float32)
    bend = np.sqrt(np.clip(1 - (across / (half + 1)) ** 2, 0.1, 1))[..., None]
    bar = Sprite(_two_colours(_any_hue("", rng), rng)[0] * bend, np.clip(0.5 + half - np.abs(across), 0, 1))
    lay(stack, bar, Corner(0, 0), "", rng.uniform(*SHADOW))


def _any_hue(name: str, rng: np.random.Generator) -> float:
    """A hue in degrees: often about the favourite of the class."""
    if name in HUES and rng.random() < HUE_SHARE:
        return (HUES[name] + rng.uniform(-HUE_SPREAD, HUE_SPREAD)) % 360
    return rng.uniform(0, 360)


def _two_colours(hue: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright colour and one of another hue, so much darker that a pattern of them shows; BGR, float32."""
    bright = (hue, rng.uniform(0.5, 0.95), rng.uniform(0.8, 1.0))
    dark = ((hue + rng.uniform(60, 300)) % 360, rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.45))
    first, second = cv2.cvtColor(np.array([[bright, dark]], np.float32), cv2.COLOR_HSV2BGR)[0]
    return first, second


def _rotation_2d(angle: float) -> np.ndarray:
    """Return the matrix that turns column vectors clockwise, as y points down."""
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
