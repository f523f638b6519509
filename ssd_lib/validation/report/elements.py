"""What a report is made of, before it is HTML or Markdown. All strings are plain: whoever writes them down escapes them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FOLDED_ROWS = 40  # a longer table is folded away in HTML, and a chart ends here
NUMBER = re.compile(r"[\d,.]+( %)?|–|")
ELLIPSIS = "…"


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between backticks is code.

    Attributes:
        tone: plain words, advice that deserves an eye, the verdict good or bad.
    """

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Listing:
    """Lines under a heading."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def numeric(self) -> list[bool]:
        """For each column whether it is all numbers, which stand to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.head)
        return [any(column) and all(NUMBER.fullmatch(cell) for cell in column) for column in columns]


@dataclass(frozen=True)
class Bars:
    """A bar chart: a row for each label, a bar for each series, as long as its share of the series.

    Attributes:
        title: what is counted.
        labels: L texts.
        series: by name: L counts.
        marks: by place: a line drawn before that row, and what it says.
        wholes: by name: what shares are of, where that is not the sum of the counts.
    """

    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[int]]
    marks: Mapping[int, str] = field(default_factory=dict)
    wholes: Mapping[str, int] = field(default_factory=dict)

    def whole(self, name: str) -> int:
        """What the shares of a series are of."""
        return self.wholes.get(name, sum(self.series[name]))


@dataclass(frozen=True)
class Mark:
    """A box on a picture: xywh in pixels of the file; a faulty one is drawn to be seen first."""

    xywh: tuple[float, float, float, float]
    name: str
    is_faulty: bool = False


@dataclass(frozen=True)
class Picture:
    """An image made small, and what is drawn on it.

    Attributes:
        jpeg: the bytes; b"" where the image cannot be shown.
        size: (width, height) of the image file in pixels.
        view: xywh in pixels of the file: what is shown, more than the image where a box leaves it.
        marks: what is drawn.
        blank: what is said instead of an image that cannot be shown.
    """

    jpeg: bytes
    size: tuple[int, int] = (4, 3)
    view: tuple[float, float, float, float] = (0, 0, 4, 3)
    marks: tuple[Mark, ...] = ()
    blank: str = ""


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, or several that belong together."""

    pictures: tuple[Picture, ...]
    name: str
    text: str


@dataclass(frozen=True)
class Sheet:
    """Tiles under a heading."""

    title: str
    tiles: Sequence[Tile]


Block = Text | Listing | Table | Bars | Sheet


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    blocks: Sequence[Block]


def visible(text: str) -> str:
    """Text on one line without what cannot be seen: signs that a terminal obeys, halves of characters, changes of direction."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def shorten(text: str, most: int) -> str:
    """At most so many signs; the middle goes, for names differ at their ends."""
    if len(text) <= most:
        return text
    head = (most - 1) // 3
    return text[:head] + ELLIPSIS + text[len(text) - (most - 1 - head):]


def percent(part: float, whole: float) -> str:
    """A share in words, such as "12.5 %"; of nothing, a dash."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def plural(number: int, word: str) -> str:
    """Such as "1 image" and "1,200 boxes"."""
    ending = "" if number == 1 else "es" if word.endswith(("x", "s")) else "s"
    return f"{number:,} {word}{ending}"
