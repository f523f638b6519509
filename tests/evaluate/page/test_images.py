"""Which images are shown, and what is written under them."""

from support.made_up import Found, Object, detections, truth

from ssd_lib.evaluate.analysis import Analysis, analyse
from ssd_lib.evaluate.page.images import _ranks, cause

A, B, C, NOWHERE = (0, 0, 10, 10), (40, 0, 50, 10), (0, 40, 10, 50), (80, 80, 90, 90)


def analysed(*found: Found) -> Analysis:
    gt = truth(Object(0, A), Object(0, B), Object(0, C), Object(1, A), Object(1, B, 2), Object(2, A, 2), classes=2, images=4)
    return analyse(gt, detections(*found))


def test_the_cause_names_each_kind_with_class_and_score() -> None:
    found = analyse(truth(Object(0, A), Object(0, B), Object(0, C), Object(0, (70, 0, 80, 10), 2), classes=2, images=1),
                    detections(Found(0.95, 0, A, 1), Found(0.9, 0, B, 2), Found(0.8, 0, (70, 0, 80, 10), 2)))
    assert cause(found, 0) == "wrong class: class 2 for class 1 0.90; missed: 1 class 1"


def test_many_errors_of_a_kind_are_counted() -> None:
    rows = [Found(0.5 + at / 100, 0, (x, 80, x + 5, 85)) for at, x in enumerate(range(0, 50, 10))]
    assert cause(analysed(Found(0.4, 0, A), *rows), 0) == (
        "nothing there: class 1 0.54, class 1 0.53, class 1 0.52 and 2 more; missed: 2 class 1")


def test_an_image_with_more_errors_is_worse_and_one_without_objects_and_errors_is_not_bad() -> None:
    badness, right = _ranks(analysed(Found(0.9, 1, A), Found(0.8, 2, A, 2)))
    assert badness.tolist() == [3, 1 / 3, 0, 0]
    assert right.tolist() == [0, 1, 1, 0]
