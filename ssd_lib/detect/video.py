"""Read frames from a video or a camera, write them to a video file, and show images in a window.

One frame is in memory at a time.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's messages do not name the file; ours do

import cv2
import numpy as np

from ssd_lib.detect.inputs import Source, name_of
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import why_unreadable

UNKNOWN_FPS = 25.0  # for a camera or a file without a frame rate
MAX_FPS = 1000.0  # some files mark an unknown rate by a number above this one
ESTIMATE_SHARE = 0.02  # some formats give the number of frames only as length times rate
URL_TIMEOUT_S = 10  # to open a URL, and for each frame
WINDOW_TITLE = "ssd detect: q quits"
QUIT_KEYS = (ord("q"), 27)  # 27 is Esc


@contextmanager
def open_video(source: Source) -> Iterator[cv2.VideoCapture]:
    """Open a video file, a camera or a URL; its frames are upright if the file holds their orientation.

    Raises:
        InputError: the file, or what the URL gives, is not a video that OpenCV reads.
        StateError: the camera cannot be opened.
    """
    if isinstance(source, Path) and (reason := why_unreadable(source)):  # OpenCV would wait for a pipe
        raise InputError(f"{name_of(source)}: {reason}; an image or a video file is needed. Check the path.")
    capture = _open_url(source) if isinstance(source, str) else cv2.VideoCapture(
        source if isinstance(source, int) else str(source))
    try:
        if not capture.isOpened() and isinstance(source, int):
            raise StateError(f"{source}: no camera with this number can be opened; the first is 0. Check that it is connected "
                             "and not in use by another program.")
        if not capture.isOpened() and isinstance(source, str):
            raise InputError(f"{name_of(source)}: no video can be opened at this URL within {URL_TIMEOUT_S} s. Check the "
                             "address, that its server runs, and that another player plays it.")
        if not capture.isOpened():
            raise InputError(f"{name_of(source)}: not a video that OpenCV reads. Check that another player plays it.")
        yield capture
    finally:
        capture.release()


def read_frames(capture: cv2.VideoCapture, every: int = 1) -> Iterator[np.ndarray]:
    """Yield the first of every `every` frames, (H, W, 3) uint8 RGB, up to the end or to the first that cannot be decoded."""
    while True:
        is_decoded, frame = capture.read()
        if not is_decoded:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        if not all(capture.grab() for _ in range(every - 1)):
            return


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Return the frames per second of the file or the camera, or `UNKNOWN_FPS`."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps <= MAX_FPS else UNKNOWN_FPS


def frame_size(capture: cv2.VideoCapture) -> tuple[int, int]:
    """Return (height, width) of the upright frames."""
    return int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))


def frame_count(capture: cv2.VideoCapture) -> int | None:
    """Return the number of frames in the header of the file; None if it has none, and for a camera."""
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    return count if count > 0 else None


def is_cut_short(frames: int, count: int | None) -> bool:
    """Return whether fewer frames were decoded than the file claims, by more than the error of an estimate."""
    return count is not None and frames < count - max(1, ESTIMATE_SHARE * count)


@contextmanager
def write_video(path: Path, fps: float, size: tuple[int, int]) -> Iterator[Callable[[np.ndarray], None]]:
    """Give a function that adds an RGB frame to an MPEG-4 file; the file appears as `path` when the block ends.

    Guarantees: the file plays and holds the frames added so far even if the block ends with an exception; if the process is
    killed, `path` is unchanged. Frames of another size are scaled. The encoder drops the last line of an odd side.

    Args:
        path: an .mp4 file.
        fps: frames per second.
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


def open_window() -> None:
    """Open the window for `show_image`.

    Raises:
        StateError: OpenCV is built without windows.
    """
    try:
        cv2.namedWindow(WINDOW_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    except cv2.error as error:
        raise StateError("--show: this OpenCV has no windows; opencv-python-headless is built without them, opencv-python "
                         "has them. `pip uninstall opencv-python-headless && pip install opencv-python`, or leave out "
                         "--show.") from error


def show_image(image: np.ndarray, wait_ms: int) -> bool:
    """Show an RGB image, wait for a key, and return whether to continue: False after q or Esc.

    Args:
        image: (H, W, 3) uint8.
        wait_ms: how long to wait for a key; 0 waits without limit.
    """
    cv2.imshow(WINDOW_TITLE, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return cv2.waitKey(wait_ms) not in QUIT_KEYS


def _open_url(url: str) -> cv2.VideoCapture:
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * URL_TIMEOUT_S, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * URL_TIMEOUT_S]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)


def _open_writer(temporary: Path, path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size[::-1])
    if not writer.isOpened():
        raise StateError(f"{path}: a video of {size[1]} x {size[0]} px at {fps:g} frames/s cannot be written; that needs a "
                         "writable folder, sides of 2 px or more, and OpenCV with FFmpeg. Give another --out.")
    return writer


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(f"{path}: cannot be written: {error.strerror}. Check the permissions, or give another --out.")


def _publish(temporary: Path, path: Path, written: int) -> None:
    """Rename a finished video if all its frames are in it: OpenCV does not report a full disk."""
    try:
        if not written:
            return
        found = int(cv2.VideoCapture(str(temporary)).get(cv2.CAP_PROP_FRAME_COUNT))
        if found < written:
            raise StateError(f"{path}: {max(0, found)} of {written} frames could be written; an earlier file is unchanged. "
                             "Free some disk space, then run the same command again.")
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
