"""Tiles cover the image; what a border cuts becomes one object again, and neighbours stay two."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ssd_lib.boxes.selection import Postprocess, Selected, hard_nms
from ssd_lib.boxes.tiles import detect_in_tiles, merge_tiles, tile_windows

WINDOWS = np.array([[0, 0, 180, 100], [0, 0, 100, 100], [80, 0, 180, 100]])  # an image and its two tiles
POSTPROCESS = Postprocess(0.1, 0.5)


def merged(*parts: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return rows (label, score, box) of `merge_tiles`; the parts are rows of each of WINDOWS, all boxes in image pixels."""
    found = []
    for rows, (x, y, right, bottom) in zip(parts, WINDOWS.tolist(), strict=True):
        table = np.array(rows, np.float32).reshape(-1, 6)
        sides = np.array([right - x, bottom - y] * 2, np.float32)
        boxes = (table[:, 2:] - [x, y, x, y]).astype(np.float32) / sides
        found.append(Selected(boxes, table[:, 0].astype(np.int64), table[:, 1]))
    boxes, labels, scores = merge_tiles(found, WINDOWS, POSTPROCESS)
    return [(int(label), round(float(score), 3), *(box * (180, 100, 180, 100)).round(1).tolist())
            for label, score, box in zip(labels, scores, boxes, strict=True)]


@example(20_000, 20_000, "auto")
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 64) | st.just("auto"))
def test_tiles_cover_the_image_and_lie_in_it(height: int, width: int, tiles: int) -> None:
    whole, *grid = tile_windows((height, width), tiles, 300).tolist()
    assert whole == [0, 0, width, height]
    assert len(grid) != 1
    assert len(grid) <= (64 if tiles == "auto" else tiles)
    assert all(0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height for x1, y1, x2, y2 in grid)
    for side, length in ((0, width), (1, height)):
        spans = sorted({(tile[side], tile[side + 2]) for tile in grid} or {(0, length)})
        assert (spans[0][0], max(end for _, end in spans)) == (0, length)
        assert all(after[0] <= before[1] for before, after in pairwise(spans))


def test_neighbours_share_a_fifth_of_a_tile() -> None:
    assert tile_windows((180, 90), 2, 300).tolist() == [[0, 0, 90, 180], [0, 0, 90, 100], [0, 80, 90, 180]]


@pytest.mark.parametrize(("size", "tiles", "columns", "rows"), [
    ((3000, 4000), 4, 2, 2), ((100, 800), 4, 4, 1), ((800, 100), 4, 1, 4), ((500, 500), 5, 2, 2), ((480, 854), 6, 3, 2),
    ((640, 640), "auto", 1, 1), ((960, 1300), "auto", 2, 2), ((300, 300), "auto", 1, 1), ((1080, 1920), "auto", 3, 2),
])
def test_tiles_are_as_square_as_their_number_allows(size: tuple[int, int], tiles: int, columns: int, rows: int) -> None:
    grid = tile_windows(size, tiles, 320)[1:]
    assert len(grid) == (columns * rows if columns * rows > 1 else 0)
    assert len({tuple(tile) for tile in grid[:, [0, 2]].tolist()} or {0}) == columns


def test_halves_at_a_seam_become_one_box_with_the_better_score() -> None:
    assert merged([], [(1, 0.6, 50, 20, 100, 60)], [(1, 0.8, 80, 21, 130, 61)]) == [(1, 0.8, 50, 20, 130, 61)]
    assert merged([], [(1, 0.6, 50, 20, 98, 60)], [(1, 0.8, 82, 21, 130, 61)]) == [(1, 0.8, 50, 20, 130, 61)], "nearly cut"


def test_a_cut_box_gives_way_to_the_whole_object_and_leaves_its_score() -> None:
    assert merged([], [(1, 0.9, 83, 18, 100, 62)], [(1, 0.4, 85, 20, 120, 60)]) == [(1, 0.9, 85, 20, 120, 60)]
    assert merged([(1, 0.4, 30, 20, 150, 60)], [(1, 0.9, 30, 20, 100, 60)], [(1, 0.3, 80, 20, 150, 60)]) == [
        (1, 0.9, 30, 20, 150, 60)], "what is larger than the overlap is seen in the whole image"


