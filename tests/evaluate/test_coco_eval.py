import json
import random
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from support.predictions import by_hand, ground_truth_as_predictions, noisy
from support.project import write_fixed

from benchmarks.coco_numbers import make_split
from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate.coco_eval import (
    PYCOCOTOOLS,
    SUMMARY_NAMES,
    Predictions,
    coco_metrics,
    fastest_tools,
    measure,
    predict,
    results_json,
    run_coco,
)
from ssd_lib.manifest import FIXED_FOLDER
from ssd_lib.nets.model_file import load_model

GT_PATH = FIXED_FOLDER / "val.json"
CPU = torch.device("cpu")
NOTHING = Predictions(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty((0, 4)))
needs_fast_tools = pytest.mark.skipif(find_spec("faster_coco_eval") is None,
                                     reason="faster-coco-eval is not installed; requirements-fast.txt has it")


def ground_truth() -> dict:
    return json.loads(GT_PATH.read_bytes())


def test_the_ground_truth_itself_has_ap_1(fixed: FixedSet) -> None:
    metrics = coco_metrics(run_coco(ground_truth(), fixed, ground_truth_as_predictions(fixed)))
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["class"] == {"dog": pytest.approx(1), "kite": pytest.approx(1)}


def test_a_missed_object_costs_its_class_alone(fixed: FixedSet) -> None:
    found = ground_truth_as_predictions(fixed)
    kept = np.array([True, True, False])  # one of two dogs is missed
    metrics = coco_metrics(run_coco(ground_truth(), fixed, Predictions(*(column[kept] for column in found))))
    assert metrics["class"]["dog"] == pytest.approx(51 / 101)  # precision 1 at the recalls 0, 0.01 ... 0.50
    assert metrics["class"]["kite"] == pytest.approx(1)


def test_a_detection_in_a_crowd_is_not_counted_against(fixed: FixedSet) -> None:
    found = ground_truth_as_predictions(fixed)
    crowd = Predictions(np.array([1]), np.array([1]), np.array([0.99]), np.array([[0.0, 66, 30, 14]]))
    joined = Predictions(*(np.concatenate(pair) for pair in zip(found, crowd, strict=True)))
    assert coco_metrics(run_coco(ground_truth(), fixed, joined))["AP"] == pytest.approx(1)


def test_no_predictions_are_ap_0_and_an_empty_result(fixed: FixedSet) -> None:
    metrics = coco_metrics(run_coco(ground_truth(), fixed, NOTHING))
    assert (metrics["AP"], metrics["AR100"]) == (0, 0)
    assert results_json(fixed, NOTHING) == []


def test_results_have_the_ids_of_the_original_dataset(fixed: FixedSet) -> None:
    rows = results_json(fixed, ground_truth_as_predictions(fixed))
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(900, 18), (900, 38), (901, 18)]
    assert rows[0]["bbox"] == [10, 10, 40, 30]


def test_an_undefined_metric_is_none(fixed: FixedSet) -> None:
    metrics = coco_metrics(run_coco(ground_truth(), fixed, ground_truth_as_predictions(fixed)))
    assert metrics["APl"] is None  # no object of 96 x 96 pixels
    assert list(metrics) == [*SUMMARY_NAMES, "class"]


def test_an_object_of_id_0_can_be_found(fixed: FixedSet) -> None:
    truth = ground_truth()
    for number, row in enumerate(truth["annotations"]):
        row["id"] = number
    assert coco_metrics(run_coco(truth, fixed, ground_truth_as_predictions(fixed)))["AP"] == pytest.approx(1)


def test_evaluation_leaves_the_ground_truth_as_it_was(fixed: FixedSet) -> None:
    truth = ground_truth()
    run_coco(truth, fixed, ground_truth_as_predictions(fixed))
    assert truth == ground_truth()


def test_evaluation_prints_nothing(fixed: FixedSet, capsys: pytest.CaptureFixture[str]) -> None:
    run_coco(ground_truth(), fixed, NOTHING)
    assert capsys.readouterr().out == ""


