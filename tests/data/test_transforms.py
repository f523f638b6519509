"""Augmentation: independent dice, honest crops, boxes that follow the pixels."""

import numpy as np
import pytest

from ssd_lib.data.transforms import CROP_MIN_IOUS, MinIoUCrop, ZoomOut, augment, build_transform

GREY = np.full((100, 150, 3), 90, dtype=np.uint8)
BOXES = np.array([[0.2, 0.3, 0.5, 0.6], [0.6, 0.5, 0.9, 0.9]], dtype=np.float32)
LABELS = np.array([1, 2])


def _picture_of(boxes: np.ndarray) -> np.ndarray:
    """White objects on black."""
    picture = np.zeros((200, 300, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in np.rint(boxes * (300, 200, 300, 200)).astype(int):
        picture[y1:y2, x1:x2] = 255
    return picture


@pytest.mark.parametrize("preset", ["ssd", "ssdlite", "light", "none"])
def test_boxes_follow_their_pixels(preset: str) -> None:
    transform = build_transform(preset, 160)
    box = BOXES[:1]
    for index in range(40):
        image, boxes, labels = augment(transform, _picture_of(box), box, LABELS[:1], (1, 0, index))
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


def test_dice_are_independent_over_samples_and_transforms() -> None:
    """albumentations' own seeding gives three patterns in 400 draws where 24 are due: crop or not, flip or not, ..."""
    transform = build_transform("light", 32)
    ramp = np.tile(np.arange(150, dtype=np.uint8)[None, :, None], (100, 1, 3))
    flips = [augment(transform, ramp, BOXES, LABELS, (1, epoch, i))[0][0, 0, 0] > 75 for epoch in (0, 1) for i in range(200)]
    patterns = {tuple(flips[i:i + 4]) for i in range(0, 400, 4)}
    assert 160 <= sum(flips) <= 240
    assert len(patterns) == 16
    assert flips[:200] != flips[200:]


def test_crop_and_flip_are_thrown_apart() -> None:
    transform = build_transform("ssdlite", 32)
    ramp = np.tile(np.arange(150, dtype=np.uint8)[None, :, None], (100, 1, 3))
    seen = set()
    for index in range(400):
        image, _, _ = augment(transform, ramp, BOXES, LABELS, (1, 0, index))
        row = image[0, :, 0].astype(int)
        seen.add((row[0] > row[-1], abs(row[0] - row[-1]) > 140))
    assert seen == {(flip, whole) for flip in (True, False) for whole in (True, False)}


def test_the_minimum_iou_of_a_crop_is_enforced() -> None:
    """In the predecessors, of 200 crops drawn with a minimum of 0.9 all were below it."""
    import ssd_lib.data.transforms as transforms
    crop = MinIoUCrop()
    crop.set_random_state(np.random.default_rng(1), None)
    for min_iou in CROP_MIN_IOUS[1:]:
        transforms_options, transforms.CROP_MIN_IOUS = transforms.CROP_MIN_IOUS, (min_iou,)
        try:
            drawn = [crop.get_params_dependent_on_data({"shape": (100, 150)}, {"bboxes": BOXES})["crop"] for _ in range(100)]
        finally:
            transforms.CROP_MIN_IOUS = transforms_options
        for x1, y1, x2, y2 in drawn:
            overlap = np.minimum(BOXES[:, 2:], (x2, y2)) - np.maximum(BOXES[:, :2], (x1, y1))
            inside = overlap.clip(min=0).prod(axis=1)
            iou = inside / ((x2 - x1) * (y2 - y1) + (BOXES[:, 2:] - BOXES[:, :2]).prod(axis=1) - inside)
            assert iou.max() >= min_iou - 1e-6 or (x1, y1, x2, y2) == (0, 0, 1, 1)


def test_zooming_out_makes_objects_smaller_in_the_same_shape() -> None:
    zoom = ZoomOut(p=1.0)
    zoom.set_random_state(np.random.default_rng(1), None)
    params = {"shape": (100, 150), **zoom.get_params_dependent_on_data({"shape": (100, 150)}, {})}
    boxes = zoom.apply_to_bboxes(BOXES, **params)
    assert ((boxes[:, 2:] - boxes[:, :2]) <= (BOXES[:, 2:] - BOXES[:, :2])).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1


def test_the_arguments_are_left_as_they_were() -> None:
    picture, boxes = _picture_of(BOXES), BOXES.copy()
    augment(build_transform("ssd", 64), picture, boxes, LABELS, (1, 0, 0))
    assert np.array_equal(picture, _picture_of(BOXES))
    assert np.array_equal(boxes, BOXES)
