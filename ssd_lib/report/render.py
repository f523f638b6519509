"""Turn sections into one HTML page that needs no network, or into Markdown; the same sections give the same bytes."""

import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ssd_lib.errors import visible
from ssd_lib.report.charts import line_chart
from ssd_lib.report.elements import MAX_OPEN_LINES, MAX_OPEN_ROWS, Bars, Section, Table, percent
from ssd_lib.report.thumbnails import svg_box

MIN_BAR_PERCENT = 0.3  # of the width, so that a bar of a small count is still visible
MARKDOWN_BAR = 30  # characters of the longest bar
CODE = re.compile(r"`([^`]+)`")
MARKDOWN_SPECIAL = re.compile(r"([\\|<*`]|\](?=\())")  # characters that Markdown would interpret


def render_html(title: str, sections: Sequence[Section]) -> str:
    """Return the report as one HTML page; the first section is the summary and has no heading."""
    return _environment(for_html=True).get_template("page.html.jinja").render(
        title=title, sections=sections, max_open_rows=MAX_OPEN_ROWS, max_open_lines=MAX_OPEN_LINES)


def render_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return the same texts and tables as Markdown that is readable in a terminal; without images."""
    return _environment(for_html=False).get_template("page.md.jinja").render(title=title, sections=sections)


def _environment(for_html: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=for_html, finalize=_finalize if for_html else None,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {
        "shorten": visible, "percent": percent, "bar_width": _bar_width, "svg_box": svg_box, "line_chart": line_chart,
        "short": _short, "base64": lambda data: b64encode(data).decode(), "code_html": _code_html,
        "code_markdown": _code_markdown, "escape_markdown": _escape_markdown, "as_table": _as_table,
        "table_markdown": _table_markdown}
    return environment


def _finalize(value: Any) -> Any:
    """Make the text of every expression of a template visible; Markup is what macros and filters have already rendered."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _code_html(text: str) -> Markup:
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(visible(text)))))  # re joins the pieces of Markup escaped


def _bar_width(count: int, total: int, longest: float) -> str:
    share = count / max(1, total) / longest
    return f"{max(100 * share, MIN_BAR_PERCENT if share else 0):.2f}%"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _escape_markdown(text: str) -> str:
    return MARKDOWN_SPECIAL.sub(r"\\\1", visible(text))


def _code_markdown(text: str) -> str:
    parts = CODE.split(text)  # every second part is code and stays as it is
    return "".join(f"`{visible(part)}`" if at % 2 else _escape_markdown(part) for at, part in enumerate(parts))


def _as_table(bars: Bars) -> Table:
    """Return counts and shares of every series, with a bar of characters for the first."""
    first = next(iter(bars.series.values()))
    longest = max(1, *first)
    head = ["", *(cell for name in bars.series for cell in (name, "share")), ""]
    rows = []
    for row, label in enumerate(bars.labels):
        if row in bars.marks:
            rows.append([f"({bars.marks[row]})", *[""] * (len(head) - 1)])
        numbers = [cell for name, counts in bars.series.items()
                   for cell in (f"{counts[row]:,}", percent(counts[row], bars.total(name)))]
        rows.append([label, *numbers, "█" * round(MARKDOWN_BAR * first[row] / longest)])
    return Table(head, rows)


def _table_markdown(table: Table) -> str:
    cells = [[_escape_markdown(cell) for cell in row] for row in (table.head, *table.rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(table.head))]
    lines = ["| " + " | ".join(cell.rjust(width) if is_number else cell.ljust(width)
                               for cell, width, is_number in zip(row, widths, table.numeric, strict=True)) + " |"
             for row in cells]
    rule = ["-" * (width + 1) + (":" if is_number else "-") for width, is_number in zip(widths, table.numeric, strict=True)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])
