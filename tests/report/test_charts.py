import pytest

from ssd_lib.report.charts import BOTTOM, LEFT, RIGHT, TICKS, TOP, line_chart, ticks
from ssd_lib.report.elements import Lines


@pytest.mark.parametrize(("low", "high", "expected"), [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1, 8, [2, 4, 6, 8]), (0, 0.03, [0, 0.01, 0.02, 0.03]), (0, 730, [0, 200, 400, 600])])
def test_ticks_are_few_round_numbers_in_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


@pytest.mark.parametrize("high", [1e-9, 0.017, 1.234, 9.99, 1e6])
def test_any_range_has_ticks_but_not_too_many(high: float) -> None:
    assert 1 <= len(ticks(0, high)) <= TICKS


def test_a_line_fills_the_width_and_the_axis_begins_at_0() -> None:
    chart = line_chart(Lines("", "", {"a": [(1, 4), (3, 2)], "b": [(2, 0)]}))
    middle = (LEFT + RIGHT) / 2
    assert chart.lines == [f"{LEFT},{TOP} {RIGHT},{(TOP + BOTTOM) / 2}", f"{middle},{BOTTOM}"]
    assert chart.x_ticks[0] == (LEFT, "1")
    assert chart.y_ticks[-1] == (TOP, "4")


@pytest.mark.parametrize("points", [[], [(1, 0)], [(5, 2), (5, 2)]])
def test_few_points_are_no_error(points: list[tuple[float, float]]) -> None:
    assert len(line_chart(Lines("", "", {"a": points})).lines) == 1
