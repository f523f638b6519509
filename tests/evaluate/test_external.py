"""The pictures are those of conftest.py, in data/raw/tiny."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support.predictions import by_hand, ground_truth_as_predictions, noisy
from support.trained_project import SIZES, SPEC

from ssd_lib.errors import InputError
from ssd_lib.evaluate.coco_eval import SUMMARY_NAMES, coco_metrics, results_json, run_coco
from ssd_lib.evaluate.external import open_foreign_set, predict_foreign
from ssd_lib.nets.model_file import load_model
from ssd_lib.params import EvalParams

IMAGES = Path("data/raw/tiny")
CPU = torch.device("cpu")


def annotate(path: Path, categories: dict[int, str], boxes: list[dict]) -> Path:
    """A raw COCO file about the three pictures, ids with holes."""
    path.write_text(json.dumps({
        "images": [{"id": 70 + i, "file_name": f"val/{i}.png", "width": w, "height": h} for i, (h, w) in enumerate(SIZES)],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
        "annotations": [{"id": i, "area": 100, "iscrowd": 0, "image_id": 70, **row} for i, row in enumerate(boxes)]}))
    return path


def test_classes_are_matched_by_name_and_named_where_one_side_knows_them_alone(project: Path) -> None:
    path = annotate(project / "a.json", {3: "kite", 5: "unicorn", 9: " dog "}, [
        {"category_id": 3, "bbox": [1, 1, 10, 10]}, {"category_id": 5, "bbox": [1, 1, 10, 10]},
        {"category_id": 9, "bbox": [2, 2, 10, 10]}])
    data = open_foreign_set(path, IMAGES, ("cat", "dog", "kite"))
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
    data = open_foreign_set(path, IMAGES, ("kite",))
    assert data.fixed.boxes.tolist() == [[90, 1, 96, 11], [1, 1, 1.5, 11]]  # clipped to 96 px; half a pixel is an area
    assert data.faulty_boxes == 2


def test_a_list_of_images_has_no_boxes(project: Path) -> None:
    tree = json.loads(annotate(project / "a.json", {3: "kite"}, []).read_text())
    del tree["annotations"]
    (project / "a.json").write_text(json.dumps(tree))
    assert not open_foreign_set(project / "a.json", IMAGES, ("kite",)).has_boxes


def test_no_class_in_common_is_an_error_that_names_both_sides(project: Path) -> None:
    path = annotate(project / "a.json", {3: "Kite", 4: "cow"}, [])
    with pytest.raises(InputError, match=r"shares no class .* knows dog, kite; the file has Kite, cow\."):
        open_foreign_set(path, IMAGES, SPEC.class_names)


def test_missing_images_are_counted_and_the_first_is_named(project: Path) -> None:
    path = annotate(project / "a.json", {3: "kite"}, [])
    for i in (1, 2):
        (IMAGES / f"val/{i}.png").unlink()
    with pytest.raises(InputError, match=r"2 of the 3 images of .*a\.json are missing, the first 'val/1\.png'"):
        open_foreign_set(path, IMAGES, ("kite",))


def test_a_file_without_images_is_an_error(project: Path) -> None:
    (project / "a.json").write_text(json.dumps({"images": [], "categories": [{"id": 1, "name": "kite"}]}))
    with pytest.raises(InputError, match="lists 0 images"):
        open_foreign_set(project / "a.json", IMAGES, ("kite",))


def test_detections_come_under_the_labels_of_the_data_set(project: Path, params: EvalParams) -> None:
    sets = [open_foreign_set(annotate(project / "a.json", names, []), IMAGES, SPEC.class_names)
            for names in ({1: "dog", 2: "kite"}, {1: "kite", 2: "dog"})]
    straight, swapped = (predict_foreign(load_model().net, data, params, CPU, workers=0) for data in sets)
    assert set(straight.labels.tolist()) == {1, 2}
    assert np.array_equal(straight.labels, 3 - swapped.labels)
    assert np.array_equal(straight.boxes, swapped.boxes)


@pytest.mark.parametrize("name", ["dog", "kite"])
def test_detections_of_other_classes_take_no_place(project: Path, params: EvalParams, name: str) -> None:
    data = open_foreign_set(annotate(project / "a.json", {7: name}, []), IMAGES, SPEC.class_names)
    few, many = (predict_foreign(load_model().net, data, params.model_copy(update={"max_detections": limit}), CPU, workers=0)
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
    data = open_foreign_set(original, tmp_path / "val2017", tuple(row["name"] for row in known))
    found = noisy(ground_truth_as_predictions(data.fixed), len(known))
    expected = by_hand(original, results_json(data.fixed, found), tmp_path, [row["id"] for row in known])
    assert 0.1 < expected[0] < 0.9
    assert [coco_metrics(run_coco(data.truth, data.fixed, found))[name] for name in SUMMARY_NAMES] == expected
