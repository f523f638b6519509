"""Measuring a model on a dataset that no pipeline has prepared; the images are those of support/trained_project.py."""

import json
import zipfile
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from support.predictions import by_hand, ground_truth_as_predictions, noisy
from support.project import runtime_params, write_fixed
from support.trained_project import SIZES, SPEC

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.checkpoint.file import LAST, ComboCheckpoint, save_checkpoint
from ssd_lib.cli import main
from ssd_lib.errors import InputError
from ssd_lib.evaluate.coco_eval import SUMMARY_NAMES, coco_metrics, results_json, run_coco
from ssd_lib.evaluate.evaluate import evaluate
from ssd_lib.evaluate.external import open_external, predict_external, submission_name, write_submission
from ssd_lib.exif import EXIF_ORIENTATION, INVERSE, turn_boxes, turn_pixels
from ssd_lib.images import read_image
from ssd_lib.manifest import FIXED_FOLDER
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec, load_model, save_model
from ssd_lib.params import EvalParams

GT_PATH, IMAGES, OUT = FIXED_FOLDER / "val.json", Path("data/raw/tiny"), Path("out")
CPU = torch.device("cpu")
RESULTS = [{"image_id": 139, "category_id": 90, "bbox": [1.5, 2, 3, 4], "score": 0.5}]


def annotate(path: Path, categories: dict[int, str], boxes: list[dict]) -> Path:
    """Write a raw COCO file on the three images, with gaps between the ids."""
    path.write_text(json.dumps({
        "images": [{"id": 70 + i, "file_name": f"val/{i}.png", "width": w, "height": h} for i, (h, w) in enumerate(SIZES)],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
        "annotations": [{"id": i, "area": 100, "iscrowd": 0, "image_id": 70, **row} for i, row in enumerate(boxes)]}))
    return path


def test_classes_are_matched_by_name_and_named_where_one_side_knows_them_alone(project: Path) -> None:
    path = annotate(project / "a.json", {3: "kite", 5: "unicorn", 9: " dog "}, [
        {"category_id": 3, "bbox": [1, 1, 10, 10]}, {"category_id": 5, "bbox": [1, 1, 10, 10]},
        {"category_id": 9, "bbox": [2, 2, 10, 10]}])
    data = open_external(path, IMAGES, ("cat", "dog", "kite"))
    assert (data.fixed.class_names, data.fixed.source_ids) == (("kite", "dog"), (3, 9))
    assert data.label_of.tolist() == [0, 0, 2, 1]
    assert (data.model_only, data.data_only) == (("cat",), ("unicorn",))
    assert data.fixed.labels.tolist() == [1, 2]
    assert data.has_boxes
    assert data.faulty_boxes == 0


def test_a_raw_file_is_repaired_and_what_is_lost_counted(project: Path) -> None:
    path = annotate(project / "a.json", {3: "kite"}, [
        {"category_id": 3, "bbox": [90, 1, 20, 10]}, {"category_id": 3, "bbox": [1, 1, 0, 10]},
        {"category_id": 3, "bbox": [1, 1, 0.5, 10]}, {"category_id": 3, "bbox": [1, 1, 9, 9], "image_id": 99}])
    data = open_external(path, IMAGES, ("kite",))
    assert data.fixed.boxes.tolist() == [[90, 1, 96, 11], [1, 1, 1.5, 11]]  # clipped to 96 px; half a pixel is an area
    assert data.faulty_boxes == 2


def test_a_list_of_images_has_no_boxes(project: Path) -> None:
    tree = json.loads(annotate(project / "a.json", {3: "kite"}, []).read_text())
    del tree["annotations"]
    (project / "a.json").write_text(json.dumps(tree))
    assert not open_external(project / "a.json", IMAGES, ("kite",)).has_boxes


def test_no_class_in_common_is_an_error_that_names_both_sides(project: Path) -> None:
    path = annotate(project / "a.json", {3: "Kite", 4: "cow"}, [])
    with pytest.raises(InputError, match=r"no class in common .* are dog, kite; the file has Kite, cow\."):
        open_external(path, IMAGES, SPEC.class_names)


def test_missing_images_are_counted_and_the_first_is_named(project: Path) -> None:
    path = annotate(project / "a.json", {3: "kite"}, [])
    for i in (1, 2):
        (IMAGES / f"val/{i}.png").unlink()
    with pytest.raises(InputError, match=r"2 of 3 images of .*a\.json are missing, the first is 'val/1\.png'"):
        open_external(path, IMAGES, ("kite",))


def test_a_file_without_images_is_an_error(project: Path) -> None:
    (project / "a.json").write_text(json.dumps({"images": [], "categories": [{"id": 1, "name": "kite"}]}))
    with pytest.raises(InputError, match="lists 0 images"):
        open_external(project / "a.json", IMAGES, ("kite",))


