"""Images of 100 px; the boxes of objects are 10 px wide and high, and lie apart. A is found, so that AP50 has a base."""

import numpy as np
import pytest
from support.made_up import Corners, Found, Object, detections, truth
from support.predictions import ground_truth_as_predictions, noisy

from ssd_lib.annotations.fixed_set import FixedSet
from ssd_lib.evaluate.analysis import Analysis, analyse
from ssd_lib.evaluate.coco_eval import coco_metrics, run_coco
from ssd_lib.evaluate.error_kinds import BACKGROUND_IOU, KINDS, NO_ERROR, Errors, confusion, find_errors, lost_ap50, mean_ap
from ssd_lib.evaluate.matching import find_pairs, match

A, B, NOWHERE = (0, 0, 10, 10), (40, 0, 50, 10), (80, 80, 90, 90)
LOOSE_B = (46, 0, 56, 10)  # IoU with B: 40 / 160
CLOSE_B = (42, 0, 52, 10)  # IoU with B: 80 / 120


def errors_of(fixed: FixedSet, *found: Found) -> tuple[Errors, dict[str, float]]:
    predictions = detections(*found)
    pairs = find_pairs(fixed, predictions, BACKGROUND_IOU)
    matched = match(fixed, predictions, pairs)
    errors = find_errors(fixed, predictions, pairs, matched, np.ones(len(matched), dtype=bool))
    return errors, lost_ap50(fixed, predictions, matched, errors)


@pytest.mark.parametrize(("box", "label", "kind", "is_missed"), [
    (LOOSE_B, 1, "localisation", False),
    (CLOSE_B, 2, "classification", False),
    (LOOSE_B, 2, "both", True),
    ((2, 0, 12, 10), 1, "duplicate", True),
    (NOWHERE, 1, "background", True),
])
def test_a_wrong_detection_has_one_kind(box: Corners, label: int, kind: str, is_missed: bool) -> None:
    fixed = truth(Object(0, A), Object(0, B), Object(1, NOWHERE, 2), classes=2)
    errors, _ = errors_of(fixed, Found(0.9, 0, A), Found(0.5, 0, box, label), Found(0.4, 1, NOWHERE, 2))
    assert [KINDS[found] if found >= 0 else "" for found in errors.kinds] == ["", kind, ""]
    assert errors.is_missed.tolist() == [False, is_missed, False]
    assert errors.is_found.tolist() == [True, False, True]


@pytest.mark.parametrize("boxes", [(B, (52, 0, 62, 10)), ((38, 0, 48, 10), (50, 0, 60, 10))])
def test_a_loose_box_is_meant_for_the_object_that_it_fits_best(boxes: tuple[Corners, Corners]) -> None:
    """Of (45, 0, 55, 10), with IoUs 5 / 15 and 3 / 17, or 3 / 17 and 5 / 15."""
    errors, _ = errors_of(truth(*(Object(0, box) for box in boxes)), Found(0.9, 0, (45, 0, 55, 10)))
    assert errors.targets.tolist() == [0 if boxes[0] == B else 1]


@pytest.mark.parametrize(("wrong", "gains"), [
    # Two objects, one found: AP50 is 51 of 101 recalls. The other one is missed, or nearly found behind it.
    ([], {"missed": 50 / 101}),
    ([Found(0.5, 0, LOOSE_B)], {"localisation": 50 / 101}),
    ([Found(0.5, 0, LOOSE_B), Found(0.4, 0, LOOSE_B)], {"localisation": 50 / 101}),
    ([Found(0.5, 0, LOOSE_B), Found(0.45, 0, NOWHERE), Found(0.4, 0, LOOSE_B)], {"localisation": 50 / 101}),  # the surer one
    # A loose box for an object that is found is removed, and finds no other.
    ([Found(0.95, 0, (6, 0, 16, 10))], {"localisation": 51 / 202, "missed": 50 / 202}),
    # A wrong detection before the right one halves its precision.
    ([Found(0.95, 0, NOWHERE)], {"background": 51 / 202, "missed": 50 / 202}),
])
def test_the_gain_of_mending_is_that_computed_by_hand(wrong: list[Found], gains: dict[str, float]) -> None:
    _, found = errors_of(truth(Object(0, A), Object(0, B)), Found(0.9, 0, A), *wrong)
    assert found == pytest.approx({kind: gains.get(kind, 0) for kind in KINDS})


