"""Frames out of a video or a camera, and into a video file, one at a time: no more than one is held here."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # its complaints name no file; errors of ours do

import cv2
import numpy as np

from ssd_lib.detect.inputs import Source, name_of
from ssd_lib.errors import InputError, StateError

UNKNOWN_FPS = 25.0  # of a camera or a file that does not say
MAX_FPS = 1000.0  # what stands for "not known" in some files is above it
ESTIMATE_SHARE = 0.02  # some formats give the number of frames only as length times rate


@contextmanager
def open_video(source: Source) -> Iterator[cv2.VideoCapture]:
    """Give an open video file or camera; frames are turned upright where a file says how.

    Raises:
        InputError: the file is not a video that OpenCV reads.
        StateError: the camera is not there.
    """
    capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened() and isinstance(source, int):
            raise StateError(f"{source}: no camera of this number can be opened; 0 is the first. Is it plugged in, and does "
                             "another program use it?")
        if not capture.isOpened():
            raise InputError(f"{name_of(source)}: not a video that OpenCV reads. Does another player play it to its end?")
        yield capture
    finally:
        capture.release()


def read_frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """Give the frames, (H, W, 3) uint8 RGB, until there are no more or one cannot be decoded."""
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Frames a second, as the file or the camera says it, or `UNKNOWN_FPS`."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= MAX_FPS else UNKNOWN_FPS


def frame_size(capture: cv2.VideoCapture) -> tuple[int, int]:
    """(height, width) of the upright frames, as the file or the camera says it."""
    return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))


def frame_count(capture: cv2.VideoCapture) -> int | None:
    """How many frames there are, as the file says it; None where it does not, as for a camera."""
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def is_cut_short(frames: int, count: int | None) -> bool:
    """Whether a video gave fewer frames than its file says, by more than an estimate may err."""
    return count is not None and frames < count - max(1, ESTIMATE_SHARE * count)


@contextmanager
def write_video(path: Path, fps: float, size: tuple[int, int]) -> Iterator[Callable[[np.ndarray], None]]:
    """Give a function that adds an RGB frame to an MPEG-4 file, which appears under `path` in the end.

    Guarantees: however the body ends, the file holds the frames that were added and plays; after a kill, `path` is as it was.
    A frame of another size, as some recordings have, is scaled. An odd side loses its last line to the encoder.

    Args:
        path: an .mp4 file.
        fps: frames a second.
        size: (height, width) of the frames.

    Raises:
        StateError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.mp4")
    writer = _open_writer(temporary, path, fps, size)
    written = 0

    def write(frame: np.ndarray) -> None:
        nonlocal written
        fitted = frame if frame.shape[:2] == size else cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)
        writer.write(cv2.cvtColor(fitted, cv2.COLOR_RGB2BGR))
        written += 1

    try:
        yield write
    finally:
        writer.release()
        _publish(temporary, path, written)


def _open_writer(temporary: Path, path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size[::-1])
    if not writer.isOpened():
        temporary.unlink(missing_ok=True)
        raise StateError(f"{path}: a video of {size[1]} x {size[0]} px at {fps:g} frames/s cannot be written; that takes a "
                         "folder that can be written, two pixels a side, and OpenCV with FFmpeg. Name another --out.")
    return writer


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(f"{path}: cannot be written: {error.strerror}. Mend the permissions, or name another --out.")


def _publish(temporary: Path, path: Path, written: int) -> None:
    """Give a finished video its name, if all its frames are in it: OpenCV does not say when a disk is full."""
    try:
        if not written:
            return
        found = int(cv2.VideoCapture(str(temporary)).get(cv2.CAP_PROP_FRAME_COUNT))
        if found < written:
            raise StateError(f"{path}: {max(0, found)} of {written} frames could be written; what was there is untouched. "
                             "Free some disk space, then run the same command again.")
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
