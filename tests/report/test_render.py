"""Pages as HTML and Markdown: well formed, self-contained, and texts are never markup."""

import re
from xml.etree import ElementTree

import pytest
from support.html import Nesting

from ssd_lib.report.elements import (
    MAX_OPEN_LINES,
    MAX_OPEN_ROWS,
    Bars,
    Lines,
    Listing,
    Mark,
    Matrix,
    Section,
    Table,
    Text,
    Thumbnail,
    Thumbnails,
    Tile,
)
from ssd_lib.report.render import render_html, render_markdown

NAME_LENGTH = 44


SUMMARY = Section("Summary", ())


def html_of(*elements: object) -> str:
    return render_html("T", [SUMMARY, Section("S", elements)])  # type: ignore[arg-type]


def markdown_of(*elements: object) -> str:
    return render_markdown("T", [SUMMARY, Section("S", elements)])  # type: ignore[arg-type]


def svg_of(*marks: Mark, view: tuple[float, float, float, float] = (0, 0, 100, 50)) -> ElementTree.Element:
    html = html_of(Thumbnails("", [Tile((Thumbnail(b"jpeg", (100, 50), view, marks),), "", "")]))
    return ElementTree.fromstring(re.search(r"<svg class=.image.*?</svg>", html, re.DOTALL)[0])  # type: ignore[index]


def test_every_element_is_well_formed_and_has_its_texts() -> None:
    text = html_of(Text("Do `this`.", "advice"), Listing("L", ["one line"]), Table(("h", "n"), [("cell", "1")]),
                Bars("B", ["bin"], {"train": [3], "val": [0]}, {0: "mark"}),
                Lines("C", "epoch", {"loss": [(1, 2), (2, 1)]}), Matrix("object", "as", ["cat", "owl"], [[7, 1], [0, 5]]),
                Thumbnails("P", [Tile((Thumbnail(b"jpeg"), Thumbnail(b"", reason="why")), "name.jpg", "fault")]))
    words = Nesting(text).texts
    for word in ("Do ", "this", "L", "one line", "h", "cell", "1", "B", "bin", "mark", "P", "why", "name.jpg", "fault",
                 "C", "epoch", "loss", "1.5", "cat", "owl", "7", "5", "3 · 100.0 %"):
        assert word in words


def test_the_page_needs_no_network_and_has_no_scripts() -> None:
    text = html_of(Bars("B", ["bin"], {"train": [3]}), Thumbnails("P", [Tile((Thumbnail(b"jpeg"),), "n", "t")]))
    assert "<script" not in text
    assert not re.search(r"(?:https?:)?//|@import|url\(", text.split("</style>")[1])
    assert set(re.findall(r'(?:href|src)="([^"#]*)', text)) == {"", "data:image/jpeg;base64,anBlZw=="}
    assert not re.search(r"https?:|@import|url\(", text.split("</style>")[0])


def test_names_are_text_in_every_element() -> None:
    markup = '<img src=x onerror=alert(1)>"&\'`x`'
    text = html_of(Text(markup, page=markup), Listing(markup, [markup]), Table((markup,), [(markup,)]),
                Bars(markup, [markup], {markup: [1]}, {0: markup}), Lines(markup, markup, {markup: [(0, 1)]}),
                Thumbnails(markup, [Tile((Thumbnail(b"", reason=markup),), markup, markup)]))
    assert "<img" not in text
    assert Nesting(text).tips == [markup]


def test_a_long_name_is_cut_in_the_middle_and_complete_in_the_tooltip() -> None:
    name = "a" * 50 + "b" * 50
    found = Nesting(html_of(Thumbnails("", [Tile((), name, "")])))
    shown, = (text for text in found.texts if "…" in text)
    assert (len(shown), shown[0], shown[-1], found.tips) == (NAME_LENGTH, "a", "b", [name])


def test_a_long_table_is_collapsed_and_complete() -> None:
    def rows(number: int) -> Table:
        return Table(("class", "boxes"), [(f"class {at}", str(at)) for at in range(number)])
    assert "<details>" not in html_of(rows(MAX_OPEN_ROWS))
    text = html_of(rows(MAX_OPEN_ROWS + 1))
    assert f"<summary>Show all {MAX_OPEN_ROWS + 1} rows</summary>" in text
    assert f"<td>class {MAX_OPEN_ROWS}</td>" in text


def test_a_long_listing_is_open_at_its_beginning_and_complete() -> None:
    def lines(number: int) -> Listing:
        return Listing("files", [f"file {at}" for at in range(number)])
    assert "<details>" not in html_of(lines(MAX_OPEN_LINES))
    whole = html_of(lines(MAX_OPEN_LINES + 2))
    begin, _, rest = whole.partition("<details>")
    assert [text for text in Nesting(whole).texts if text.startswith("file ")] == [
        f"file {at}" for at in range(MAX_OPEN_LINES + 2)]
    assert (begin.count("<li>"), rest.count("<li>")) == (MAX_OPEN_LINES, 2)


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    text = html_of(Table(("a", "b"), [("x", "1,200"), ("2", "–")]))
    assert '<td>x</td><td class="number">1,200</td>' in text
    assert "<td>2</td>" in text


def test_bars_of_series_are_on_one_scale_of_shares() -> None:
    text = html_of(Bars("B", ["few", "many"], {"train": [1, 3], "val": [10, 10]}))
    assert re.findall(r'<rect class="(s\d)" width="([\d.]+)%"', text) == [
        ("s0", "33.33"), ("s1", "66.67"), ("s0", "100.00"), ("s1", "66.67")]


def test_a_chart_of_nothing_has_no_bars() -> None:
    assert 'width="0.00%"' in html_of(Bars("B", ["bin"], {"train": [0]}))


