"""`python -m ssd_lib.evaluate MODEL --annotations FILE --images FOLDER` on the pictures of conftest.py."""

import json
import runpy
import sys
import zipfile
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import pytest
import torch
from support.predictions import by_hand
from support.project import runtime_params, write_fixed
from support.trained_project import SPEC

from ssd_lib.checkpoint.file import LAST, ComboCheckpoint, save_checkpoint
from ssd_lib.evaluate.__main__ import main
from ssd_lib.evaluate.coco_eval import SUMMARY_NAMES
from ssd_lib.evaluate.evaluate import evaluate
from ssd_lib.manifest import FIXED_FOLDER
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec, load_model, save_model
from ssd_lib.params import EvalParams

RUNTIME = runtime_params()
GT_PATH, IMAGES, OUT = FIXED_FOLDER / "val.json", Path("data/raw/tiny"), Path("out")


def measure(annotations: Path, images: Path, *more: str, model: Path = MODEL_PATH) -> int:
    return main([str(model), "--annotations", str(annotations), "--images", str(images), "--out", str(OUT), "--device", "cpu",
                 "--batch-size", "2", *more])


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture
def raw_file(project: Path) -> Path:
    """An annotation file as others make them, of which the model finds two thirds; data/fixed is made to say the same."""
    assert measure(GT_PATH, IMAGES) == 0
    results, tree = read(OUT / "results.json"), read(GT_PATH)
    for row in results[::6]:
        row["bbox"] = [0, 0, 12, 12]
    objects = [{**row, "id": i, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": int(i % 50 == 0)}
               for i, row in enumerate(results[::2], start=1)]
    label_of = {category["source_id"]: category["id"] for category in tree["categories"]}
    tree["annotations"] = [{**row, "category_id": label_of[row["category_id"]]} for row in objects]
    write_fixed(FIXED_FOLDER, "val", tree)
    categories = [{"id": number, "name": name} for name, number in zip(SPEC.class_names, SPEC.source_ids, strict=True)]
    path = project / "instances_mine.json"
    path.write_text(json.dumps({"images": tree["images"], "annotations": objects, "categories": categories}))
    return path


def test_the_numbers_are_those_of_the_evaluate_stage_and_of_pycocotools(
        raw_file: Path, params: EvalParams, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(params, RUNTIME)
    stage = read(Path("reports/eval.json"))
    assert 0.1 < stage["AP"] < 0.9
    assert 0.1 < stage["VOC07"] < 0.9
    for annotations in (GT_PATH, raw_file):
        assert measure(annotations, IMAGES) == 0
        assert read(OUT / "eval.json") == {**stage, "model_only": [], "data_only": []}
        assert (OUT / "results.json").read_bytes() == Path("reports/results.json").read_bytes()
    names, numbers = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert dict(zip(names, numbers, strict=True))["VOC10"] == f"{stage['VOC10']:.3f}"
    expected = by_hand(raw_file, read(OUT / "results.json"), tmp_path)
    assert [stage[name] for name in SUMMARY_NAMES] == [None if x == -1 else round(x, 4) for x in expected]


def test_a_combo_checkpoint_is_measured_like_the_model_it_would_become(raw_file: Path) -> None:
    assert measure(raw_file, IMAGES) == 0
    wanted = (OUT / "results.json").read_bytes()
    weights = load_model().net.state_dict()
    combo = ComboCheckpoint(
        fingerprint="", params={}, data_digest="", spec=asdict(SPEC), epoch=1, step=0, weights=SPEC.build(9).state_dict(),
        average={f"module.{key}": value for key, value in weights.items()}, optimizer={}, scaler={}, totals=torch.zeros(3),
        best=None, history=[], versions={})
    save_checkpoint(combo, Path("checkpoints"), Path("journal"), is_best=False)
    assert measure(raw_file, IMAGES, model=Path("checkpoints") / LAST) == 0
    assert (OUT / "results.json").read_bytes() == wanted


def test_classes_of_one_side_alone_are_named_and_count_for_nothing(
        raw_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = read(raw_file)
    tree["categories"] = [{"id": 18, "name": "dog"}, {"id": 38, "name": "unicorn"}]
    raw_file.write_text(json.dumps(tree))
    assert measure(raw_file, IMAGES) == 0
    said = capsys.readouterr().out
    assert "share 1 classes" in said
    assert "left out: objects of classes that the model does not know (1): unicorn" in said
    assert "left out: detections of classes that the data set does not know (1): kite" in said
    numbers = read(OUT / "eval.json")
    assert (numbers["model_only"], numbers["data_only"]) == (["kite"], ["unicorn"])
    results = read(OUT / "results.json")
    assert {row["category_id"] for row in results} == {18}
    assert numbers["class"] == {"dog": numbers["AP"]}
    assert numbers["AP"] == round(by_hand(raw_file, results, tmp_path, [18])[0], 4) > 0.1


@pytest.mark.parametrize("split", ["test2017", "test-dev2017"])
def test_of_a_test_set_there_are_results_under_official_names_and_ids_and_no_numbers(
        shared_data: Path, project: Path, weights: dict, split: str, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = shared_data / "coco-mirror"
    with zipfile.ZipFile(mirror / "annotations/image_info_test2017.zip") as archive:
        listed = Path(archive.extract(f"annotations/image_info_{split}.json"))
    with zipfile.ZipFile(mirror / "zips/test2017.zip") as archive:
        archive.extractall()
    spec = NetSpec(SPEC.net, SPEC.image_size, SPEC.width_mult, ("toothbrush", "person"), (1, 2))
    save_model(project / "other.pt", spec, weights, {})
    assert measure(listed, Path("test2017"), "--name", "mb2-ssd-lite", model=project / "other.pt") == 0
    assert "no boxes are listed: there will be detections and no numbers" in capsys.readouterr().out
    name = f"detections_{split}_mb2-ssd-lite_results"
    assert {path.name for path in OUT.iterdir()} == {"results.json", f"{name}.zip"}
    with zipfile.ZipFile(OUT / f"{name}.zip") as archive:
        rows = json.loads(archive.read(f"{name}.json"))
    assert rows == read(OUT / "results.json")
    assert {row["image_id"] for row in rows} == {image["id"] for image in read(listed)["images"]}
    assert {row["category_id"] for row in rows} == {1, 90}  # COCO's person and toothbrush


@pytest.mark.parametrize(("more", "message"), [
    (["--name", "a/b"], "--name: 'a/b' becomes part"), (["--device", "cuda:99"], "'cuda:99' is not there")])
def test_what_is_wrong_is_said_before_anything_is_written(
        project: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str) -> None:
    assert measure(GT_PATH, IMAGES, *more) == 1
    assert capsys.readouterr().err.startswith("ERROR ")
    assert not OUT.exists()


def test_thresholds_reach_the_detections(project: Path) -> None:
    measure(GT_PATH, IMAGES)
    rows = read(OUT / "results.json")
    middle = sorted(row["score"] for row in rows)[len(rows) // 2]
    measure(GT_PATH, IMAGES, "--score-threshold", str(middle))
    assert read(OUT / "results.json")
    assert min(row["score"] for row in read(OUT / "results.json")) >= middle - 1e-6
    measure(GT_PATH, IMAGES, "--score-threshold", "0", "--nms-iou", "0")
    boxes = [row["bbox"] for row in read(OUT / "results.json") if (row["image_id"], row["category_id"]) == (900, 18)]
    assert all(apart(one, other) for one, other in combinations(boxes, 2))


def apart(one: list[float], other: list[float]) -> bool:
    """Whether two boxes, xywh, share no more than the rounding of their sides."""
    return any(max(a, b) >= min(a + c, b + d) - 0.01 for a, c, b, d in zip(one[:2], one[2:], other[:2], other[2:], strict=True))


@pytest.mark.parametrize(("option", "message"), [
    (["--batch-size", "0"], "0 is not a whole number from 1 up"), (["--nms-iou", "1.1"], "1.1 is not between 0 and 1")])
def test_numbers_out_of_range_are_refused(capsys: pytest.CaptureFixture[str], option: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        measure(GT_PATH, IMAGES, *option)
    assert message in capsys.readouterr().err


def test_the_module_says_in_one_line_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["infer", "none.pt", "--annotations", "a.json", "--images", "."])
    monkeypatch.delitem(sys.modules, "ssd_lib.evaluate.__main__")
    with pytest.raises(SystemExit, match="1"):
        runpy.run_module("ssd_lib.evaluate", run_name="__main__")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "ERROR none.pt: missing. `dvc repro train` makes it when training is complete.\n"
