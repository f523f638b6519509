"""Images drawn twice: ground truth and detections side by side."""

import torch

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate import drawing
from ssd_lib.evaluate.drawing import class_colour
from ssd_lib.evaluate.validation_sheet import validation_sheet
from ssd_lib.nets.model_file import load_model


def test_a_validation_sheet_shows_every_image_twice(dataset: DetectionDataset) -> None:
    net = load_model().net.train()
    page = validation_sheet(net, dataset, [0, 2], Postprocess(), torch.device("cpu"))
    assert page.shape[1] == 4 * drawing.TILE_PX + 5 * drawing.GAP_PX
    assert net.training
    dog = (page == class_colour(1)).all(axis=2)
    assert dog[:, :page.shape[1] // 4].any()  # the ground truth of the first image
    assert not dog[:, page.shape[1] // 2:page.shape[1] * 3 // 4].any()  # the third has no objects


def test_detections_are_drawn_from_the_threshold_of_their_class_on(dataset: DetectionDataset) -> None:
    net, classes = load_model().net, len(dataset.fixed.class_names)

    def colours(*thresholds: float) -> list[bool]:
        page = validation_sheet(net, dataset, [2], Postprocess(class_thresholds=thresholds), torch.device("cpu"))
        right = page[:, page.shape[1] // 2:]
        return [bool((right == class_colour(label)).all(axis=2).any()) for label in range(1, classes + 1)]

    assert colours(*(1.0,) * classes) == [False] * classes
    assert colours(0.0, *(1.0,) * (classes - 1)) == [True] + [False] * (classes - 1)


def test_without_images_the_page_is_a_note(dataset: DetectionDataset) -> None:
    page = validation_sheet(load_model().net, dataset, [], Postprocess(), torch.device("cpu"))
    assert page.ndim == 3
    assert page.min() < 255
