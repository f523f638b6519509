from pathlib import Path

import numpy as np
import pytest
import torch

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate import drawing
from ssd_lib.evaluate.drawing import class_colour, draw_boxes, sheet, validation_sheet, write_image
from ssd_lib.images import read_image
from ssd_lib.nets.model_file import load_model

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


def test_a_validation_sheet_shows_every_image_twice(dataset: DetectionDataset) -> None:
    net = load_model().net.train()
    page = validation_sheet(net, dataset, [0, 2], Postprocess(), torch.device("cpu"))
    assert page.shape[1] == 4 * drawing.TILE_PX + 5 * drawing.GAP_PX
    assert net.training
    dog = (page == class_colour(1)).all(axis=2)
    assert dog[:, :page.shape[1] // 4].any()  # the ground truth of the first image
    assert not dog[:, page.shape[1] // 2:page.shape[1] * 3 // 4].any()  # the third has no objects


def test_without_images_the_page_is_a_note(dataset: DetectionDataset) -> None:
    page = validation_sheet(load_model().net, dataset, [], Postprocess(), torch.device("cpu"))
    assert page.ndim == 3
    assert page.min() < 255


def test_a_written_image_is_read_back_in_the_same_colours(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    write_image(tmp_path / "new" / "a.png", image)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), image)