def test_detections_have_the_labels_of_the_dataset(project: Path) -> None:
    sets = [open_external(annotate(project / "a.json", names, []), IMAGES, SPEC.class_names)
            for names in ({1: "dog", 2: "kite"}, {1: "kite", 2: "dog"})]
    straight, swapped = (predict_external(load_model().net, data, Postprocess(), 2, CPU, workers=0) for data in sets)
    assert set(straight.labels.tolist()) == {1, 2}
    assert np.array_equal(straight.labels, 3 - swapped.labels)
    assert np.array_equal(straight.boxes, swapped.boxes)


@pytest.mark.parametrize("name", ["dog", "kite"])
def test_detections_of_other_classes_do_not_count_towards_the_limit(project: Path, name: str) -> None:
    data = open_external(annotate(project / "a.json", {7: name}, []), IMAGES, SPEC.class_names)
    few, many = (predict_external(load_model().net, data, Postprocess(max_detections=limit), 2, CPU, workers=0)
                 for limit in (4, 10_000))
    assert np.bincount(few.images).tolist() == [4, 4, 4]
    best = np.concatenate([np.flatnonzero(many.images == image)[:4] for image in range(3)])
    assert all(np.array_equal(a, b[best]) for a, b in zip(few, many, strict=True))


def test_a_raw_official_file_gives_pycocotools_own_numbers(shared_data: Path, tmp_path: Path) -> None:
    mirror = shared_data / "coco-mirror"
    with zipfile.ZipFile(mirror / "annotations/annotations_trainval2017.zip") as archive:
        original = Path(archive.extract("annotations/instances_val2017.json", tmp_path))
    with zipfile.ZipFile(mirror / "zips/val2017.zip") as archive:
        archive.extractall(tmp_path)
    categories = json.loads(original.read_text())["categories"]
    known = categories[::-3]  # every third class, in another order
    data = open_external(original, tmp_path / "val2017", tuple(row["name"] for row in known))
    found = noisy(ground_truth_as_predictions(data.fixed), len(known))
    expected = by_hand(original, results_json(data.fixed, found), tmp_path, [row["id"] for row in known])
    assert 0.1 < expected[0] < 0.9
    assert [coco_metrics(run_coco(data.truth, data.fixed, found))[name] for name in SUMMARY_NAMES] == expected


def measure(annotations: Path, images: Path, *more: str, model: Path = MODEL_PATH) -> int:
    return main(["evaluate", str(model), "--annotations", str(annotations), "--images", str(images), "--out", str(OUT),
                 "--device", "cpu", "--batch-size", "2", *more])


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture
def raw_file(project: Path) -> Path:
    """Write an annotation file as others make them, of which the model finds two thirds; let data/fixed say the same."""
    assert measure(GT_PATH, IMAGES) == 0
    results, tree = read(OUT / "results.json"), read(GT_PATH)
    for number, row in enumerate(results[::6]):
        row["bbox"] = [0, 0, 12, 12 + number / 100]  # equal boxes would count once
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
    evaluate(params, runtime_params())
    stage = read(Path("reports/eval.json"))
    assert stage.pop("AP_int8") is None  # of an export, which `ssd evaluate` does not know
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


def test_labels_of_the_stored_pixels_of_an_image_that_exif_turns_give_the_same_numbers_and_results_on_them(
        raw_file: Path) -> None:
    assert measure(raw_file, IMAGES) == 0
    numbers, found = read(OUT / "eval.json"), read(OUT / "results.json")
    upright = read_image(IMAGES / "val/0.png")
    exif = Pillow.Exif()
    exif[EXIF_ORIENTATION] = 6
    Pillow.fromarray(turn_pixels(upright, INVERSE[6])).save(IMAGES / "val/0.png", exif=exif)
    tree = read(raw_file)
    size, image = np.array([upright.shape[1::-1]]), tree["images"][0]
    image["width"], image["height"] = image["height"], image["width"]

    def as_stored(row: dict) -> list[float]:
        if row["image_id"] != image["id"]:
            return row["bbox"]
        return turn_boxes(np.array([row["bbox"]]), size, INVERSE[6])[0].tolist()
    tree["annotations"] = [{**row, "bbox": as_stored(row)} for row in tree["annotations"]]
    raw_file.write_text(json.dumps(tree))
    assert measure(raw_file, IMAGES) == 0
    assert read(OUT / "eval.json") == numbers
    results = read(OUT / "results.json")
    assert np.array([row["bbox"] for row in results]) == pytest.approx(np.array([as_stored(row) for row in found]), abs=2e-3)


def test_a_combo_checkpoint_is_measured_like_the_model_it_would_become(raw_file: Path) -> None:
    assert measure(raw_file, IMAGES) == 0
    wanted = (OUT / "results.json").read_bytes()
    weights = load_model().net.state_dict()
    combo = ComboCheckpoint(
        fingerprint="0" * 16, params={"train": {"epochs": 5}}, data_digest="0" * 64, spec=asdict(SPEC), epoch=1, step=0,
        weights=SPEC.build(9).state_dict(),
        average={f"module.{key}": value for key, value in weights.items()}, optimizer={}, scaler={}, totals=torch.zeros(3),
        best=None, history=[], versions={})
    save_checkpoint(combo, Path("checkpoints"), Path("resume"), is_best=False)
    assert measure(raw_file, IMAGES, model=Path("checkpoints") / LAST) == 0
    assert (OUT / "results.json").read_bytes() == wanted


