"""Errors that are planted at random are listed first, with made-up detections of a detector that makes errors itself."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.label_errors import APART_IOU, EACH, FIRST, LOOSE_IOU, Planted, _ious, count, plant
from ssd_lib.annotations.coco import format_annotations
from ssd_lib.annotations.fixed_set import from_arrays, to_arrays
from ssd_lib.annotations.repair import fix
from ssd_lib.annotations.table import Annotations, Box, Category, Image, from_rows
from ssd_lib.evaluate.coco_eval import Predictions
from ssd_lib.evaluate.external import ExternalDataset
from ssd_lib.labels.records import Part, Record, records
from ssd_lib.labels.suspects import KINDS, find_suspects

WIDTH, HEIGHT, IMAGES, CLASSES, CELL = 400, 300, 300, 3, 100


@pytest.fixture(scope="module")
def clean() -> Annotations:
    """Return images with an object in about every third cell of a grid."""
    rng = np.random.default_rng(0)
    boxes = []
    for image in range(1, IMAGES + 1):
        for left in range(0, WIDTH, CELL):
            for top in range(0, HEIGHT, CELL):
                if rng.random() < 0.3:
                    width, height = rng.uniform(40, 80, 2)
                    x, y = left + rng.uniform(0, CELL - width), top + rng.uniform(0, CELL - height)
                    label = int(rng.integers(1, CLASSES + 1))
                    boxes.append(Box(len(boxes) + 1, image, label, x, y, width, height, width * height, False))
    return from_rows([Image(number, f"{number}.jpg", WIDTH, HEIGHT) for number in range(1, IMAGES + 1)], boxes,
                     [Category(number, f"class {number}", number) for number in range(1, CLASSES + 1)])


def detected(clean: Annotations) -> Predictions:
    """Return what a fair detector finds of the true objects: some hardly, with loose boxes and other classes, and some that are
    not there."""
    rng = np.random.default_rng(1)
    images, labels, boxes = clean.image_indices(), clean.boxes.category_ids, clean.boxes.xywh
    scores = np.where(rng.random(len(boxes)) < 0.9, rng.normal(0.7, 0.12, len(boxes)), rng.normal(0.25, 0.1, len(boxes)))
    seen = boxes + boxes[:, [2, 3, 2, 3]] * rng.normal(0, 0.06, boxes.shape)
    nowhere = rng.integers(0, IMAGES, 2 * IMAGES)
    sides = rng.uniform(40, 80, (len(nowhere), 2))
    places = np.concatenate([rng.uniform(0, 1, sides.shape) * ((WIDTH, HEIGHT) - sides), sides], axis=1)
    columns = (np.concatenate([images, images, nowhere]),
               np.concatenate([labels, labels % CLASSES + 1, rng.integers(1, CLASSES + 1, len(nowhere))]),
               np.concatenate([scores, 0.3 * scores, rng.exponential(0.1, len(nowhere))]).clip(0.01, 0.99),
               np.concatenate([seen, seen, places]))
    order = np.argsort(columns[0], kind="stable")
    return Predictions(*(column[order] for column in columns))


def listed(wrong: Annotations, predictions: Predictions) -> list[Record]:
    """Return the first suspects among wrong annotations."""
    repaired = fix(wrong, (), 1.0)
    fixed, truth = from_arrays(to_arrays(repaired)), json.loads(b"".join(format_annotations(repaired)))
    dataset = ExternalDataset(fixed, truth, Path(), True, np.arange(CLASSES + 1), (), (), 0, {})
    return records(Part("train", Path(), wrong, dataset, predictions, find_suspects(fixed, predictions, FIRST)))


@pytest.mark.parametrize("seed", [1, 2])
def test_at_least_80_of_100_planted_errors_are_among_the_first_120(clean: Annotations, seed: int) -> None:
    wrong, planted = plant(clean, EACH, np.random.default_rng(seed))
    found = count(planted, listed(wrong, detected(clean)))
    assert sum(total for total, _ in found.values()) >= 80, found
    assert all(total >= EACH / 2 and right >= 0.8 * total for total, right in found.values()), found


def test_the_planted_errors_are_what_they_say(clean: Annotations) -> None:
    wrong, planted = plant(clean, EACH, np.random.default_rng(1))
    before = {row: (clean.boxes.category_ids[at], clean.boxes.xywh[at]) for at, row in enumerate(clean.boxes.ids.tolist())}
    after = {row: (wrong.boxes.category_ids[at], wrong.boxes.xywh[at]) for at, row in enumerate(wrong.boxes.ids.tolist())}
    assert [one.kind for one in planted] == [kind for kind in KINDS for _ in range(EACH)]
    assert len({one.annotation_id for one in planted}) == len(planted)
    for kind, number, box in ((one.kind, one.annotation_id, np.array(one.box)) for one in planted):
        if kind == "missing box":
            assert number not in after
            assert np.array_equal(box, before[number][1])
        elif kind == "spurious box":
            assert number not in before
            image = wrong.boxes.image_ids[wrong.boxes.ids == number][0]
            others = wrong.boxes.xywh[(wrong.boxes.image_ids == image) & (wrong.boxes.ids != number)]
            assert (_ious(box, others) <= APART_IOU).all()
        else:
            assert (before[number][0] != after[number][0]) == (kind == "wrong class")
            overlap = _ious(box, after[number][1][None])[0]
            assert LOOSE_IOU[0] <= overlap <= LOOSE_IOU[1] if kind == "loose or shifted box" else overlap == pytest.approx(1)
    touched = {one.annotation_id for one in planted}
    assert all(before[row][0] == after[row][0] and np.array_equal(before[row][1], after[row][1]) for row in before
               if row not in touched)


def test_an_error_counts_by_its_annotation_or_its_place_and_once() -> None:
    def suspect(kind: str, annotation: int | None, box: list[float] | None) -> Record:
        return Record("train", kind, 1.0, "", "a.jpg", 1, annotation, None, None, None, None, box)

    planted = [Planted("missing box", "a.jpg", 7, [0, 0, 10, 10]), Planted("wrong class", "a.jpg", 8, [50, 50, 10, 10]),
               Planted("spurious box", "b.jpg", 9, [0, 0, 10, 10])]
    found = count(planted, [suspect("missing box", None, [1, 0, 10, 10]), suspect("spurious box", 8, None),
                            suspect("missing box", None, [52, 50, 10, 10]), suspect("spurious box", 10, None)])
    assert found == {"missing box": (1, 1), "wrong class": (1, 0), "loose or shifted box": (0, 0), "spurious box": (0, 0)}
