import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from support.servers import Fault, serve
from support.videos import FPS, HEIGHT, WIDTH, frames_of, make_video

from ssd_lib.detect import video
from ssd_lib.detect.inputs import is_video
from ssd_lib.detect.video import (
    UNKNOWN_FPS,
    frame_count,
    frame_rate,
    frame_size,
    is_cut_short,
    open_video,
    read_frames,
    write_video,
)
from ssd_lib.errors import InputError, StateError

SIZE = (HEIGHT, WIDTH)
HEADLESS = "GUI:                           NONE" in cv2.getBuildInformation()
NOISE = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize(("every", "frames"), [(2, [0, 2, 4, 6]), (3, [0, 3, 6]), (7, [0]), (99, [0])])
def test_the_first_of_every_few_frames_is_read(tmp_path: Path, every: int, frames: list[int]) -> None:
    with open_video(make_video(tmp_path / "a.avi", 7, "MJPG")) as capture:
        greys = [frame.mean() - 19.5 for frame in read_frames(capture, every)]
    assert greys == pytest.approx([8 * i for i in frames], abs=4)


def test_after_a_frame_that_cannot_be_skipped_none_is_tried(tmp_path: Path) -> None:  # each may wait for URL_TIMEOUT_S
    skipped: list[bool] = []
    with open_video(make_video(tmp_path / "a.avi", 3, "MJPG")) as capture:
        counting = SimpleNamespace(read=capture.read, grab=lambda: skipped.append(capture.grab()) or skipped[-1])
        assert len(list(read_frames(counting, 99))) == 1
    assert skipped == [True, True, False]


def test_a_video_is_released_however_its_block_ends(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", 2, "MJPG")
    with open_video(path) as capture:
        assert capture.isOpened()
    assert not capture.isOpened()
    with pytest.raises(KeyboardInterrupt), open_video(path) as capture:
        raise KeyboardInterrupt
    assert not capture.isOpened()


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mp4v"), ("m4v", "mp4v"), ("mov", "mp4v"), ("mkv", "mp4v"),
                                               ("avi", "MJPG"), ("webm", "VP80")])
def test_a_video_says_what_it_is_and_gives_its_frames_in_order(tmp_path: Path, suffix: str, codec: str) -> None:
    path = make_video(tmp_path / f"a.{suffix}", 20, codec)
    assert is_video(path)
    with open_video(path) as capture:
        assert (frame_count(capture), frame_size(capture), frame_rate(capture)) == (20, SIZE, FPS)
        greys = [frame.mean() - 19.5 for frame in read_frames(capture)]
    assert greys == pytest.approx([8 * i for i in range(20)], abs=4)


def test_an_animation_is_a_video_too(tmp_path: Path) -> None:
    images = [Image.new("RGB", (30, 20), (200, i, 0)) for i in (0, 100, 200)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=80)
    assert [frame[5, 5].tolist() for frame in frames_of(tmp_path / "a.gif")] == [
        pytest.approx([200, i, 0], abs=8) for i in (0, 100, 200)]  # red first: RGB


def test_what_is_written_is_read_back_in_number_size_rate_and_colour(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.mp4"
    with write_video(path, 29.97, SIZE) as write:
        for i in range(10):
            write(np.full((*SIZE, 3), (200, 20 * i, 0), np.uint8))
        assert not path.exists()
    with open_video(path) as capture:
        assert (frame_count(capture), frame_size(capture), frame_rate(capture)) == (10, SIZE, 29.97)
        colours = [frame.mean(axis=(0, 1)) for frame in read_frames(capture)]
    assert np.array(colours) == pytest.approx(np.array([(200, 20 * i, 0) for i in range(10)]), abs=6)
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, StateError, GeneratorExit])
def test_a_video_that_is_stopped_holds_what_was_written(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), write_video(tmp_path / "a.mp4", 10, SIZE) as write:
        add(write, [NOISE] * 7, stop)
    assert len(frames_of(tmp_path / "a.mp4")) == 7


def test_a_video_without_frames_is_no_file(tmp_path: Path) -> None:
    with write_video(tmp_path / "a.mp4", 10, SIZE):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_frame_of_another_size_is_scaled(tmp_path: Path) -> None:
    with write_video(tmp_path / "a.mp4", 10, SIZE) as write:
        write(np.zeros((*SIZE, 3), np.uint8))
        write(np.full((300, 200, 3), 255, np.uint8))
    first, second = frames_of(tmp_path / "a.mp4")
    assert first.mean() < 10
    assert second.min() > 200


@pytest.mark.parametrize("content", [b"", b"not a video" * 100])
def test_a_file_that_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"a.mp4: not a video that OpenCV reads"), open_video(tmp_path / "a.mp4"):
        pass


