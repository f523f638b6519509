"""The boxes on the thumbnails of validate."""

from ssd_lib.annotations.table import Box, Category, Image, from_rows
from ssd_lib.report.elements import Mark
from ssd_lib.validation.report.marks import find_marks


def test_marks_are_those_of_the_wanted_images_the_largest_first() -> None:
    annotations = from_rows(
        [Image(7, "a", 60, 40), Image(8, "b", 60, 40)],
        [Box(1, 7, 1, 0, 0, 10, 2, 1, False), Box(2, 7, 2, 1, 1, 9, 9, 1, True), Box(3, 8, 1, 0, 0, 5, 5, 1, False),
         Box(4, 7, 9, 0, 0, 1, 1, 1, False), Box(5, 7, 1, 0, float("inf"), 1, 1, 1, False),
         Box(6, 99, 1, 0, 0, 1, 1, 1, False)],
        [Category(1, "cat", 1), Category(2, "dog", 2), Category(1, "the second of an id", 3)])
    assert find_marks({"train": annotations}, [("train", "a"), ("val", "a")]) == {
        ("train", "a"): (Mark((1, 1, 9, 9), "dog (crowd)"), Mark((0, 0, 10, 2), "cat"), Mark((0, 0, 1, 1), "category 9")),
        ("val", "a"): ()}
