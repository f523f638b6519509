from pathlib import Path

import numpy as np
import pytest

from ssd_lib.evaluate.drawing import class_colour, draw_boxes, sheet, write_image
from ssd_lib.images import read_image

GREY = np.full((100, 160, 3), 128, dtype=np.uint8)


def test_a_box_is_drawn_in_its_colour_and_the_image_is_unchanged() -> None:
    result = draw_boxes(GREY, np.array([[40, 40, 90, 80]]), ["dog 0.90"], [(255, 0, 0)])
    assert result[60, 40].tolist() == [255, 0, 0]
    assert result[80, 60].tolist() == [255, 0, 0]
    assert result[60, 60].tolist() == [128, 128, 128]
    assert (GREY == 128).all()


@pytest.mark.parametrize("box", [[0, 0, 30, 30], [140, 0, 159, 99], [0, 95, 159, 99], [-20, -20, 300, 300]])
def test_a_name_is_inside_the_image_wherever_the_box_is(box: list[int]) -> None:
    result = draw_boxes(GREY, np.array([box]), ["giraffe"], [(0, 0, 200)])
    empty = draw_boxes(GREY, np.array([box]), [""], [(0, 0, 200)])
    patch = (result != empty).any(axis=2) & (result == (0, 0, 200)).all(axis=2)
    assert patch.sum() > 200  # of a patch of some 40 x 14 pixels, less its letters and the box's line


def test_a_name_without_a_free_place_is_left_out_and_the_best_one_stays() -> None:
    boxes, red, blue = np.array([[40, 40, 60, 52]] * 9), (200, 0, 0), (0, 0, 200)
    result = draw_boxes(GREY, boxes, ["kite"] * 9, [red] + [blue] * 8)
    first = draw_boxes(GREY, boxes[:1], ["kite"], [red])
    above = slice(20, 38)
    assert np.array_equal(result[above], first[above])
    assert (result[70:] == GREY[70:]).all()


def test_labels_side_by_side_have_colours_that_differ() -> None:
    colours = np.array([class_colour(label) for label in range(1, 81)])
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 100
    assert len({tuple(colour) for colour in colours}) == 80


def test_a_sheet_holds_images_of_any_size() -> None:
    images = [np.full((h, w, 3), i, dtype=np.uint8) for i, (h, w) in enumerate(((10, 20), (30, 5), (7, 7)))]
    page = sheet(images, columns=2)
    assert page.shape == (8 + 30 + 8 + 7 + 8, 8 + 20 + 8 + 5 + 8, 3)
    assert [(page == i).all(axis=2).sum() for i in range(3)] == [200, 150, 49]


def test_a_written_image_is_read_back_in_the_same_colours(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    write_image(tmp_path / "new" / "a.png", image)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), image)