def test_a_camera_that_is_not_there_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StateError, match="97: no camera with this number can be opened"), open_video(97):
        pass
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("codec", "suffix"), [("MJPG", "avi"), ("mp4v", "mkv")])
def test_a_video_that_breaks_off_gives_its_frames_until_there_without_noise(
        tmp_path: Path, codec: str, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = make_video(tmp_path / f"a.{suffix}", 40, codec).read_bytes()
    (tmp_path / f"b.{suffix}").write_bytes(whole[:len(whole) // 2])
    with open_video(tmp_path / f"b.{suffix}") as capture:
        count, frames = frame_count(capture), len(list(read_frames(capture)))
    assert 5 < frames < 35
    assert is_cut_short(frames, count)
    assert capfd.readouterr().err == ""


def test_a_count_that_is_an_estimate_may_err_a_little() -> None:
    assert not is_cut_short(99, 100)
    assert not is_cut_short(985, 1000)
    assert not is_cut_short(9, 10)
    assert not is_cut_short(10, None)
    assert is_cut_short(97, 100)
    assert is_cut_short(8, 10)


def test_a_rate_that_is_not_known_has_a_default() -> None:
    assert frame_rate(cv2.VideoCapture()) == UNKNOWN_FPS
    assert frame_count(cv2.VideoCapture()) is None
    assert [frame_rate(SimpleNamespace(get=lambda _, fps=fps: fps)) for fps in (240, 1000, 90_000)] == [240, 1000, UNKNOWN_FPS]


def test_a_place_where_no_video_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match=r"a.mp4: cannot be written: .*or give another --out"), \
            write_video(tmp_path / "file" / "a.mp4", 10, SIZE):
        pass
    with pytest.raises(StateError, match=r"a.mp4: a video of 1 x 1 px at 10 frames/s cannot be written"), \
            write_video(tmp_path / "a.mp4", 10, (1, 1)):
        pass
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(StateError, match=r"b.mp4: cannot be written: .*or give another --out"), \
            write_video(tmp_path / "b.mp4", 10, SIZE) as write:
        add(write, [NOISE])
    assert {path.name for path in tmp_path.iterdir()} == {"file", "b.mp4"}


def test_a_server_that_stops_to_answer_is_not_waited_for_longer_than_the_limit(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "URL_TIMEOUT_S", 1)
    data = make_video(tmp_path / "a.avi", 40, "MJPG").read_bytes()
    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server, \
            pytest.raises(InputError, match="no video can be opened at this URL within 1 s"), \
            open_video(f"http://127.0.0.1:{server.getsockname()[1]}/a.avi"):
        pass
    with serve({"/a.avi": data}, faults=[Fault(stall_after=len(data) // 2)]) as server, \
            open_video(f"{server.url}/a.avi") as capture:
        assert 0 < len(list(read_frames(capture))) < 40
    assert time.monotonic() - started < 15  # FFmpeg's own limit is 30 s


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_said_and_what_was_there_stays(tmp_path: Path) -> None:
    import resource

    (tmp_path / "a.mp4").write_bytes(b"earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(StateError, match=r"a.mp4: \d+ of 70 frames could be written"), \
                write_video(tmp_path / "a.mp4", 10, SIZE) as write:
            add(write, [np.roll(NOISE, i, axis=0) for i in range(70)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "a.mp4").read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(not HEADLESS, reason="this OpenCV has windows")
def test_an_opencv_without_windows_says_what_to_install() -> None:
    with pytest.raises(StateError, match=r"--show: this OpenCV has no windows; .*pip install opencv-python`, or leave out "
                                         r"--show"):
        video.open_window()


@pytest.mark.parametrize(("key", "continues"), [(-1, True), (ord(" "), True), (ord("q"), False), (27, False)])
def test_q_and_esc_quit_and_other_keys_continue(monkeypatch: pytest.MonkeyPatch, key: int, continues: bool) -> None:
    shown: list[np.ndarray] = []
    waited: list[int] = []
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))  # no window can be opened in a test
    monkeypatch.setattr(cv2, "waitKey", lambda wait_ms: waited.append(wait_ms) or key)
    assert video.show_image(np.full((2, 2, 3), (255, 0, 0), np.uint8), wait_ms=7) is continues
    assert waited == [7]
    assert shown[0][0, 0].tolist() == [0, 0, 255]  # OpenCV wants blue first


def add(write: Callable[[np.ndarray], None], frames: list[np.ndarray], stop: type[BaseException] | None = None) -> None:
    """Write the frames; then something stops the writer."""
    for frame in frames:
        write(frame)
    if stop:
        raise stop
