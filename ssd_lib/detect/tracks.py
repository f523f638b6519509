"""Follow the objects of a video from frame to frame: each gets an id, which it keeps while it is seen.

Source: ByteTrack, Zhang et al. 2022, arXiv 2110.06864, algorithm 1: objects with high scores are paired with tracks first, and
those with low scores only with tracks that are left, so that an object that is half covered keeps its id. Simpler here: a
track moves by its smoothed velocity and not by a Kalman filter, and pairs are made greedily, within a class.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import NamedTuple, TypeVar

import numpy as np

from ssd_lib.boxes.selection import ious
from ssd_lib.detect.detector import Objects

LOW_SCORE = 0.1  # an object from here to the threshold of its class is kept if it continues a track
LEAST_IOU, LEAST_IOU_OF_LOW = 0.2, 0.5  # with the place where a track is expected; the second for objects of low scores
MOST_MISSED = 30  # frames in a row without the object before its track ends
SMOOTHING = 0.5  # share of the latest step in the velocity of a track

Frame = TypeVar("Frame")


class Track(NamedTuple):
    """An object that is followed.

    Attributes:
        id: 1 is the first of a video.
        label: of its class.
        box: (4,) xyxy in pixels, where it was last seen.
        velocity: (2,) pixels per frame, of its centre; None until it was seen twice.
        missed: frames since it was last seen.
    """

    id: int
    label: int
    box: np.ndarray
    velocity: np.ndarray | None = None
    missed: int = 0


def follow(frames: Iterable[tuple[Frame, Objects]], thresholds: np.ndarray
           ) -> Iterator[tuple[Frame, Objects, tuple[int, ...]]]:
    """Yield each frame of one video with its objects and their ids.

    Guarantees: all objects that reach the threshold of their class are kept, in their order; of the others only those that
    continue a track. Ids differ within a frame.

    Args:
        frames: frames in order, with objects down to `LOW_SCORE`.
        thresholds: (K,) of each class.
    """
    tracks: list[Track] = []
    last_id = 0
    for frame, found in frames:
        tracks, ids = step(tracks, found, thresholds, last_id)
        last_id = max(last_id, *ids.tolist(), 0)
        yield frame, _take(found, ids > 0), tuple(ids[ids > 0].tolist())


def above(found: Objects, thresholds: np.ndarray) -> Objects:
    """Return the objects that reach the threshold of their class, of (K,)."""
    return _take(found, found.scores >= thresholds[found.labels - 1])


def step(tracks: Sequence[Track], found: Objects, thresholds: np.ndarray, last_id: int) -> tuple[list[Track], np.ndarray]:
    """Continue tracks with the objects of the next frame.

    Args:
        tracks: of the frame before.
        found: objects of this frame, highest score first.
        thresholds: (K,) of each class: objects that reach it may begin a track.
        last_id: the highest id so far.

    Returns:
        The tracks after this frame, and (N,) int64: the id of each object, 0 for one that is dropped.
    """
    is_high = found.scores >= thresholds[found.labels - 1]
    expected = np.array([_expected_box(track) for track in tracks], dtype=np.float64).reshape(-1, 4)
    overlaps = ious(expected, found.boxes.astype(np.float64))
    overlaps[np.array([track.label for track in tracks])[:, None] != found.labels] = 0
    owner = _pair(np.where(is_high, overlaps, 0), found.scores, LEAST_IOU)
    is_left = np.array([track.missed == 0 and number not in owner for number, track in enumerate(tracks)], dtype=bool)
    low = _pair(np.where(is_left[:, None] & ~is_high, overlaps, 0), found.scores, LEAST_IOU_OF_LOW)
    owner = np.where(owner >= 0, owner, low)

    is_new = is_high & (owner < 0)
    ids = np.where(owner >= 0, np.array([*(track.id for track in tracks), 0])[owner], 0)
    ids[is_new] = last_id + 1 + np.arange(is_new.sum())
    after = [_moved(track, found.boxes[owner == number]) for number, track in enumerate(tracks)]
    new = [Track(int(ids[number]), int(found.labels[number]), found.boxes[number]) for number in np.flatnonzero(is_new)]
    return [track for track in after if track.missed <= MOST_MISSED] + new, ids


def _take(found: Objects, kept: np.ndarray) -> Objects:
    return Objects(found.boxes[kept], found.labels[kept], found.scores[kept], tuple(compress(found.names, kept)))


def _expected_box(track: Track) -> np.ndarray:
    """Return where a track would be in the next frame at constant velocity."""
    return track.box if track.velocity is None else track.box + (track.missed + 1) * np.tile(track.velocity, 2)


def _moved(track: Track, boxes: np.ndarray) -> Track:
    """Return the track after a frame in which it has this one box, or none."""
    if not len(boxes):
        return track._replace(missed=track.missed + 1)
    latest = (_centre(boxes[0]) - _centre(track.box)) / (track.missed + 1)
    velocity = latest if track.velocity is None else SMOOTHING * latest + (1 - SMOOTHING) * track.velocity
    return track._replace(box=boxes[0], velocity=velocity, missed=0)


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def _pair(ious: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """Pair tracks and objects greedily, highest IoU times score first.

    Args:
        ious: (T, N); pairs below `least` are not made.
        scores: (N,).

    Returns:
        (N,) int64: the track of each object, -1 without one.
    """
    owner, free = np.full(len(scores), -1), np.ones(len(ious), dtype=bool)
    rows, columns = np.nonzero(ious >= least)
    for pair in np.argsort(-ious[rows, columns] * scores[columns], kind="stable"):
        row, column = rows[pair], columns[pair]
        if free[row] and owner[column] < 0:
            owner[column], free[row] = row, False
    return owner
