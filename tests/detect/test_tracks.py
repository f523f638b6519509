"""Ids of objects in made-up videos: boxes of 40 x 40 px at given places."""

import numpy as np
import pytest

from ssd_lib.detect.detector import Objects
from ssd_lib.detect.tracks import LOW_SCORE, MOST_MISSED, above, follow

NAMES, THRESHOLDS, SIDE = ("dog", "kite"), np.array([0.5, 0.7]), 40
Row = tuple[float, float, int, float]  # left, top, label, score


def objects(*rows: Row) -> Objects:
    """Return objects in the order in which a Detector gives them."""
    ordered = sorted(rows, key=lambda row: -row[3])
    boxes = np.array([(x, y, x + SIDE, y + SIDE) for x, y, _, _ in ordered], np.float32).reshape(-1, 4)
    labels = np.array([label for _, _, label, _ in ordered], np.int64)
    return Objects(boxes, labels, np.array([row[3] for row in ordered], np.float32), tuple(NAMES[i - 1] for i in labels))


def ids_by_place(frames: list[list[Row]]) -> list[dict[tuple[float, float], int]]:
    """Return for each frame the id at each corner."""
    found = ((number, objects(*rows)) for number, rows in enumerate(frames))
    return [{(float(x), float(y)): number for (x, y), number in zip(kept.boxes[:, :2], ids, strict=True)}
            for _, kept, ids in follow(found, THRESHOLDS)]


def test_ids_persist_for_crossing_objects_with_a_missed_frame() -> None:
    right = [(10.0 * t, 0.0, 1, 0.9 - 0.01 * t) for t in range(20)]
    left = [(190 - 10.0 * t, 6.0, 1, 0.8) for t in range(20)]  # they pass each other in frames 9 and 10
    for missed in range(2, 19):
        frames = [[a, b] if t != missed else [b] for t, (a, b) in enumerate(zip(right, left, strict=True))]
        found = ids_by_place(frames)
        assert {found[t][right[t][:2]] for t in range(20) if t != missed} == {1}
        assert {found[t][left[t][:2]] for t in range(20)} == {2}


def test_an_object_of_a_low_score_is_kept_only_if_it_continues_a_track() -> None:
    frames = [[(0.0, 0.0, 1, 0.9)], [(2.0, 0.0, 1, 0.2), (100.0, 0.0, 1, 0.3)], [(4.0, 0.0, 1, 0.9), (100.0, 0.0, 1, 0.3)]]
    assert ids_by_place(frames) == [{(0, 0): 1}, {(2, 0): 1}, {(4, 0): 1}]


def test_a_low_score_never_takes_a_track_from_a_high_one_nor_one_that_was_lost() -> None:
    assert ids_by_place([[(0.0, 0.0, 1, 0.9)], [(0.0, 0.0, 1, 0.3), (10.0, 0.0, 1, 0.6)]]) == [{(0, 0): 1}, {(10, 0): 1}]
    assert ids_by_place([[(0.0, 0.0, 1, 0.9)], [], [(0.0, 0.0, 1, 0.3)]]) == [{(0, 0): 1}, {}, {}]


@pytest.mark.parametrize(("score", "shift", "kept"), [  # shifts with an IoU of 27 / 53, 26 / 54, 14 / 66 and 13 / 67
    (0.3, 13, {(13, 0): 1}), (0.3, 14, {}), (0.9, 26, {(26, 0): 1}), (0.9, 27, {(27, 0): 2})])
def test_how_far_an_object_may_be_from_its_track_depends_on_its_score(score: float, shift: int,
                                                                      kept: dict[tuple[float, float], int]) -> None:
    assert ids_by_place([[(0.0, 0.0, 1, 0.9)], [(float(shift), 0.0, 1, score)]])[1] == kept


def test_an_object_with_a_track_takes_none_from_one_of_a_low_score() -> None:
    before = [(0.0, 0.0, 1, 0.95), (10.0, 0.0, 1, 0.9)]
    assert ids_by_place([before, [(0.0, 0.0, 1, 0.9), (12.0, 0.0, 1, 0.2)]])[1] == {(0, 0): 1, (12, 0): 2}


