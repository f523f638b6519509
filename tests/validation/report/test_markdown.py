"""Markdown that reads well in a terminal too, and takes nothing of a name for its own."""

from ssd_lib.validation.report.elements import Bars, Listing, Section, Sheet, Table, Text, Tile
from ssd_lib.validation.report.markdown import markdown_page


def page(*blocks: object) -> str:
    return markdown_page("T", [Section("Verdict", ()), Section("S", blocks)])  # type: ignore[arg-type]


def test_columns_are_aligned_numbers_to_the_right() -> None:
    table = Table(("class", "boxes", "share"), [("cat", "1,200", "99.9 %"), ("guinea pig", "1", "–")])
    assert page(table) == """# T

## S

| class      | boxes |  share |
|------------|------:|-------:|
| cat        | 1,200 | 99.9 % |
| guinea pig |     1 |      – |
"""


def test_a_chart_is_a_table_with_bars_and_marks() -> None:
    chart = Bars("C", ["few", "many"], {"train": [1, 3], "val": [0, 0]}, {1: "here"})
    lines = page(chart).splitlines()
    assert lines[4] == "### C"
    assert lines[8:] == ["| few    |     1 | 25.0 % |   0 |     – | ██████████                     |",
                         "| (here) |       |        |     |       |                                |",
                         "| many   |     3 | 75.0 % |   0 |     – | ██████████████████████████████ |"]


def test_shares_are_of_the_whole_where_that_is_given() -> None:
    assert "| few |     1 | 10.0 % |" in page(Bars("C", ["few"], {"train": [1]}, wholes={"train": 10}))


def test_names_are_taken_literally_and_on_one_line() -> None:
    text = page(Listing("L", ["a|b`c`<i>*x*[1](u)\nnew\x1b[31m"]), Sheet("P", [Tile((), "n|.jpg", "t")]))
    assert "- a\\|b\\`c\\`\\<i>\\*x\\*[1\\](u)\\\\nnew\\\\x1b[31m\n" in text
    assert "- n\\|.jpg: t\n" in text
    assert "Class \\<b> of `data`.\n" in page(Text("Class <b> of `data`."))


def test_the_verdict_stands_out_and_advice_is_set_off() -> None:
    text = page(Text("Fit.", "good"), Text("Do `this`.", "advice"), Text("Plain."))
    assert text.endswith("## S\n\n**Fit.**\n\n> Do `this`.\n\nPlain.\n")


def test_an_empty_table_has_its_head() -> None:
    assert "| a   | b   |\n|-----|-----|\n" in page(Table(("a", "b"), []))
