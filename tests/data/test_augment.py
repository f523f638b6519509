"""Augmentation: independent samples, enforced crops, boxes that follow their pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.data.augment import (
    CROP_MIN_IOUS,
    FILL,
    ZOOM_OUT_MAX,
    Preset,
    augment,
    build_transform,
    centre_inside,
    min_iou_crop,
    move_boxes,
    place,
    zoom_out,
)

GREY = np.full((100, 150, 3), 90, dtype=np.uint8)
BOXES = np.array([[0.2, 0.3, 0.5, 0.6], [0.6, 0.5, 0.9, 0.9]], dtype=np.float32)
LABELS = np.array([1, 2])


def _image_of(boxes: np.ndarray) -> np.ndarray:
    """Return an image of white objects on black."""
    sample = np.zeros((200, 300, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in np.rint(boxes * (300, 200, 300, 200)).astype(int):
        sample[y1:y2, x1:x2] = 255
    return sample


@pytest.mark.parametrize("preset", ["ssd", "ssdlite", "light", "none"])
def test_boxes_follow_their_pixels(preset: str) -> None:
    transform = build_transform(preset, 160)
    box = BOXES[:1]
    for index in range(40):
        image, boxes, labels = augment(transform, _image_of(box), box, LABELS[:1], (1, 0, index))
        assert image.shape == (160, 160, 3)
        if len(boxes) == 0:
            continue
        rows, columns = np.nonzero(image[..., 0] > 0.8 * image.max())
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 160
        np.testing.assert_allclose(boxes[0], seen, atol=0.03)
        assert labels.tolist() == [1]


@pytest.mark.parametrize("preset", ["ssd", "ssdlite", "light", "none"])
def test_an_image_without_objects_goes_through(preset: str) -> None:
    image, boxes, labels = augment(build_transform(preset, 64), GREY, np.empty((0, 4), np.float32), np.empty(0), (1, 2, 3))
    assert image.shape == (64, 64, 3)
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_random_draws_are_independent_over_samples() -> None:
    """With albumentations' own seeding only three patterns occur in 400 draws."""
    transform = build_transform("light", 32)
    ramp = np.tile(np.arange(150, dtype=np.uint8)[None, :, None], (100, 1, 3))
    flips = [augment(transform, ramp, BOXES, LABELS, (1, epoch, i))[0][0, 0, 0] > 75 for epoch in (0, 1) for i in range(200)]
    patterns = {tuple(flips[i:i + 4]) for i in range(0, 400, 4)}
    assert 160 <= sum(flips) <= 240
    assert len(patterns) == 16
    assert flips[:200] != flips[200:]


def test_crop_and_flip_are_drawn_independently() -> None:
    transform = build_transform("ssdlite", 32)
    ramp = np.tile(np.arange(150, dtype=np.uint8)[None, :, None], (100, 1, 3))
    seen = set()
    for index in range(400):
        image, _, _ = augment(transform, ramp, BOXES, LABELS, (1, 0, index))
        row = image[0, :, 0].astype(int)
        seen.add((row[0] > row[-1], abs(row[0] - row[-1]) > 140))
    assert seen == {(flip, whole) for flip in (True, False) for whole in (True, False)}


def test_an_object_is_kept_if_its_centre_is_inside_the_crop() -> None:
    """The colour of a pixel is its position, so that the crop can be read from the sample."""
    positions = np.stack(np.broadcast_arrays(np.arange(200)[None, :], np.arange(200)[:, None], 0), axis=2).astype(np.uint8)
    centres = 200 * (BOXES[:, :2] + BOXES[:, 2:]) / 2
    for index in range(100):
        image, _, labels = augment(build_transform("ssdlite", 64), positions, BOXES, LABELS, (1, 0, index))
        low, high = image[..., :2].min(axis=(0, 1)), image[..., :2].max(axis=(0, 1))
        clear = (np.abs(centres - low) > 2).all(axis=1) & (np.abs(centres - high) > 2).all(axis=1)  # not decided by rounding
        inside = ((centres > low) & (centres < high)).all(axis=1)
        assert [label in labels for label in LABELS[clear]] == inside[clear].tolist()


