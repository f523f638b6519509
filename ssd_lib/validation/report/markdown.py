"""A report as Markdown: the same words and tables, made to be read in a terminal as well; no pictures."""

import re
from collections.abc import Iterator, Sequence

from ssd_lib.validation.report.elements import Bars, Block, Listing, Section, Sheet, Table, Text, percent, visible

BAR_SIGNS = 30  # the longest bar
CODE = re.compile(r"(`[^`]+`)")  # stays as it is
SPECIAL = re.compile(r"([\\|<*`]|\](?=\())")  # what Markdown might take for its own


def markdown_page(title: str, sections: Sequence[Section]) -> str:
    """The report; its first section is the verdict, and has no heading."""
    parts = [f"# {title}"]
    for at, section in enumerate(sections):
        parts += [f"## {section.title}"] if at else []
        parts += [part for block in section.blocks for part in _block(block)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text():
            words = "".join(part if at % 2 else _plain(part) for at, part in enumerate(CODE.split(block.text)))
            yield f"**{words}**" if block.tone in ("good", "bad") else f"> {words}" if block.tone == "advice" else words
        case Listing():
            yield f"### {block.title}"
            yield "\n".join(f"- {_plain(line)}" for line in block.lines)
        case Table():
            yield _table(block)
        case Bars():
            yield f"### {block.title}"
            yield _table(_as_table(block))
        case Sheet():
            if block.title:
                yield f"### {block.title}"
            yield "\n".join(f"- {_plain(tile.name)}: {_plain(tile.text)}" for tile in block.tiles)


def _as_table(bars: Bars) -> Table:
    """Numbers and shares of every series, and a bar for the first."""
    first = next(iter(bars.series.values()))
    longest = max(1, *first)
    head = ["", *(cell for name in bars.series for cell in (name, "share")), ""]
    rows = []
    for at, label in enumerate(bars.labels):
        if at in bars.marks:
            rows.append([f"({bars.marks[at]})", *[""] * (len(head) - 1)])
        numbers = [cell for name, counts in bars.series.items()
                   for cell in (f"{counts[at]:,}", percent(counts[at], bars.whole(name)))]
        rows.append([label, *numbers, "█" * round(BAR_SIGNS * first[at] / longest)])
    return Table(head, rows)


def _table(table: Table) -> str:
    cells = [[_plain(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(table.head))]
    right = table.numeric()
    lines = ["| " + " | ".join(cell.rjust(width) if is_number else cell.ljust(width)
                               for cell, width, is_number in zip(row, widths, right, strict=True)) + " |" for row in cells]
    rule = ["-" * (width + 1) + (":" if is_number else "-") for width, is_number in zip(widths, right, strict=True)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def _plain(text: str) -> str:
    return SPECIAL.sub(r"\\\1", visible(text))
