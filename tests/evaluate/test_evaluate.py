import csv
import json
from pathlib import Path

import pytest
import torch
from support.project import runtime_params
from support.trained_project import SPEC

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.errors import InputError
from ssd_lib.evaluate.coco_eval import SUMMARY_NAMES
from ssd_lib.evaluate.evaluate import evaluate, headline
from ssd_lib.nets.model_file import MODEL_PATH, Model, NetSpec, save_model
from ssd_lib.params import EvalParams

RUNTIME = runtime_params()


def test_the_reports_hold_metrics_results_curves_and_drawings(project: Path, params: EvalParams) -> None:
    summary = evaluate(params, RUNTIME)
    numbers = json.loads(Path("reports/eval.json").read_text())
    assert list(numbers) == [*SUMMARY_NAMES, "VOC07", "VOC10", "class", "best_f1", "lost_ap50", "AP_int8"]
    assert list(numbers["class"]) == ["dog", "kite"]
    assert json.loads(Path("reports/metrics.json").read_text())["AP"] == numbers["AP"]
    assert {row["category_id"] for row in json.loads(Path("reports/results.json").read_text())} <= {18, 38}
    rows = list(csv.DictReader(Path("reports/pr_curve.csv").read_text().splitlines()))
    assert [row["recall"] for row in rows[:2]] == ["0.0000", "0.0100"]
    assert Path("reports/detections.png").stat().st_size > 1000
    assert Path("reports/pr_curve.png").stat().st_size > 1000
    assert summary.startswith(f"evaluate: AP {numbers['AP']:.3f}")
    assert "on 3 images" in summary


def test_the_headline_names_the_run_of_the_model() -> None:
    about = {"metrics": {"train_loss": 2.71828, "epoch": 7}, "params": {"train": {"lr": 0.01, "epochs": 9}}}
    shown = headline({"AP": 0.5, "AP50": None, "APs": 0.1}, Model(SPEC.build(), SPEC, about))
    assert list(shown) == ["AP", "AP50", "loss", "net", "lr", "epochs"]
    assert list(shown.values()) == [0.5, None, 2.7183, SPEC.net, 0.01, 7]


def test_twice_gives_the_same_bytes(project: Path, params: EvalParams) -> None:
    evaluate(params, RUNTIME)
    first = {path.name: path.read_bytes() for path in Path("reports").iterdir()}
    evaluate(params, RUNTIME)
    assert {path.name: path.read_bytes() for path in Path("reports").iterdir()} == first


def test_a_model_of_other_classes_is_refused(project: Path, params: EvalParams) -> None:
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("cat",), (17,))
    save_model(MODEL_PATH, spec, spec.build().state_dict(), {})
    with pytest.raises(InputError, match=r"classes are cat; .*val.json are dog, kite"):
        evaluate(params, RUNTIME)


def test_detections_are_made_with_the_postprocess_values_of_the_model(project: Path, params: EvalParams,
                                                                      weights: dict[str, torch.Tensor]) -> None:
    evaluate(params, RUNTIME)
    published = json.loads(Path("reports/results.json").read_text())
    save_model(MODEL_PATH, SPEC, weights, {}, Postprocess(nms_iou=0.7, max_detections=50))
    evaluate(params, RUNTIME)
    own = json.loads(Path("reports/results.json").read_text())
    assert (len(published), len(own)) == (300, 150)
    assert any(row not in published for row in own), "an nms_iou of 0.7 keeps what 0.45 drops"
