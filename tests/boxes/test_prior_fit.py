"""Prior fit: best IoU per box, and sizes that cover the boxes of a dataset."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou

from ssd_lib.boxes.prior_fit import GOOD_IOU, best_ious, fit_sizes
from ssd_lib.boxes.prior_levels import PriorLevel, sizes_of, with_sizes
from ssd_lib.boxes.priors import make_priors

LEVELS = (PriorLevel(16, 0.2, 0.35, (2, 3)), PriorLevel(None, 0.35, 0.6, (2,)), PriorLevel(None, 0.6, 1.1, (2, 3)))
MAP_SIZES = ((10, 10), (5, 5), (2, 2))
SIZE = 160


def _boxes(seed: int, count: int, longest: float = 0.9) -> np.ndarray:
    generator = np.random.default_rng(seed)
    corner, sides = generator.uniform(0, 0.9, (count, 2)), generator.uniform(0.01, longest, (count, 2))
    return np.concatenate([corner, np.minimum(corner + sides, 1)], axis=1)


@given(st.integers(0, 10**6))
def test_the_best_ious_are_those_of_all_priors(seed: int) -> None:
    boxes = _boxes(seed, 20)
    priors = box_convert(make_priors(LEVELS, MAP_SIZES, SIZE).double(), "cxcywh", "xyxy")
    expected = box_iou(torch.from_numpy(boxes), priors).amax(dim=1).numpy()
    assert best_ious(boxes, LEVELS, MAP_SIZES, SIZE) == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 10**6), st.floats(0.05, 0.9))
def test_fitted_sizes_increase_and_cover_no_fewer_boxes(seed: int, longest: float) -> None:
    boxes = _boxes(seed, 40, longest)
    sizes = fit_sizes(boxes, LEVELS, MAP_SIZES, SIZE)
    assert list(sizes) == sorted(set(sizes))
    before, after = ((best_ious(boxes, levels, MAP_SIZES, SIZE) >= GOOD_IOU).mean()
                     for levels in (LEVELS, with_sizes(LEVELS, sizes)))
    assert after >= before


def test_small_boxes_get_small_priors() -> None:
    centres = np.random.default_rng(0).integers(0, 10, (200, 2)) / 10 + 0.05  # of the first map's cells
    boxes = np.concatenate([centres - 0.03, centres + 0.03], axis=1)
    assert (best_ious(boxes, LEVELS, MAP_SIZES, SIZE) >= GOOD_IOU).mean() == 0
    sizes = fit_sizes(boxes, LEVELS, MAP_SIZES, SIZE)
    assert (best_ious(boxes, with_sizes(LEVELS, sizes), MAP_SIZES, SIZE) >= GOOD_IOU).mean() == 1
    assert fit_sizes(boxes, LEVELS, MAP_SIZES, SIZE) == sizes


def test_sizes_of_is_the_inverse_of_with_sizes() -> None:
    assert with_sizes(LEVELS, sizes_of(LEVELS)) == LEVELS


@pytest.mark.parametrize("box", [[0.5, 0.5, 0.501, 0.501], [0.0, 0.5, 1.0, 0.502]], ids=["tiny", "thin"])
def test_boxes_that_no_prior_can_fit_leave_the_sizes_as_they_are(box: list[float]) -> None:
    assert fit_sizes(np.array([box]), LEVELS, MAP_SIZES, SIZE) == sizes_of(LEVELS)


def test_centres_beyond_the_image_are_clipped_to_its_edge() -> None:
    levels, map_sizes, size = (PriorLevel(16, 0.2, 0.35, (2,)),), ((5, 5),), 65  # the last centre lies at 72 of 65 pixels
    boxes = _boxes(3, 50)
    priors = box_convert(make_priors(levels, map_sizes, size).double(), "cxcywh", "xyxy")
    expected = box_iou(torch.from_numpy(boxes), priors).amax(dim=1).numpy()
    assert best_ious(boxes, levels, map_sizes, size) == pytest.approx(expected, abs=1e-6)
