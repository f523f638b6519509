"""Views: honest crops, and boxes that follow the pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.data.crops import CROP_MIN_IOUS, ZOOM_OUT_MAX, centre_inside, min_iou_crop, move_boxes, place, zoom_out

WHOLE = (0, 0, 150, 100)
BOXES = np.array([[30, 30, 75, 60], [90, 50, 135, 90]], dtype=np.float32)


@pytest.mark.parametrize("min_iou", CROP_MIN_IOUS[1:])
def test_the_minimum_iou_of_a_crop_is_enforced(min_iou: float) -> None:
    """In the predecessors, of 200 crops drawn with a minimum of 0.9 all were below it."""
    for seed in range(100):
        x1, y1, x2, y2 = crop = min_iou_crop(WHOLE, BOXES, min_iou, np.random.default_rng(seed))
        inside = (np.minimum(BOXES[:, 2:], (x2, y2)) - np.maximum(BOXES[:, :2], (x1, y1))).clip(min=0).prod(axis=1)
        iou = inside / ((x2 - x1) * (y2 - y1) + (BOXES[:, 2:] - BOXES[:, :2]).prod(axis=1) - inside)
        assert iou.max() >= min_iou or crop == WHOLE
        assert centre_inside(BOXES, crop).any()


def test_most_crops_with_a_low_minimum_are_crops() -> None:
    crops = [min_iou_crop(WHOLE, BOXES, 0.1, np.random.default_rng(seed)) for seed in range(100)]
    assert sum(crop != WHOLE for crop in crops) > 90


def test_without_objects_the_whole_view_is_taken() -> None:
    assert min_iou_crop(WHOLE, BOXES[:0], 0.5, np.random.default_rng(1)) is WHOLE


def test_zooming_out_keeps_the_image_in_view() -> None:
    views = [zoom_out(WHOLE, np.random.default_rng(seed)) for seed in range(200)]
    assert 70 <= sum(view is WHOLE for view in views) <= 130
    for x1, y1, x2, y2 in views:
        assert x1 <= 0 < 150 <= x2
        assert y1 <= 0 < 100 <= y2
        assert x2 - x1 <= ZOOM_OUT_MAX * 150
        assert y2 - y1 <= ZOOM_OUT_MAX * 100


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.data())
def test_what_is_visible_has_pixels_and_boxes_follow_it(width: int, height: int, side: int, data: st.DataObject) -> None:
    """Views as they are drawn: they see at least a pixel of the image."""
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    view = (data.draw(st.integers(-60, x)), data.draw(st.integers(-60, y)),
            data.draw(st.integers(x + 1, 100)), data.draw(st.integers(y + 1, 100)))
    placement = place(view, (height, width), side)
    for (x1, y1, x2, y2), (right, bottom) in zip(placement, ((width, height), (side, side)), strict=True):
        assert 0 <= x1 < x2 <= right
        assert 0 <= y1 < y2 <= bottom
    shown = np.array([placement.source], dtype=np.float64)
    np.testing.assert_allclose(move_boxes(shown, placement, side)[0] * side, placement.target, atol=1e-9)
