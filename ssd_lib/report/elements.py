"""The elements of the report, before they are HTML or Markdown. All strings are plain text: the templates escape them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

MAX_OPEN_LINES = 8  # the lines of a listing after them are collapsed in HTML
MAX_OPEN_ROWS = 40  # a longer table is collapsed in HTML, and a chart ends here
NUMBER = re.compile(r"[\d,.]+( %)?|–|")


@dataclass(frozen=True)
class Text:
    """A paragraph; words between backticks are code.

    Attributes:
        tone: plain, advice, or good or bad for the summary.
        page: a page of docs/ that says more, such as nets.md; "" for none.
    """

    kind: ClassVar[str] = "text"
    text: str
    tone: str = "plain"
    page: str = ""


@dataclass(frozen=True)
class Listing:
    """Lines under a heading."""

    kind: ClassVar[str] = "listing"
    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells."""

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def numeric(self) -> list[bool]:
        """For each column whether all cells are numbers; such columns are aligned to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.head)
        return [any(column) and all(NUMBER.fullmatch(cell) for cell in column) for column in columns]


@dataclass(frozen=True)
class Bars:
    """A bar chart: one row per label with one bar per series; a bar's length is its share of the series.

    Attributes:
        title: what is counted.
        labels: L texts.
        series: by name: L counts.
        marks: by row: the text of a line that is drawn above that row.
        totals: by name: what the shares refer to, where that is not the sum of the counts.
    """

    kind: ClassVar[str] = "bars"
    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[int]]
    marks: Mapping[int, str] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """Return the count that the shares of a series refer to."""
        return self.totals.get(name, sum(self.series[name]))

    @property
    def longest(self) -> float:
        """The largest share of all series; 1 where all are 0."""
        return max(max(counts) / max(1, self.total(name)) for name, counts in self.series.items()) or 1


@dataclass(frozen=True)
class Lines:
    """A chart of lines.

    Attributes:
        title: what is shown.
        x_label: the quantity of the horizontal axis; that of the vertical one is in the title.
        series: by name: (x, y) of each point.
        top: the upper end of the vertical axis; 0 for that of the points.
    """

    kind: ClassVar[str] = "lines"
    title: str
    x_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    top: float = 0


@dataclass(frozen=True)
class Matrix:
    """Counts by row and column. A cell is coloured by its share of the row: those with equal names well, the others badly."""

    kind: ClassVar[str] = "matrix"
    row_title: str
    column_title: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Mark:
    """A box on an image.

    Attributes:
        xywh: in pixels of the file.
        name: a tooltip, and a text in a wide box.
        is_faulty: whether it is highlighted.
        tone: how its line is drawn: box, right, wrong, missed or crowd.
    """

    xywh: tuple[float, float, float, float]
    name: str
    is_faulty: bool = False
    tone: str = "box"


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of an image, and the boxes drawn on it.

    Attributes:
        jpeg: the bytes; b"" where the image cannot be shown.
        size: (width, height) of the image file in pixels.
        view: xywh in pixels of the file: the visible area, larger than the image where a faulty box leaves it.
        marks: the boxes.
        reason: why the image cannot be shown.
    """

    jpeg: bytes
    size: tuple[int, int] = (4, 3)
    view: tuple[float, float, float, float] = (0, 0, 4, 3)
    marks: tuple[Mark, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Tile:
    """One thumbnail with its caption, or several that belong together."""

    thumbnails: tuple[Thumbnail, ...]
    name: str
    text: str


@dataclass(frozen=True)
class Thumbnails:
    """Tiles under a heading."""

    kind: ClassVar[str] = "thumbnails"
    title: str
    tiles: Sequence[Tile]


Element = Text | Listing | Table | Bars | Lines | Matrix | Thumbnails


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    elements: Sequence[Element]


def percent(part: float, total: float) -> str:
    """Return a share such as "12.5 %"; a dash where the total is 0."""
    return f"{100 * part / total:.1f} %" if total else "–"