@pytest.mark.parametrize("preset", ["ssd", "ssdlite"])
def test_the_visible_part_of_a_crowd_stays_when_a_crop_cuts_its_centre_off(preset: str) -> None:
    """Where the crowd's white pixels are in the sample, a crowd box is: nothing of it may train as background."""
    crowd, transform = np.array([[0.1, 0.2, 0.95, 0.9]], dtype=np.float32), build_transform(preset, 160)
    boxes, labels = np.concatenate([crowd, BOXES]), np.array([-1, *LABELS])
    transform = transform._replace(preset=transform.preset._replace(colour=False))
    cut_off = 0
    for index in range(60):
        image, found, kept = augment(transform, _image_of(crowd), boxes, labels, (1, 0, index))
        rows, columns = np.nonzero((image > 200).all(axis=2))
        if len(rows) > 0:
            x1, y1, x2, y2 = found[kept == -1][0] * 160
            np.testing.assert_allclose([x1, y1, x2, y2], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=3)
        _, alone, _ = augment(transform, _image_of(crowd), boxes, np.array([3, *LABELS]), (1, 0, index))
        cut_off += len(alone) < len(found)
    assert cut_off > 0


def test_a_zoomed_out_image_is_surrounded_by_the_mean_colour() -> None:
    transform = build_transform("ssd", 64)._replace(preset=Preset(zoom_out=True))
    samples = [augment(transform, GREY, BOXES, LABELS, (1, 0, index))[0] for index in range(40)]
    around = [sample[(sample != 90).any(axis=2)] for sample in samples]
    assert sum(len(pixels) > 0 for pixels in around) > 10
    assert all((pixels == FILL).all() for pixels in around)


def test_the_arguments_are_not_changed() -> None:
    image, boxes = _image_of(BOXES), BOXES.copy()
    augment(build_transform("ssd", 64), image, boxes, LABELS, (1, 0, 0))
    assert np.array_equal(image, _image_of(BOXES))
    assert np.array_equal(boxes, BOXES)


WHOLE = (0, 0, 150, 100)
PIXEL_BOXES = np.array([[30, 30, 75, 60], [90, 50, 135, 90]], dtype=np.float32)


@pytest.mark.parametrize("min_iou", CROP_MIN_IOUS[1:])
def test_the_minimum_iou_of_a_crop_is_enforced(min_iou: float) -> None:
    """In earlier implementations, all of 200 crops drawn with a minimum of 0.9 were below it."""
    for seed in range(100):
        x1, y1, x2, y2 = crop = min_iou_crop(WHOLE, PIXEL_BOXES, min_iou, np.random.default_rng(seed))
        inside = (np.minimum(PIXEL_BOXES[:, 2:], (x2, y2)) - np.maximum(PIXEL_BOXES[:, :2], (x1, y1))).clip(min=0).prod(axis=1)
        iou = inside / ((x2 - x1) * (y2 - y1) + (PIXEL_BOXES[:, 2:] - PIXEL_BOXES[:, :2]).prod(axis=1) - inside)
        assert iou.max() >= min_iou or crop == WHOLE
        assert centre_inside(PIXEL_BOXES, crop).any()


def test_most_crops_with_a_low_minimum_are_crops() -> None:
    crops = [min_iou_crop(WHOLE, PIXEL_BOXES, 0.1, np.random.default_rng(seed)) for seed in range(100)]
    assert sum(crop != WHOLE for crop in crops) > 90


def test_without_objects_the_whole_crop_is_returned() -> None:
    assert min_iou_crop(WHOLE, PIXEL_BOXES[:0], 0.5, np.random.default_rng(1)) is WHOLE


def test_a_zoomed_out_crop_contains_the_image() -> None:
    crops = [zoom_out(WHOLE, np.random.default_rng(seed)) for seed in range(200)]
    assert 70 <= sum(crop is WHOLE for crop in crops) <= 130
    for x1, y1, x2, y2 in crops:
        assert x1 <= 0 < 150 <= x2
        assert y1 <= 0 < 100 <= y2
        assert x2 - x1 <= ZOOM_OUT_MAX * 150
        assert y2 - y1 <= ZOOM_OUT_MAX * 100


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30), st.data())
def test_the_visible_part_has_pixels_and_boxes_follow_it(width: int, height: int, side: int, data: st.DataObject) -> None:
    """Crops as they are drawn: they contain at least one pixel of the image."""
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    crop = (data.draw(st.integers(-60, x)), data.draw(st.integers(-60, y)),
            data.draw(st.integers(x + 1, 100)), data.draw(st.integers(y + 1, 100)))
    placement = place(crop, (height, width), side)
    for (x1, y1, x2, y2), (right, bottom) in zip(placement, ((width, height), (side, side)), strict=True):
        assert 0 <= x1 < x2 <= right
        assert 0 <= y1 < y2 <= bottom
    shown = np.array([placement.source], dtype=np.float64)
    np.testing.assert_allclose(move_boxes(shown, placement, side)[0] * side, placement.target, atol=1e-9)
