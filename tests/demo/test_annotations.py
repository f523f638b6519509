"""Demo annotations: what is visible, as boxes, polygons and run lengths."""

from typing import Any

import numpy as np
import pytest

from ssd_lib.demo.annotations import CATEGORIES, annotate, polygons
from ssd_lib.demo.brush import Look, Sprite
from ssd_lib.demo.layers import Corner, Layer, Place, Stack, lay, project
from ssd_lib.demo.scenes import Scene
from ssd_lib.demo.shapes import CLASSES

LIGHT = np.array([0, -0.6, 0.8], np.float32)
WHITE = np.ones(3, np.float32)


def empty_stack() -> Stack:
    return Stack(np.zeros((120, 160, 3), np.float32), LIGHT)


def lay_thing(stack: Stack, name: str, place: Place, angle: float = 0.4) -> None:
    look = Look(WHITE, WHITE, LIGHT, np.random.default_rng(3))
    patch, corner = project(CLASSES[name](150, look), place, angle, 0.9)
    lay(stack, Sprite(np.ones_like(patch.colour), patch.alpha), corner, name, shadow=0.0)


def annotations(stack: Stack) -> list[dict[str, Any]]:
    return annotate(Scene(stack.canvas, stack.layers, []), image_id=5)


def block(height: int, width: int) -> Sprite:
    return Sprite(np.ones((height, width, 3), np.float32), np.ones((height, width), np.float32))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("place", [Place(70.3, 60.8, 90.0), Place(8.0, 100.0, 60.0), Place(80.0, 60.0, 30.0)])
def test_a_box_is_tight_around_the_pixels_that_differ(name: str, place: Place) -> None:
    stack = empty_stack()
    lay_thing(stack, name, place)
    differs = stack.canvas[..., 0] > 0.5
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    left, top, width, height = annotations(stack)[0]["bbox"]
    drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose([left, top, left + width, top + height], drawn, atol=1.0)


def test_a_block_has_the_box_that_it_covers() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(40, 50), "star", shadow=0.0)
    (annotation,) = annotations(stack)
    assert annotation["bbox"] == [40.0, 50.0, 20.0, 30.0]
    assert annotation["area"] == 599.5  # 20 * 30, less an eighth of a pixel at each corner
    assert annotation["category_id"] == CATEGORIES["star"][0]


def test_what_lies_outside_the_image_is_in_no_box() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(-5, 100), "star", shadow=0.0)
    assert annotations(stack)[0]["bbox"] == [0.0, 100.0, 15.0, 20.0]
    assert stack.layers[0].visible_share == 0.5


def test_what_is_covered_is_in_no_box() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(40, 50), "star", shadow=0.0)
    lay(stack, block(10, 60), Corner(30, 50), "", shadow=0.0)
    assert annotations(Stack(stack.canvas, LIGHT, stack.layers[:1]))[0]["bbox"] == [40.0, 60.0, 20.0, 20.0]
    assert stack.layers[0].visible_share == pytest.approx(2 / 3)


def test_an_object_in_two_pieces_has_two_polygons_and_one_box() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(40, 50), "star", shadow=0.0)
    lay(stack, block(10, 60), Corner(30, 60), "", shadow=0.0)
    annotation = annotations(Stack(stack.canvas, LIGHT, stack.layers[:1]))[0]
    assert annotation["bbox"] == [40.0, 50.0, 20.0, 30.0]
    assert len(annotation["segmentation"]) == 2


def test_a_hole_has_no_polygon() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[5:35, 5:35] = 1
    alpha[15:25, 15:25] = 0
    (outline,) = polygons(alpha)
    assert outline.min() == 5
    assert outline.max() == 35


def test_a_crowd_is_written_as_run_lengths_down_the_columns() -> None:
    visible = np.zeros((4, 3), np.float32)
    visible[1:3, 0] = 1
    visible[0, 2] = 1
    crowd = [Layer("mug", visible, 3.0)]
    (annotation,) = annotate(Scene(np.zeros((4, 3, 3), np.uint8), [], crowd), image_id=7)
    assert annotation["segmentation"] == {"counts": [1, 2, 5, 1, 3], "size": [4, 3]}
    assert annotation["bbox"] == [0.0, 0.0, 3.0, 3.0]
    assert annotation["id"] == 904400000007
    assert (annotation["area"], annotation["iscrowd"]) == (3, 1)


def test_a_crowd_in_the_first_pixel_starts_with_a_run_of_zero() -> None:
    crowd = [Layer("mug", np.ones((2, 2), np.float32), 4.0)]
    (annotation,) = annotate(Scene(np.zeros((2, 2, 3), np.uint8), [], crowd), image_id=7)
    assert annotation["segmentation"]["counts"] == [0, 4]
