"""Numbers and label files: what all tools read is read, a file that cannot be a label file is named."""

import math
from pathlib import Path

import pytest

from ssd_lib.annotations.files import MAX_LABEL_BYTES, parse_number, read_label_file
from ssd_lib.errors import InputError


@pytest.mark.parametrize(("text", "number"), [("3", 3), (" 0.5\n", 0.5), ("-1e-3", -0.001), ("+2.", 2), ("1e400", math.inf)])
def test_a_number_is_read_as_all_tools_read_it(text: str, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", " ", "1_000", "١", "0x10", "1,5", "one", "1 2", "\0"])
def test_what_is_a_number_to_few_tools_is_none(text: str) -> None:
    assert parse_number(text) is None


def test_a_label_file_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(MAX_LABEL_BYTES + 1)
    for name, error in (("huge.txt", "more than 64 MiB"), ("absent.txt", "cannot be read: No such file"),
                        (".", "cannot be read: "), ("a\0.txt", "cannot be read: embedded null byte")):
        with pytest.raises(InputError) as caught:
            read_label_file(tmp_path, name)
        assert str(caught.value).startswith(f"{name}: {error}")