def test_a_mended_class_counts_for_the_class_of_the_object() -> None:
    fixed = truth(Object(0, A, 1), Object(0, B, 2), classes=2)
    _, gains = errors_of(fixed, Found(0.8, 0, A, 1), Found(0.9, 0, B, 1))
    assert gains["classification"] == pytest.approx(1 - (0.5 + 0) / 2)  # both perfect; before, 1 has 1/2 and 2 has 0
    assert gains["missed"] == pytest.approx(0)  # a detection is meant for the object of class 2


def test_a_detection_meant_for_a_found_object_is_removed_and_a_crowd_is_no_target() -> None:
    fixed = truth(Object(0, A), Object(0, (60, 60, 100, 100), is_crowd=True))
    errors, gains = errors_of(fixed, Found(0.9, 0, (6, 0, 16, 10)), Found(0.8, 0, A), Found(0.7, 0, (70, 70, 80, 80)),
                              Found(0.6, 0, (53, 70, 63, 80)))  # three tenths of it lie in the crowd
    assert [KINDS[kind] if kind >= 0 else "" for kind in errors.kinds] == ["localisation", "", "", "background"]
    assert gains == pytest.approx({kind: 0.5 if kind == "localisation" else 0 for kind in KINDS})


def test_without_detections_all_is_missed_and_without_objects_nothing_is_known() -> None:
    errors, gains = errors_of(truth(Object(0, A), Object(1, B)))
    assert errors.is_missed.all()
    assert gains["missed"] == 1
    assert np.isnan(errors_of(truth(), Found(0.5, 0, A))[1]["background"])


def test_the_ap_before_mending_is_that_of_coco(fixed: FixedSet) -> None:
    predictions = noisy(ground_truth_as_predictions(fixed), len(fixed.class_names))
    found = analyse(fixed, predictions)
    objects = np.bincount(fixed.labels[~fixed.is_crowd], minlength=len(fixed.class_names) + 1)[1:]
    categories = [{"id": k, "name": name} for k, name in enumerate(fixed.class_names, start=1)]
    ap50 = mean_ap(predictions.labels, predictions.scores, found.matched >= 0, found.matched != -2, objects, objects > 0)
    xywh = np.concatenate([fixed.boxes[:, :2], fixed.boxes[:, 2:] - fixed.boxes[:, :2]], axis=1).tolist()
    rows = [{"image_id": int(fixed.image_ids[image]), "category_id": int(label), "bbox": box, "area": box[2] * box[3],
             "iscrowd": int(crowd)}
            for image, label, box, crowd in zip(fixed.image_indices(), fixed.labels, xywh, fixed.is_crowd, strict=True)]
    images = [{"id": int(number)} for number in fixed.image_ids]
    coco = run_coco({"images": images, "annotations": rows, "categories": categories}, fixed, predictions)
    assert ap50 == pytest.approx(coco_metrics(coco)["AP50"], abs=1e-9)


def analysed(fixed: FixedSet, *found: Found) -> Analysis:
    return analyse(fixed, detections(*found))


def test_the_confusion_counts_each_object_and_each_wrong_detection_once() -> None:
    fixed = truth(Object(0, A, 1), Object(0, B, 1), Object(1, A, 2), classes=2)
    predictions = detections(Found(0.9, 0, A, 1), Found(0.8, 0, B, 2), Found(0.7, 0, CLOSE_B, 2), Found(0.6, 1, NOWHERE, 1))
    pairs = find_pairs(fixed, predictions, BACKGROUND_IOU)
    matched, shown = match(fixed, predictions, pairs), np.ones(4, dtype=bool)
    errors = find_errors(fixed, predictions, pairs, matched, shown)
    assert confusion(fixed, predictions, matched, shown, errors).tolist() == [
        [1, 1, 0],   # of class 1 one is found, one taken for class 2
        [0, 0, 1],   # that of class 2 is missed
        [1, 1, 0]]   # one of class 1 on the background, and the second one of class 2 for the same object


def test_detections_below_the_threshold_of_their_class_do_not_count() -> None:
    found = analysed(truth(Object(0, A), Object(1, B)), Found(0.9, 0, A), Found(0.2, 0, NOWHERE), Found(0.1, 1, NOWHERE))
    assert found.shown.tolist() == [True, False, False]
    assert found.errors.kinds.tolist() == [NO_ERROR] * 3
    assert found.confused.tolist() == [[1, 1], [0, 0]]
    weak = analysed(truth(Object(0, A), Object(1, B)), Found(0.9, 0, A), *[Found(0.5, 0, NOWHERE)] * 3, Found(0.1, 1, B))
    assert (weak.errors.is_found.tolist(), weak.errors.is_missed.tolist()) == ([True, False], [False, True])
    assert weak.lost["background"] == pytest.approx(50 * 3 / 5 / 101)  # AP50 counts low scores, too
