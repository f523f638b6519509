"""The page as a whole: complete, self-contained, and names of classes and files are never markup."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.html import Nesting
from support.predictions import ground_truth_as_predictions, noisy
from support.project import write_fixed
from support.trained_project import SPEC, TREE

from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.evaluate.analysis import analyse
from ssd_lib.evaluate.coco_eval import Predictions, run_coco
from ssd_lib.evaluate.evaluate import all_metrics
from ssd_lib.evaluate.page.inputs import PageInput, read_history
from ssd_lib.evaluate.page.page import NAME, write_page
from ssd_lib.manifest import FIXED_FOLDER
from ssd_lib.nets.model_file import Model

MARKUP = '<img src=x onerror=alert(1)>"\x1b'
HISTORY = "epoch,train_loss,val_loss,seconds,AP,AP50\n1,3.5,3.0,60,,\n2,2.5,2.0,60,0.1,0.2\n3,1.5,1.0,60,0.2,0.3\n"
ABOUT = {"fingerprint": "f00d", "params": {"train": {"lr": 0.01, "note": MARKUP}}}
TITLES = ["What to try next", "Where AP50 is lost", "Worst images", "Classes", "Confusion", "Object sizes", "Scores",
          "Curves", "Best images", "Speed and size", "Run"]
SPEEDS = "file,format,precision,device,threads,batch,AP,ms,ms_p95,MB,memory_MB\n" \
         "models/ssd.onnx,ONNX Runtime,fp32,cpu,2,1,,20.44,25,12.85,150\n" \
         "models/ssd.pt,PyTorch,fp32,cuda,1,1,,5,6,12.75,900\n"
EXPORT = {"fp32": {"bytes": 9, "AP": 0.6872}, "images": {"train": 3, "val": 120},
          "int8": {"ssd.onnx": {"bytes": 3, "AP": 0.6842, "float_nodes": []}}}


def page_of(dataset: DetectionDataset, predictions: Predictions) -> str:
    analysis = analyse(dataset.fixed, predictions)
    coco = run_coco(json.loads((FIXED_FOLDER / "val.json").read_bytes()), dataset.fixed, predictions)
    given = PageInput(analysis, all_metrics(coco, analysis), coco.eval["precision"], dataset.fixed.boxes[:3, 2], Model(
        SPEC.build(), SPEC, ABOUT), dataset, "cpu")
    write_page(Path("reports"), given.with_reports(Path("reports")))
    return (Path("reports") / NAME).read_text(encoding="utf-8")


@pytest.fixture
def html(dataset: DetectionDataset) -> str:
    Path("reports").mkdir(exist_ok=True)
    Path("reports/history.csv").write_text(HISTORY)
    Path("reports/benchmark.csv").write_text(SPEEDS)
    Path("reports/export.json").write_text(json.dumps(EXPORT))
    return page_of(dataset, noisy(ground_truth_as_predictions(dataset.fixed), len(dataset.fixed.class_names)))


def test_all_sections_are_there_and_tags_nest(html: str) -> None:
    titles = re.findall(r"<h2>(?:\d )?(.*?)</h2>", html)
    assert [title[0].upper() + title[1:] for title in titles] == TITLES
    texts = Nesting(html).texts
    assert {"dog", "kite", "Loss", "AP on the validation images", "3.0 minutes", "0.01"} <= set(texts)


def test_the_speed_of_the_exports_and_both_aps_are_shown(html: str) -> None:
    texts = Nesting(html).texts
    assert [texts[at + offset] for at in (texts.index("models/ssd.onnx"),) for offset in (1, 3, 4, 5, 6)] == [
        "ONNX Runtime", "2 threads", "20.4", "25.0", "12.8"]
    assert texts[texts.index("models/ssd.pt") + 3] == "cuda"
    assert "In INT8 the AP is 0.684; in float, on the same 120 validation images, 0.687." in html


def test_without_an_int8_file_the_page_says_why(dataset: DetectionDataset) -> None:
    Path("reports").mkdir(exist_ok=True)
    Path("reports/benchmark.csv").write_text(SPEEDS)
    Path("reports/export.json").write_text(json.dumps({"no_int8": "it lost too much"}))
    assert "There is no INT8 file: it lost too much." in page_of(dataset, ground_truth_as_predictions(dataset.fixed))


def test_a_table_of_speeds_that_cannot_be_read_is_left_out(dataset: DetectionDataset) -> None:
    Path("reports").mkdir(exist_ok=True)
    Path("reports/benchmark.csv").write_text("file,ms\nmodels/ssd.onnx,fast\n")
    assert "Speed and size" not in page_of(dataset, ground_truth_as_predictions(dataset.fixed))


def test_the_page_is_one_small_file_without_network_and_scripts(html: str) -> None:
    assert not re.search(r"<script|https?:|@import|url\(", html)
    assert set(re.findall(r'(?:href|src)="([^"#:]*)', html)) <= {"", "data", "../docs/nets.md", "../docs/formats.md"}
    assert len(html) < 200_000


def test_names_of_classes_and_parameters_are_text(dataset: DetectionDataset) -> None:
    names = replace(dataset.fixed, class_names=(MARKUP, "kite"))
    dataset.fixed = names
    html = page_of(dataset, ground_truth_as_predictions(names))
    assert "<img" not in html
    assert "\x1b" not in html
    assert "&lt;img src=x" in html


def test_a_detector_that_finds_nothing_has_a_page(dataset: DetectionDataset) -> None:
    nothing = Predictions(*(column[:0] for column in ground_truth_as_predictions(dataset.fixed)))
    html = page_of(dataset, nothing)
    Nesting(html)
    assert "Finds none of the objects." in html


def test_objects_for_training_are_counted_by_class_without_crowds(dataset: DetectionDataset, tmp_path: Path) -> None:
    write_fixed(FIXED_FOLDER, "train", TREE)
    (tmp_path / "priors.json").write_text("[]")  # written by hand
    nothing: Any = None
    analysis: Any = SimpleNamespace(fixed=dataset.fixed)
    given = PageInput(analysis, {}, nothing, nothing, nothing, dataset, "cpu").with_reports(tmp_path)
    assert given.train_objects is not None
    assert (given.train_objects.tolist(), given.priors, given.history) == ([2, 1], {}, [])


def test_a_history_that_is_not_a_table_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,AP\nmany,0.5\n")
    assert read_history(tmp_path / "history.csv") == []
    assert read_history(tmp_path / "none.csv") == []
