"""Flat arrays: numbers are translated in both ways alike, parts are joined without mixing their images."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.rows import Rows, flat, rows_of

from ssd_lib.annotations.table import LARGEST_TABLE, Box, Category, Image, merge, translate

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