def test_of_two_objects_the_surer_one_has_the_track_though_it_fits_a_little_worse() -> None:
    assert ids_by_place([[(0.0, 0.0, 1, 0.9)], [(4.0, 0.0, 1, 0.55), (8.0, 0.0, 1, 0.9)]])[1] == {(4, 0): 2, (8, 0): 1}


def test_the_threshold_is_that_of_the_class() -> None:
    assert ids_by_place([[(0.0, 0.0, 1, 0.5)]]) == [{(0, 0): 1}], "it reaches the threshold"
    assert above(objects((0.0, 0.0, 1, 0.5)), THRESHOLDS).names == ("dog",)
    assert ids_by_place([[(0.0, 0.0, 1, 0.6), (100.0, 0.0, 2, 0.6)]]) == [{(0, 0): 1}]
    assert above(objects((0.0, 0.0, 1, 0.6), (9.0, 0.0, 2, 0.6), (5.0, 0.0, 2, 0.8)), THRESHOLDS).boxes[:, 0].tolist() == [5, 0]


def test_an_id_never_changes_its_class() -> None:
    assert ids_by_place([[(0.0, 0.0, 1, 0.9)], [(0.0, 0.0, 2, 0.9)], [(0.0, 0.0, 1, 0.9)]]) == [
        {(0, 0): 1}, {(0, 0): 2}, {(0, 0): 1}]


@pytest.mark.parametrize(("missed", "number"), [(MOST_MISSED, 1), (MOST_MISSED + 1, 2)])
def test_an_object_that_comes_back_late_is_a_new_one(missed: int, number: int) -> None:
    frames: list[list[Row]] = [[(0.0, 0.0, 1, 0.9)], *([] for _ in range(missed)), [(0.0, 0.0, 1, 0.9)]]
    assert ids_by_place(frames)[-1] == {(0, 0): number}


def test_a_fast_object_is_expected_where_its_velocity_takes_it() -> None:
    frames = [[(10.0 * t, 0.0, 1, 0.9)] if t not in (4, 5, 6, 7) else [] for t in range(12)]  # 50 px on: no overlap left
    assert {number for found in ids_by_place(frames) for number in found.values()} == {1}


@pytest.mark.parametrize(("seen", "there"), [
    ((0, 10, None, 30, None, None, None, None, None, None), 100),  # 10 px per frame, also across a frame without it
    ((0, 10, 20, 38, *[None] * 9), 38 + 10 * 14),  # the last step of 18 px is half of the velocity
])
def test_the_velocity_is_the_smoothed_step_per_frame(seen: tuple[int | None, ...], there: int) -> None:
    frames: list[list[Row]] = [[] if x is None else [(float(x), 0.0, 1, 0.9)] for x in (*seen, there)]
    assert ids_by_place(frames)[-1] == {(there, 0): 1}


def test_frames_pass_and_objects_keep_their_order_and_values() -> None:
    found = objects((0.0, 0.0, 1, 0.9), (100.0, 0.0, 2, 0.95), (200.0, 0.0, 1, 0.55), (300.0, 0.0, 1, LOW_SCORE))
    [(frame, kept, ids)] = follow([("frame", found)], THRESHOLDS)
    assert (frame, ids, kept.names) == ("frame", (1, 2, 3), ("kite", "dog", "dog"))
    assert kept.boxes.tolist() == found.boxes[:3].tolist()
    assert kept.scores.tolist() == found.scores[:3].tolist()


def test_ids_differ_within_a_frame_however_crowded_it_is() -> None:
    random = np.random.default_rng(0)
    crowd = [[(*random.uniform(0, 60, 2).tolist(), int(random.integers(1, 3)), float(random.uniform(0.1, 1)))
              for _ in range(random.integers(0, 12))] for _ in range(60)]
    for _, kept, ids in follow(((None, objects(*rows)) for rows in crowd), THRESHOLDS):
        assert len(set(ids)) == len(ids) == len(kept.names)
        assert all(ids)