def test_neighbours_at_a_seam_stay_two() -> None:
    rows = [(1, 0.9, 40, 20, 100, 60), (1, 0.8, 81, 65, 130, 95)]
    assert merged([], rows[:1], rows[1:]) == rows
    assert len(merged([], [(1, 0.9, 60, 20, 95, 60)], [(1, 0.8, 96, 20, 130, 60)])) == 2


def test_classes_do_not_touch_each_other() -> None:
    assert len(merged([(3, 0.7, 50, 20, 130, 60)], [(1, 0.6, 50, 20, 100, 60)], [(2, 0.8, 80, 20, 130, 60)])) == 3


def test_a_border_of_the_image_cuts_nothing() -> None:
    """The better box at the left border of the image stays as it is."""
    assert merged([(1, 0.8, 0, 20, 34, 60)], [(1, 0.9, 0, 20, 30, 60)], []) == [(1, 0.9, 0, 20, 30, 60)]


def test_without_tiles_the_detections_are_untouched() -> None:
    found = Selected(np.array([[0, 0, 1, 1], [0, 0, 1, 0.99]], np.float32), np.array([1, 1]), np.array([0.5, 0.4], np.float32))
    assert merge_tiles([found], WINDOWS[:1], POSTPROCESS) is found


def test_where_no_border_cuts_it_is_nms() -> None:
    """All boxes lie in the overlap of the tiles."""
    random = np.random.default_rng(0)
    low = random.uniform((83, 3), (90, 80), (60, 2))
    boxes = np.concatenate([low, low + random.uniform(2, 7, (60, 2))], axis=1).round(1)
    rows = [(int(k), float(s), *box) for k, s, box in zip(random.integers(1, 3, 60), random.random(60), boxes, strict=True)]
    table = np.array(rows)
    kept = hard_nms((table[:, 2:] / 1000).astype(np.float32), table[:, 1].astype(np.float32), table[:, 0].astype(int), 0.5, 99)
    found = merged(rows[:20], rows[20:40], rows[40:])
    assert 20 < len(found) < 60
    assert [row[:2] for row in found] == [(int(table[k, 0]), round(table[k, 1], 3)) for k in kept]


def test_a_box_that_is_dropped_leaves_its_score_to_no_other() -> None:
    """The second overlaps the first and the third by 6 / 10, these two each other by 4 / 12."""
    rows = [(1, 0.9, 83, 20, 91, 60), (1, 0.8, 85, 20, 93, 60), (1, 0.7, 87, 20, 95, 60)]
    assert merged([], rows, []) == [rows[0], rows[2]]


def test_no_more_than_the_best_detections_of_the_image_are_kept() -> None:
    boxes = np.array([(at, 20, at + 9, 30) for at in range(0, 80, 10)], np.float32) / 100
    found = Selected(boxes, np.ones(8, int), np.linspace(0.9, 0.2, 8, dtype=np.float32))
    scores = merge_tiles([found] * 3, WINDOWS, Postprocess(max_detections=5)).scores
    assert len(scores) == 5
    assert scores.min() > 0.79


def bright_spots(images: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A detector: white spots of 3 pixels or more in what the net is shown."""
    scores, boxes = [], []
    for image in images:
        _, _, rows, _ = cv2.connectedComponentsWithStats((image[..., 0] > 200).astype(np.uint8))
        spots = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in rows[1:].tolist() if min(w, h) > 2], np.float32)
        boxes.append(spots.reshape(-1, 4) / len(image))
        scores.append(np.full((len(boxes[-1]), 1), 0.9, np.float32))
    return scores, boxes


def test_small_objects_of_a_large_image_are_found_in_its_tiles_and_large_ones_once() -> None:
    image = np.zeros((600, 900, 3), np.uint8)
    small, on_the_seams, large = [(100, 100, 120, 120), (800, 500, 818, 520)], (440, 290, 460, 310), (300, 350, 620, 580)
    truth = [*small, on_the_seams, large]
    for x1, y1, x2, y2 in truth:
        image[y1:y2, x1:x2] = 255
    whole, tiled = (detect_in_tiles(image, tiles, 100, bright_spots, POSTPROCESS).boxes for tiles in (0, 4))
    assert len(whole) == 1
    assert sorted((tiled * (900, 600, 900, 600)).tolist()) == [pytest.approx(box, abs=9) for box in sorted(truth)]
