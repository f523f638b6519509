"""The imitation of detectnet, on made-up outputs of a net."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.detectnet import detectnet, preprocess, shared

FRAME = np.zeros((100, 200, 3), np.uint8)


def session(*priors: tuple[list[float], list[float]]) -> Any:
    """Return what behaves like a session whose net gives these scores and boxes."""
    scores, boxes = (np.array([column], np.float32) for column in zip(*priors, strict=True))
    return SimpleNamespace(run=lambda names, inputs: [scores, boxes],
                           get_inputs=lambda: [SimpleNamespace(shape=[1, 3, 4, 4])])


def test_pixels_are_picked_and_scaled_as_detectnet_does() -> None:
    frame = np.zeros((6, 8, 3), np.uint8)
    frame[3, 4] = (255, 102, 0)
    pixels = preprocess(frame, 4)
    assert pixels[0, :, 2, 2] == pytest.approx([1, -0.2, -1])  # row 2 x 6 / 4, column 2 x 8 / 4
    assert (pixels == -1).sum() == 3 * 16 - 2


def test_a_prior_is_an_object_of_its_best_class_even_beside_more_background() -> None:
    found = detectnet(session(([0.45, 0.3, 0.25], [0, 0, 0.5, 0.5]), ([0.9, 0.1, 0.6], [0.5, 0.5, 0.75, 0.75])), FRAME)
    assert found.labels.tolist() == [2]
    assert found.boxes.tolist() == [[100, 50, 150, 75]]
    assert found.scores == pytest.approx([0.6])


def test_boxes_of_a_class_that_share_most_of_the_larger_become_their_hull() -> None:
    found = detectnet(session(
        ([0, 0.6, 0], [0, 0, 0.5, 0.5]), ([0, 0.9, 0], [0.05, 0, 0.5, 0.5]),  # 0.9 of the larger
        ([0, 0, 0.8], [0, 0, 0.5, 0.5]),  # another class
        ([0, 0.7, 0], [0.2, 0, 0.7, 0.5])), FRAME)  # 0.6 of the larger, which NMS would drop
    assert sorted(found.labels.tolist()) == [1, 1, 2]
    assert sorted(found.scores.tolist()) == pytest.approx([0.7, 0.8, 0.9])
    assert found.boxes[found.scores.argmax()].tolist() == [0, 0, 100, 50]


def test_boxes_end_in_the_frame_and_the_largest_comes_first() -> None:
    found = detectnet(session(([0, 0.6, 0], [0, 0, 0.1, 0.1]), ([0, 0, 0.6], [0.5, 0.5, 1, 1])), FRAME)
    assert found.boxes.round().tolist() == [[100, 50, 199, 99], [0, 0, 20, 10]]
    assert (shared(found, found, 0.99), shared(found, found._replace(labels=found.labels[::-1]), 0.5)) == (2, 0)
    assert len(detectnet(session(([1, 0, 0], [0, 0, 1, 1])), FRAME).labels) == 0
