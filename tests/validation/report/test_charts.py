"""The SVG: coordinates as a reader would put them, and nothing of a name taken for markup."""

import re
from xml.etree import ElementTree

import pytest

from ssd_lib.validation.report.charts import bar, drawing
from ssd_lib.validation.report.elements import Mark, Picture


def draw(*marks: Mark, view: tuple[float, float, float, float] = (0, 0, 100, 50)) -> ElementTree.Element:
    return ElementTree.fromstring(drawing(Picture(b"jpeg", (100, 50), view, marks)))


def test_the_image_lies_in_a_view_in_pixels_of_the_file() -> None:
    root = draw(view=(-10, 0, 110, 50))
    assert root.attrib["viewBox"] == "-10 0 110 50"
    image = root.find("image")
    assert image is not None
    assert (image.attrib["width"], image.attrib["height"]) == ("100", "50")
    assert image.attrib["href"] == "data:image/jpeg;base64,anBlZw=="


def test_a_box_is_where_it_is_annotated_with_its_name() -> None:
    group = draw(Mark((10, 20.25, 40, 8), "cat")).find("g")
    assert group is not None
    rect = group.find("rect")
    assert rect is not None
    assert rect.attrib == {"class": "box", "x": "10", "y": "20.2", "width": "40", "height": "8"}
    assert [group.findtext("title"), group.findtext("text")] == ["cat", "cat"]


def test_a_narrow_box_has_its_name_on_hovering_alone() -> None:
    group = draw(Mark((10, 20, 20, 8), "cat")).find("g")
    assert group is not None
    assert (group.findtext("title"), group.find("text")) == ("cat", None)


@pytest.mark.parametrize(("xywh", "shown"), [((50, 30, -20, -10), ("30", "20", "20", "10")),
                                             ((0, 0, 1e8, 5), ("0", "0", "200", "5")),
                                             ((-1e8, 0, 2e8, 5), ("-100", "0", "300", "5"))])
def test_sides_are_positive_and_end_near_the_view(xywh: tuple[float, ...], shown: tuple[str, ...]) -> None:
    rect = draw(Mark(xywh, "", is_faulty=True)).find("g/rect")  # type: ignore[arg-type]
    assert rect is not None
    assert tuple(rect.attrib[key] for key in ("x", "y", "width", "height")) == shown


def test_a_faulty_box_without_a_side_is_still_seen_and_a_small_one_has_a_ring() -> None:
    line = draw(Mark((10, 10, 0, 30), "", is_faulty=True))
    assert float(line.find("g/rect").attrib["width"]) > 0  # type: ignore[union-attr]
    assert line.find("g/circle") is None
    assert draw(Mark((10, 10, 0, 2), "", is_faulty=True)).find("g/circle") is not None
    assert draw(Mark((10, 10, 0, 2), "")).find("g/circle") is None


def test_names_are_text_and_not_markup() -> None:
    root = draw(Mark((0, 0, 90, 40), '<script>"&\u202e'))
    assert root.findtext("g/title") == '<script>"&\\u202e'


@pytest.mark.parametrize(("share", "width"), [(0, "0.00%"), (0.0001, "0.30%"), (0.5, "50.00%"), (1, "100.00%")])
def test_a_bar_is_as_long_as_its_share_and_what_is_above_nothing_is_seen(share: float, width: str) -> None:
    assert re.search(r'<rect class="s1" width="([^"]+)"', bar(share, 1))[1] == width  # type: ignore[index]