def test_sections_are_linked() -> None:
    assert '<a href="#s1">S</a>' in html_of()
    assert '<section id="s1">' in html_of()


def test_the_image_lies_in_a_view_in_pixels_of_the_file() -> None:
    root = svg_of(view=(-10, 0, 110, 50))
    assert root.attrib["viewBox"] == "-10 0 110 50"
    image = root.find("image")
    assert image is not None
    assert (image.attrib["width"], image.attrib["height"]) == ("100", "50")
    assert image.attrib["href"] == "data:image/jpeg;base64,anBlZw=="
    assert root.find("rect[@class='edge']") is not None


def test_a_box_is_where_it_is_annotated_with_its_name() -> None:
    group = svg_of(Mark((10, 20.25, 40, 8), "cat")).find("g")
    assert group is not None
    rect = group.find("rect")
    assert rect is not None
    assert rect.attrib == {"class": "box", "x": "10", "y": "20.2", "width": "40", "height": "8"}
    assert [group.findtext("title"), group.findtext("text")] == ["cat", "cat"]


def test_a_narrow_box_has_its_name_only_in_the_tooltip() -> None:
    group = svg_of(Mark((10, 20, 20, 8), "cat")).find("g")
    assert group is not None
    assert (group.findtext("title"), group.find("text")) == ("cat", None)


def test_a_small_faulty_box_has_a_ring() -> None:
    ring = svg_of(Mark((10, 10, 0, 2), "", is_faulty=True)).find("g/circle")
    assert ring is not None
    assert ring.attrib == {"class": "fault", "cx": "10.2", "cy": "11", "r": "5.6"}


def test_names_of_boxes_are_text_and_not_markup() -> None:
    root = svg_of(Mark((0, 0, 90, 40), '<script>"&\u202e'))
    assert root.findtext("g/title") == root.findtext("g/text") == '<script>"&\\u202e'


@pytest.mark.parametrize(("count", "width"), [(0, "0.00"), (1, "0.30"), (5000, "50.00"), (10000, "100.00")])
def test_a_bar_is_as_long_as_its_share_and_visible_above_0(count: int, width: str) -> None:
    text = html_of(Bars("B", ["few", "all"], {"train": [count, 10000]}, totals={"train": 10000}))
    assert re.findall(r'<rect class="s0" width="([\d.]+)%"', text) == [width, "100.00"]


def test_markdown_columns_are_aligned_numbers_to_the_right() -> None:
    table = Table(("class", "boxes", "share"), [("cat", "1,200", "99.9 %"), ("guinea pig", "1", "–")])
    assert markdown_of(table) == """# T

## S

| class      | boxes |  share |
|------------|------:|-------:|
| cat        | 1,200 | 99.9 % |
| guinea pig |     1 |      – |
"""


def test_a_markdown_chart_is_a_table_with_bars_and_marks() -> None:
    chart = Bars("C", ["few", "many"], {"train": [1, 3], "val": [0, 0]}, {1: "here"})
    lines = markdown_of(chart).splitlines()
    assert lines[4] == "### C"
    assert lines[8:] == ["| few    |     1 | 25.0 % |   0 |     – | ██████████                     |",
                         "| (here) |       |        |     |       |                                |",
                         "| many   |     3 | 75.0 % |   0 |     – | ██████████████████████████████ |"]


def test_shares_refer_to_the_total_where_that_is_given() -> None:
    assert "| few |     1 | 10.0 % |" in markdown_of(Bars("C", ["few"], {"train": [1]}, totals={"train": 10}))


def test_names_are_literal_in_markdown_and_on_one_line() -> None:
    text = markdown_of(Listing("L", ["a|b`c`<i>*x*[1](u)\nnew\x1b[31m"]), Thumbnails("P", [Tile((), "n|.jpg", "t")]))
    assert "- a\\|b\\`c\\`\\<i>\\*x\\*[1\\](u)\\\\nnew\\\\x1b[31m\n" in text
    assert "- n\\|.jpg: t\n" in text
    assert "Class \\<b> of `data`.\n" in markdown_of(Text("Class <b> of `data`."))


def test_the_summary_is_bold_and_advice_is_quoted() -> None:
    text = markdown_of(Text("Fit.", "good"), Text("Do `this`.", "advice"), Text("Plain."))
    assert text.endswith("## S\n\n**Fit.**\n\n> Do `this`.\n\nPlain.\n")


def test_an_empty_markdown_table_has_its_head() -> None:
    assert "| a   | b   |\n|-----|-----|\n" in markdown_of(Table(("a", "b"), []))


def test_a_cell_of_a_matrix_is_coloured_by_its_share_of_the_row() -> None:
    text = html_of(Matrix("object", "as", ["<i>", "owl"], [[3, 1], [0, 0]]))
    assert re.findall(r'<td class="(same|other)" style="--share:([\d.]+)%"[^>]*>(\d*)<', text) == [
        ("same", "75", "3"), ("other", "25", "1"), ("other", "0", ""), ("same", "0", "")]
    assert "<i>" not in text


def test_a_text_may_link_to_a_page_of_the_documentation() -> None:
    assert 'Fit. <a href="../docs/nets.md">docs/nets.md</a></p>' in html_of(Text("Fit.", page="nets.md"))


@pytest.mark.parametrize("tone", ["box", "right", "wrong", "missed", "crowd"])
def test_a_box_is_drawn_as_its_tone_says(tone: str) -> None:
    rect = svg_of(Mark((10, 20, 40, 8), "cat", tone=tone)).find("g/rect")
    assert rect is not None
    assert rect.attrib["class"] == tone
    assert f".{tone}" in html_of().split("</style>")[0]
