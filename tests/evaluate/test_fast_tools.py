import sys
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks.coco_numbers import make_split, stats
from ssd_lib.evaluate.coco_eval import PYCOCOTOOLS, Predictions, coco_metrics, fastest_tools, run_coco

needs_the_extra = pytest.mark.skipif(find_spec("faster_coco_eval") is None,
                                     reason="faster-coco-eval is not installed; requirements-fast.txt has it")


@needs_the_extra
def test_faster_coco_eval_is_taken_where_it_is_installed() -> None:
    assert fastest_tools() != PYCOCOTOOLS
    assert fastest_tools().evaluate.__module__.startswith("faster_coco_eval")


def test_without_faster_coco_eval_pycocotools_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)  # as Python marks what cannot be imported
    assert fastest_tools() == PYCOCOTOOLS


@needs_the_extra
@pytest.mark.parametrize("detections", [0, 3, 120])
def test_both_tools_give_the_same_numbers_to_1e_9(detections: int) -> None:
    truth, fixed, predictions = make_split(images=60, per_image=detections)
    np.testing.assert_allclose(stats(truth, fixed, predictions, fastest_tools()),
                               stats(truth, fixed, predictions, PYCOCOTOOLS), rtol=0, atol=1e-9)


@needs_the_extra
def test_both_tools_give_each_class_the_same_ap_and_the_same_again() -> None:
    truth, fixed, predictions = make_split(images=60, per_image=10)
    rare = {**truth, "annotations": [row for row in truth["annotations"] if row["category_id"] != 5]}  # no AP for class 5
    fast, again, slow = (coco_metrics(run_coco(rare, fixed, predictions, tools))
                         for tools in (fastest_tools(), fastest_tools(), PYCOCOTOOLS))
    assert fast == again
    assert (fast["class"].pop("class 5"), slow["class"].pop("class 5")) == (None, None)
    assert fast["class"] == pytest.approx(slow["class"], rel=0, abs=1e-9)


@needs_the_extra
def test_equal_scores_are_taken_in_the_same_order_by_both() -> None:
    truth, fixed, predictions = make_split(images=60, per_image=30)
    ties = Predictions(predictions.images, predictions.labels, predictions.scores.round(1), predictions.boxes)
    fast, slow = (stats(truth, fixed, ties, tools) for tools in (fastest_tools(), PYCOCOTOOLS))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)