def test_classes_of_one_side_alone_are_named_and_count_for_nothing(
        raw_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = read(raw_file)
    tree["categories"] = [{"id": 18, "name": "dog"}, {"id": 38, "name": "unicorn"}]
    raw_file.write_text(json.dumps(tree))
    assert measure(raw_file, IMAGES) == 0
    said = capsys.readouterr().out
    assert "1 class in common" in said
    assert "left out: objects of classes that the model does not know (1): unicorn" in said
    assert "left out: detections of classes that the dataset does not have (1): kite" in said
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
    assert "the file lists no boxes: there will be detections but no metrics" in capsys.readouterr().out
    name = f"detections_{split}_mb2-ssd-lite_results"
    assert {path.name for path in OUT.iterdir()} == {"results.json", f"{name}.zip"}
    with zipfile.ZipFile(OUT / f"{name}.zip") as archive:
        rows = json.loads(archive.read(f"{name}.json"))
    assert rows == read(OUT / "results.json")
    assert {row["image_id"] for row in rows} == {image["id"] for image in read(listed)["images"]}
    assert {row["category_id"] for row in rows} == {1, 90}  # COCO's person and toothbrush


@pytest.mark.parametrize(("more", "message"), [
    (["--name", "a/b"], "--name: 'a/b' becomes part"), (["--device", "cuda:99"], "'cuda:99' does not exist")])
def test_what_is_wrong_is_said_before_anything_is_written(
        project: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str) -> None:
    assert measure(GT_PATH, IMAGES, *more) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("ERROR ")
    assert message in printed
    assert not OUT.exists()


def test_a_missing_model_is_one_line_that_names_the_command(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(GT_PATH, IMAGES, model=Path("none.pt")) == 1
    assert capsys.readouterr() == ("", "ERROR none.pt: missing. `dvc repro train` makes it when training is complete.\n")


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


def test_postprocess_values_are_the_model_s_unless_the_command_names_others(project: Path, weights: dict) -> None:
    save_model(project / "other.pt", SPEC, weights, {}, Postprocess(score_threshold=0.3, nms_iou=0.7, max_detections=50))
    found = []
    for options, model in (((), MODEL_PATH), ((), Path("other.pt")), (("--nms-iou", "0.45"), Path("other.pt"))):
        measure(GT_PATH, IMAGES, *options, model=model)
        found.append(read(OUT / "results.json"))
    own, other, named = found
    assert (len(own), len(other)) == (300, 150)
    assert min(row["score"] for row in other) >= 0.3
    assert len([row for row in other if row not in own]) > 0, "an nms_iou of 0.7 keeps what 0.45 drops"
    assert all(row in own for row in named)


def apart(one: list[float], other: list[float]) -> bool:
    """Whether two boxes, xywh, share no more than the rounding of their sides."""
    return any(max(a, b) >= min(a + c, b + d) - 0.01 for a, c, b, d in zip(one[:2], one[2:], other[:2], other[2:], strict=True))


@pytest.mark.parametrize(("option", "message"), [
    (["--batch-size", "0"], "0 is not a whole number of 1 or more"), (["--nms-iou", "1.1"], "1.1 is not between 0 and 1")])
def test_numbers_out_of_range_are_refused(capsys: pytest.CaptureFixture[str], option: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        measure(GT_PATH, IMAGES, *option)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("annotations", "split"), [
    ("instances_val2017.json", "val2017"), ("image_info_test2017.json", "test2017"),
    ("image_info_test-dev2017.json", "test-dev2017"), ("val.json", "val")])
def test_the_testset_is_that_of_the_annotation_file(annotations: str, split: str) -> None:
    assert submission_name(Path("a_b") / annotations, "mb2_ssd-0.5") == f"detections_{split}_mb2_ssd-0.5_results"


@pytest.mark.parametrize("name", ["", "a/b", "a b", "größer"])
def test_a_name_that_no_file_should_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"--name: .* are allowed"):
        submission_name(Path("instances_val2017.json"), name)


def test_the_zip_holds_one_file_of_its_own_name_and_no_folder(tmp_path: Path) -> None:
    path = write_submission(tmp_path, "detections_test-dev2017_ssd_results", RESULTS)
    assert path == tmp_path / "detections_test-dev2017_ssd_results.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["detections_test-dev2017_ssd_results.json"]
        assert json.loads(archive.read(archive.namelist()[0])) == RESULTS


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (write_submission(tmp_path / folder, "x", RESULTS).read_bytes() for folder in ("a", "b"))
    assert one == other
    assert write_submission(tmp_path, "x", RESULTS * 2).read_bytes() != one
