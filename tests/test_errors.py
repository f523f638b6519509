"""The first line of an exception's message, for messages of one line."""

import pytest

from ssd_lib.errors import first_line


@pytest.mark.parametrize(("error", "line"), [
    (ValueError("one"), "one"), (RuntimeError("one\ntwo\r\nthree"), "one"), (EOFError(), "EOFError")])
def test_the_first_line_is_the_message_s_or_else_the_name_of_the_class(error: Exception, line: str) -> None:
    assert first_line(error) == line
