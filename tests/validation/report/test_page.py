"""The HTML: well formed, self-contained, and nothing of a name taken for markup."""

import re
from html.parser import HTMLParser

from ssd_lib.validation.report.elements import FOLDED_ROWS, Bars, Listing, Picture, Section, Sheet, Table, Text, Tile
from ssd_lib.validation.report.page import NAME_SIGNS, html_page

VOID = {"meta", "col"}


class Nesting(HTMLParser):
    """Fails where tags do not nest, and keeps what stands between them and in tooltips."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tips: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tips += [value or "" for name, value in attrs if name == "title"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(*blocks: object) -> str:
    return html_page("T", [Section("Verdict", ()), Section("S", blocks)])  # type: ignore[arg-type]


def test_every_block_nests_and_its_words_are_there() -> None:
    text = page(Text("Do `this`.", "advice"), Listing("L", ["one line"]), Table(("h", "n"), [("cell", "1")]),
                Bars("B", ["bin"], {"train": [3], "val": [0]}, {0: "mark"}),
                Sheet("P", [Tile((Picture(b"jpeg"), Picture(b"", blank="why")), "name.jpg", "fault")]))
    words = Nesting(text).texts
    for word in ("Do ", "this", "L", "one line", "h", "cell", "1", "B", "bin", "mark", "P", "why", "name.jpg", "fault",
                 "3 · 100.0 %"):
        assert word in words


def test_nothing_is_asked_of_the_network_and_nothing_runs() -> None:
    text = page(Bars("B", ["bin"], {"train": [3]}), Sheet("P", [Tile((Picture(b"jpeg"),), "n", "t")]))
    assert "<script" not in text
    assert not re.search(r"(?:https?:)?//|@import|url\(", text.split("</style>")[1])
    assert set(re.findall(r'(?:href|src)="([^"#]*)', text)) == {"", "data:image/jpeg;base64,anBlZw=="}
    assert not re.search(r"https?:|@import|url\(", text.split("</style>")[0])


def test_names_are_text_wherever_they_stand() -> None:
    nasty = '<img src=x onerror=alert(1)>"&\'`x`'
    text = page(Text(nasty), Listing(nasty, [nasty]), Table((nasty,), [(nasty,)]),
                Bars(nasty, [nasty], {nasty: [1]}, {0: nasty}),
                Sheet(nasty, [Tile((Picture(b"", blank=nasty),), nasty, nasty)]))
    assert "<img" not in text
    assert Nesting(text).tips == [nasty]


def test_a_long_name_loses_its_middle_and_keeps_it_in_the_tooltip() -> None:
    name = "a" * 50 + "b" * 50
    found = Nesting(page(Sheet("", [Tile((), name, "")])))
    shown, = (text for text in found.texts if "…" in text)
    assert (len(shown), shown[0], shown[-1], found.tips) == (NAME_SIGNS, "a", "b", [name])


def test_a_long_table_is_folded_and_complete() -> None:
    def rows(number: int) -> Table:
        return Table(("class", "boxes"), [(f"class {at}", str(at)) for at in range(number)])
    assert "<details>" not in page(rows(FOLDED_ROWS))
    text = page(rows(FOLDED_ROWS + 1))
    assert f"<summary>All {FOLDED_ROWS + 1} as a table</summary>" in text
    assert f"<td>class {FOLDED_ROWS}</td>" in text


def test_columns_of_numbers_stand_to_the_right() -> None:
    text = page(Table(("a", "b"), [("x", "1,200"), ("2", "–")]))
    assert '<td>x</td><td class="number">1,200</td>' in text
    assert "<td>2</td>" in text


def test_bars_of_series_are_on_one_scale_of_shares() -> None:
    text = page(Bars("B", ["few", "many"], {"train": [1, 3], "val": [10, 10]}))
    assert re.findall(r'<rect class="(s\d)" width="([\d.]+)%"', text) == [
        ("s0", "33.33"), ("s1", "66.67"), ("s0", "100.00"), ("s1", "66.67")]


def test_a_chart_of_nothing_has_no_bars() -> None:
    assert 'width="0.00%"' in page(Bars("B", ["bin"], {"train": [0]}))


def test_sections_are_linked() -> None:
    assert '<a href="#s1">S</a>' in page()
    assert '<section id="s1">' in page()
