"""Each rule: numbers that make it speak, and numbers close by that do not."""

from typing import Any

import numpy as np
import pytest
from support.made_up import Found, Object, detections, truth

from ssd_lib.evaluate.analysis import analyse
from ssd_lib.evaluate.page.advice import FEW_IN_VAL, advice_section
from ssd_lib.evaluate.page.inputs import PageInput
from ssd_lib.report.elements import Text

GRID = [(x, y, x + 10, y + 10) for x in range(0, 90, 20) for y in range(0, 90, 20)]
OBJECTS = [Object(0, box, 1) for box in GRID[:FEW_IN_VAL]] + [Object(1, box, 2) for box in GRID[:FEW_IN_VAL]]
RIGHT = [Found(0.9, *row[:3]) for row in OBJECTS]


def advice(found: list[Found] = RIGHT, confused: list[list[int]] | None = None, objects: list[Object] = OBJECTS,
           ap50: float = 0.9, **training: Any) -> str:
    analysis = analyse(truth(*objects, classes=2), detections(*found))
    analysis = analysis if confused is None else analysis._replace(confused=np.array(confused))
    nothing: Any = None
    section = advice_section(PageInput(analysis, {"AP50": ap50}, nothing, nothing, nothing, nothing, "cpu", **training))
    return " ".join(element.text for element in section.elements if isinstance(element, Text))


def epochs(*losses: tuple[float, float]) -> list[dict[str, float]]:
    return [{"train_loss": train, "val_loss": val} for train, val in losses]


def priors(recall: float, boxes: int) -> dict[str, Any]:
    return {"boxes": 100, "by_side_px": [{"from": 8, "to": 16, "boxes": boxes, "recall": recall}]}


@pytest.mark.parametrize(("text", "speaks", "is_silent"), [
    ("8 to 16 px in the net's input", {"priors": priors(0.2, 50)}, {"priors": priors(0.9, 50)}),
    ("8 to 16 px in the net's input", {"priors": priors(0.2, 50)}, {"priors": priors(0.2, 5)}),
    ("Trained for only 9 epochs", {"ap50": 0.4, "history": [{}] * 9}, {"ap50": 0.4, "history": [{}] * 10}),
    ("Trained for only 1 epoch:", {"ap50": 0.4, "history": [{}]}, {"ap50": 0.5, "history": [{}]}),
    ("Few objects to learn from", {"train_objects": np.array([500, 49])}, {"train_objects": np.array([500, 50])}),
    ("class 2 (12), class 1 (20).", {"train_objects": np.array([20, 12])}, {"train_objects": np.array([500, 12])}),
    ("lowest in epoch 2", {"history": epochs((3, 3), (2, 2), (1, 2.5))}, {"history": epochs((3, 3), (2, 2), (1, 2.1))}),
    ("lowest in epoch 2", {"history": epochs((3, 3), (2, 2), (1, 2.5))}, {"history": epochs((3, 3), (1, 2), (2, 2.5))}),
    ("still rising", {"history": [{"AP50": ap} for ap in (0.1, 0.2, 0.3, 0.4)]},
     {"history": [{"AP50": ap} for ap in (0.1, 0.3, 0.4, 0.4)]}),
    ("of 10 objects of class 1 are taken for class 2", {"found": [*(row._replace(label=2) for row in RIGHT[:3]), *RIGHT[3:]]},
     {"found": [*(row._replace(label=2) for row in RIGHT[:2]), *RIGHT[2:]]}),
    ("3 of 30 objects of class 1 are taken for class 2", {"confused": [[27, 3, 0], [0, 40, 0], [0, 0, 0]]}, {}),
    ("objects of class 1 are taken", {"confused": [[27, 3, 0], [0, 9, 0], [0, 0, 0]]},
     {"confused": [[28, 3, 0], [0, 9, 0], [0, 0, 0]]}),
    ("mostly chance: class 1.", {"objects": OBJECTS[1:], "found": RIGHT[1:]}, {}),
    ("Missed objects cost most", {"found": RIGHT[3:]}, {}),
    ("Loose boxes cost most", {"found": [*RIGHT[3:], *(Found(0.9, 0, (x + 5, y, right + 5, bottom))
                                                       for x, y, right, bottom in GRID[:3])]}, {}),
])
def test_a_rule_speaks_where_it_applies(text: str, speaks: dict[str, Any], is_silent: dict[str, Any]) -> None:
    assert text in advice(**speaks)
    assert text not in advice(**is_silent)
    assert "No weakness" not in advice(**speaks)


def test_without_a_weakness_the_page_says_so() -> None:
    assert advice().startswith("No weakness stands out")