def test_predictions_are_in_pixels_of_the_stored_image(dataset: DetectionDataset) -> None:
    found = predict(load_model().net, dataset, Postprocess(), 2, CPU, workers=0, progress=False)
    corners = found.boxes[:, :2] + found.boxes[:, 2:]
    sizes = dataset.fixed.sizes[found.images]
    assert sorted(set(found.images.tolist())) == [0, 1, 2]
    assert (corners <= sizes[:, ::-1] + 1e-3).all()
    assert corners[found.images == 0, 0].max() > 64  # the first is 96 wide, the net's input 64
    assert found.labels.min() >= 1


def test_measuring_leaves_mode_and_random_state_unchanged(dataset: DetectionDataset, project: Path) -> None:
    net = load_model().net.train()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    metrics = measure(net, dataset, GT_PATH, Postprocess(), 2, CPU, workers=0)
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert set(metrics) == {*SUMMARY_NAMES, "class", "class_thresholds", "precisions"}
    assert all(curve.shape == (101,) for curve in metrics["precisions"].values())
    assert net.training
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]


def test_workers_change_nothing(dataset: DetectionDataset, project: Path) -> None:
    net = load_model().net
    one, two = (predict(net, dataset, Postprocess(), 2, CPU, workers=n, progress=False) for n in (0, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_results_of_real_images_give_the_same_metrics_against_the_original_annotations(
        shared_data: Path, tmp_path: Path) -> None:
    original = tmp_path / "original.json"
    with zipfile.ZipFile(shared_data / "coco-mirror/annotations/annotations_trainval2017.zip") as archive:
        original.write_bytes(archive.read("annotations/instances_val2017.json"))
    tree = json.loads(original.read_text())
    labels = {category["id"]: i for i, category in enumerate(tree["categories"], start=1)}
    write_fixed(tmp_path, "val", {
        "images": tree["images"],
        "annotations": [{**row, "category_id": labels[row["category_id"]]} for row in tree["annotations"]],
        "categories": [{"id": labels[row["id"]], "name": row["name"], "source_id": row["id"]}
                       for row in tree["categories"]],
    })
    fixed = load_fixed("val", tmp_path)
    found = noisy(ground_truth_as_predictions(fixed), len(labels))
    metrics = coco_metrics(run_coco(json.loads((tmp_path / "val.json").read_bytes()), fixed, found))
    expected = by_hand(original, results_json(fixed, found), tmp_path)
    assert 0.1 < expected[0] < 0.9
    assert [metrics[name] for name in SUMMARY_NAMES] == expected
    assert metrics["class"]["person"] > 0



@needs_fast_tools
def test_faster_coco_eval_is_taken_where_it_is_installed() -> None:
    assert fastest_tools() != PYCOCOTOOLS
    assert fastest_tools().evaluate.__module__.startswith("faster_coco_eval")


def test_without_faster_coco_eval_pycocotools_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)  # as Python marks what cannot be imported
    assert fastest_tools() == PYCOCOTOOLS


@needs_fast_tools
@pytest.mark.parametrize("detections", [0, 3, 120])
def test_both_tools_give_the_same_numbers_to_1e_9(detections: int) -> None:
    truth, fixed, predictions = make_split(images=60, per_image=detections)
    fast, slow = (run_coco(truth, fixed, predictions, tools).stats for tools in (fastest_tools(), PYCOCOTOOLS))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)


@needs_fast_tools
def test_both_tools_give_each_class_the_same_ap_and_the_same_again() -> None:
    truth, fixed, predictions = make_split(images=60, per_image=10)
    rare = {**truth, "annotations": [row for row in truth["annotations"] if row["category_id"] != 5]}  # no AP for class 5
    fast, again, slow = (coco_metrics(run_coco(rare, fixed, predictions, tools))
                         for tools in (fastest_tools(), fastest_tools(), PYCOCOTOOLS))
    assert fast == again
    assert (fast["class"].pop("class 5"), slow["class"].pop("class 5")) == (None, None)
    assert fast["class"] == pytest.approx(slow["class"], rel=0, abs=1e-9)


@needs_fast_tools
def test_equal_scores_are_taken_in_the_same_order_by_both() -> None:
    truth, fixed, predictions = make_split(images=60, per_image=30)
    ties = Predictions(predictions.images, predictions.labels, predictions.scores.round(1), predictions.boxes)
    fast, slow = (run_coco(truth, fixed, ties, tools).stats for tools in (fastest_tools(), PYCOCOTOOLS))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)
