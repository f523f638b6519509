"""Where the lines and the ticks of a chart are drawn, in the units of its SVG: 480 wide, 270 high."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ssd_lib.report.elements import Lines

LEFT, RIGHT, TOP, BOTTOM = 40.0, 470.0, 8.0, 230.0
TICKS = 6  # at most, along each axis

Ticks = Sequence[tuple[float, str]]


class LineChart(NamedTuple):
    """Positions and texts of the ticks, and the points of each line as SVG writes them."""

    x_ticks: Ticks
    y_ticks: Ticks
    lines: Sequence[str]


def line_chart(chart: Lines) -> LineChart:
    """Return where a chart is drawn; its vertical axis begins at 0, or at the lowest point below it."""
    points = [point for series in chart.series.values() for point in series] or [(0.0, 0.0)]
    xs, ys = zip(*points, strict=True)
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = min(0.0, *ys), max(chart.top, *ys, 1e-9)

    def x_at(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - x_low) / (x_high - x_low)

    def y_at(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - y_low) / (y_high - y_low)

    lines = [" ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in series) for series in chart.series.values()]
    return LineChart([(x_at(value), f"{value:g}") for value in ticks(x_low, x_high)],
                     [(y_at(value), f"{value:g}") for value in ticks(y_low, y_high)], lines)


def ticks(low: float, high: float) -> list[float]:
    """Return at most TICKS round values in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10, 20, 50) if (high - low) / (factor * power) <= TICKS - 1)
    return [round(step * number, 9) for number in range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)]
