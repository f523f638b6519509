"""A report as one HTML page that needs nothing else: no network, no script, no fonts."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ssd_lib.validation.report.charts import bar, drawing
from ssd_lib.validation.report.elements import (
    FOLDED_ROWS,
    Bars,
    Block,
    Listing,
    Picture,
    Section,
    Sheet,
    Table,
    Text,
    Tile,
    percent,
    shorten,
    visible,
)

STYLE = Path(__file__).with_name("page.css")
NAME_SIGNS = 44  # of a file's name below its picture; the whole of it is in the tooltip
CELL_SIGNS, TEXT_SIGNS = 80, 240
COLUMNS = '<colgroup><col class="label"><col><col class="count"></colgroup>'
CODE, CODE_TAG = re.compile(r"`([^`]+)`"), r"<code>\1</code>"


def html_page(title: str, sections: Sequence[Section]) -> str:
    """The page; the first section is the verdict, and has no heading."""
    first, *others = sections
    links = "".join(f'<a href="#s{at}">{_plain(section.title)}</a>' for at, section in enumerate(others, start=1))
    parts = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
             '<meta name="viewport" content="width=device-width, initial-scale=1">', f"<title>{_plain(title)}</title>",
             f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>", "</head>", "<body>", f"<h1>{_plain(title)}</h1>",
             "<header>", *map(_block, first.blocks), f"<nav>{links}</nav>", "</header>"]
    for at, section in enumerate(others, start=1):
        parts += [f'<section id="s{at}">', f"<h2>{_plain(section.title)}</h2>", *map(_block, section.blocks), "</section>"]
    return "\n".join([*parts, "</body>", "</html>", ""])


def _block(block: Block) -> str:
    match block:
        case Text():
            return f'<p class="{block.tone}">{CODE.sub(CODE_TAG, _plain(block.text))}</p>'
        case Listing():
            lines = "".join(f"<li>{_plain(shorten(line, TEXT_SIGNS))}</li>" for line in block.lines)
            return f"<h3>{_plain(block.title)}</h3>\n<ul>{lines}</ul>"
        case Table():
            return _table(block)
        case Bars():
            return _bars(block)
        case Sheet():
            return _sheet(block)


def _plain(text: str) -> str:
    return escape(visible(text))


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        kinds = [' class="number"' if is_number else "" for is_number in numeric]
        return "<tr>" + "".join(f"<{tag}{kind}>{_plain(shorten(cell, CELL_SIGNS))}</{tag}>"
                                for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"

    numeric = table.numeric()
    body = "\n".join(row("td", cells) for cells in table.rows)
    whole = f'<div class="wide"><table>\n<thead>{row("th", table.head)}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
    if len(table.rows) <= FOLDED_ROWS:
        return whole
    return f"<details><summary>All {len(table.rows)} as a table</summary>\n{whole}\n</details>"


def _bars(bars: Bars) -> str:
    longest = max(max(counts) / max(1, bars.whole(name)) for name, counts in bars.series.items())
    rows = []
    for at, label in enumerate(bars.labels):
        if at in bars.marks:
            rows.append(f'<tr class="mark"><td colspan="3">{_plain(bars.marks[at])}</td></tr>')
        rows.append(_bar_row(label, [(counts[at], bars.whole(name)) for name, counts in bars.series.items()],
                             longest or 1))
    key = "".join(f'<span><svg aria-hidden="true"><rect class="s{at}" width="12" height="12" rx="2"/></svg>'
                  f"{_plain(name)}</span>" for at, name in enumerate(bars.series))
    return (f'<h3>{_plain(bars.title)}</h3>\n<div class="key">{key}</div>\n<table class="chart">{COLUMNS}<tbody>\n'
            + "\n".join(rows) + "\n</tbody></table>")


def _bar_row(label: str, numbers: Sequence[tuple[int, int]], longest: float) -> str:
    """A label, a bar for each series, and the number and share of the first."""
    drawn = "".join(bar(count / max(1, total) / longest, at) for at, (count, total) in enumerate(numbers))
    count, total = numbers[0]
    return (f'<tr><td>{_plain(shorten(label, NAME_SIGNS))}</td><td>{drawn}</td>'
            f'<td class="number">{count:,} · {percent(count, total)}</td></tr>')


def _sheet(sheet: Sheet) -> str:
    kind = "sheet pairs" if any(len(tile.pictures) > 1 for tile in sheet.tiles) else "sheet"
    head = f"<h3>{_plain(sheet.title)}</h3>\n" if sheet.title else ""
    return f'{head}<div class="{kind}">\n' + "\n".join(map(_tile, sheet.tiles)) + "\n</div>"


def _tile(tile: Tile) -> str:
    pictures = "".join(map(_picture, tile.pictures))
    name, text = shorten(visible(tile.name), NAME_SIGNS), shorten(visible(tile.text), TEXT_SIGNS)
    kind = "frame" if any(picture.jpeg for picture in tile.pictures) else "frame low"
    return (f'<figure><div class="{kind}">{pictures}</div>'
            f'<figcaption><b title="{_plain(tile.name)}">{escape(name)}</b>{escape(text)}</figcaption></figure>')


def _picture(picture: Picture) -> str:
    return drawing(picture) if picture.jpeg else f'<div class="blank">{_plain(picture.blank)}</div>'
