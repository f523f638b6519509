"""Class balance: which images an epoch uses more often, and which less."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.data.balance import Mode, boxes_per_epoch, repeat_factors

# Of 8 images 0..7: class 1 on six, class 2 on two, class 3 on one; image 7 has no objects.
IMAGES = np.array([0, 0, 1, 2, 3, 4, 5, 5, 6, 6, 6])
LABELS = np.array([1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize(("mode", "threshold", "expected"), [
    ("none", "auto", [1, 1, 1, 1, 1, 1, 1, 1]),
    ("repeat", "auto", [1, 1, 1, 1, 1, 1, 2**0.5, 1]),  # the median class is on 1/4 of them, class 3 on 1/8: sqrt(2)
    ("repeat", 0.5, [1, 1, 1, 1, 1, 2**0.5, 2, 1]),
    ("downsample", "auto", [1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1, 1, 1]),  # class 1 is on 6/8: 1/4 : 6/8
    ("repeat", 0.001, [1] * 8),
])
def test_the_rarest_class_of_an_image_decides_its_factor(mode: Mode, threshold: float, expected: list[float]) -> None:
    assert np.allclose(repeat_factors(IMAGES, LABELS, 8, mode, threshold), expected)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5))), st.sampled_from(["repeat", "downsample"]))
def test_repeat_factors_are_at_least_1_and_downsample_factors_at_most_1(pairs: list[tuple[int, int]], mode: Mode) -> None:
    rows = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    factors = repeat_factors(rows[:, 0], rows[:, 1], 10, mode, "auto")
    assert (factors >= 1).all() if mode == "repeat" else ((factors > 0) & (factors <= 1)).all()


def test_boxes_per_epoch_are_counted_by_class() -> None:
    factors = repeat_factors(IMAGES, LABELS, 8, "downsample", "auto")
    assert np.allclose(boxes_per_epoch(IMAGES, LABELS, factors, 3), [6 / 3 + 1, 2, 2])
