"""Flat arrays: ids are translated in both ways alike, parts are joined without mixing their images, pixels are exact."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import Rows, flat, rows_of

from ssd_lib.annotations.table import LABEL_ROW, LARGEST_TABLE, Box, Category, Image, merge, rows_in_pixels, translate

SIZES = np.array([[640, 480], [0, 0], [100, 50]])
NUMBERS = st.lists(st.integers(-3, 12), max_size=9)


@given(NUMBERS, NUMBERS)
def test_small_numbers_are_looked_up_as_large_ones_are_searched(old: list[int], numbers: list[int]) -> None:
    places = np.arange(len(old))
    expected = [old.index(number) if number in old else -1 for number in numbers]
    for shift in (0, 3, LARGEST_TABLE, 2**62):
        moved = (np.array(values, dtype=np.int64) + shift for values in (numbers, old))
        assert translate(*moved, places).tolist() == expected


def test_parts_are_joined_by_the_names_of_their_classes() -> None:
    first = Rows((Image(7, "a", 9, 9),), (Box(1, 7, 3, 0, 0, 1, 1, 1, False), Box(2, 8, 3, 0, 0, 1, 1, 1, False)),
                 (Category(3, "dog", 3),), {})
    second = Rows((Image(7, "b", 8, 8),), (Box(1, 7, 3, 0, 0, 2, 2, 4, True),), (Category(3, "cat ", 3),), {})
    classes = (Category(1, "dog", 1), Category(2, "cat", 2))
    joined = rows_of(merge([flat(first), flat(second)], classes))
    assert joined.images == (Image(1, "a", 9, 9), Image(2, "b", 8, 8))
    assert joined.boxes == (Box(1, 1, 1, 0, 0, 1, 1, 1, False), Box(2, -1, 1, 0, 0, 1, 1, 1, False),
                            Box(3, 2, 2, 0, 0, 2, 2, 4, True))
    assert joined.categories == classes


@given(st.lists(st.integers(0, 640), min_size=2, max_size=2, unique=True), st.integers(6, 9))
def test_whole_pixels_come_back_from_shares_of_enough_decimals(edges: list[int], decimals: int) -> None:
    left, right = sorted(edges)
    share, width = round(left / 640, decimals), round((right - left) / 640, decimals)
    rows = np.array([(0, 1, (share, 0.0, width, 1.0), False, 1)], LABEL_ROW)
    assert rows_in_pixels(rows, SIZES)["xywh"].tolist() == [pytest.approx([left, 0, right - left, 480], abs=0.0011)]


def test_objects_on_images_of_unknown_size_are_left_out() -> None:
    rows = np.array([(image, 1, (0.5, 0.5, 0.25, 0.25), False, image) for image in (2, 1, 0)], LABEL_ROW)
    found = rows_in_pixels(rows, SIZES)
    assert found["source_line"].tolist() == [2, 0]
    assert found["xywh"].tolist() == [[50, 25, 25, 12.5], [320, 240, 160, 120]]
    assert rows["xywh"].tolist() == [[0.5, 0.5, 0.25, 0.25]] * 3


@pytest.mark.filterwarnings("error")
def test_absurd_shares_stay_what_they_are() -> None:
    found = rows_in_pixels(np.array([(0, 1, (math.nan, -math.inf, 1e308, 0.5), False, 1)], LABEL_ROW), SIZES)
    assert np.array_equal(found["xywh"], [[math.nan, -math.inf, math.inf, 240]], equal_nan=True)
