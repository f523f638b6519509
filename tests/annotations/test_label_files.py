"""What the readers share: numbers as people write them, pixels from shares, and label files that cannot be read."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.annotations.label_files import MAX_BYTES, ROW, parse_number, read_labels, rows_in_pixels
from ssd_lib.errors import InputError

SIZES = np.array([[640, 480], [0, 0], [100, 50]])


@pytest.mark.parametrize(("text", "number"), [("3", 3), (" 0.5\n", 0.5), ("-1e-3", -0.001), ("+2.", 2), ("1e400", math.inf)])
def test_a_number_is_read_as_all_tools_read_it(text: str, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", " ", "1_000", "١", "0x10", "1,5", "one", "1 2", "\0"])
def test_what_is_a_number_to_few_tools_is_none(text: str) -> None:
    assert parse_number(text) is None


@given(st.lists(st.integers(0, 640), min_size=2, max_size=2, unique=True), st.integers(6, 9))
def test_whole_pixels_come_back_from_shares_of_enough_decimals(edges: list[int], decimals: int) -> None:
    left, right = sorted(edges)
    share, width = round(left / 640, decimals), round((right - left) / 640, decimals)
    rows = np.array([(0, 1, (share, 0.0, width, 1.0), False, 1)], ROW)
    assert rows_in_pixels(rows, SIZES)["xywh"].tolist() == [pytest.approx([left, 0, right - left, 480], abs=0.0011)]


def test_objects_on_images_of_unknown_size_are_left_out() -> None:
    rows = np.array([(owner, 1, (0.5, 0.5, 0.25, 0.25), False, owner) for owner in (2, 1, 0)], ROW)
    found = rows_in_pixels(rows, SIZES)
    assert found["place"].tolist() == [2, 0]
    assert found["xywh"].tolist() == [[50, 25, 25, 12.5], [320, 240, 160, 120]]
    assert rows["xywh"].tolist() == [[0.5, 0.5, 0.25, 0.25]] * 3


@pytest.mark.filterwarnings("error")
def test_absurd_shares_stay_what_they_are() -> None:
    found = rows_in_pixels(np.array([(0, 1, (math.nan, -math.inf, 1e308, 0.5), False, 1)], ROW), SIZES)
    assert np.array_equal(found["xywh"], [[math.nan, -math.inf, math.inf, 240]], equal_nan=True)


def test_a_label_file_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, error in (("huge.txt", "more than 64 MiB"), ("absent.txt", "cannot be read: No such file"),
                        (".", "cannot be read: "), ("a\0.txt", "cannot be read: embedded null byte")):
        with pytest.raises(InputError) as caught:
            read_labels(tmp_path, name)
        assert str(caught.value).startswith(f"{name}: {error}")
