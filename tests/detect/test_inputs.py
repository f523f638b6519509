import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ssd_lib.detect.inputs import STDIN, drawing_paths, find_sources, is_video, name_of, read_input
from ssd_lib.errors import InputError
from ssd_lib.evaluate.drawing import write_image

IMAGE = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)


@pytest.fixture
def holiday(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in the current one: two images, two videos, and a text file."""
    monkeypatch.chdir(tmp_path)
    folder = Path("holiday")
    for name in ("b.JPG", "a.png", "deeper/a.png", "c.mp4", "d.gif", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))


def test_a_folder_gives_its_images_and_videos_by_name(holiday: Path) -> None:
    (holiday / "folder.png").mkdir()
    assert find_sources(["holiday"]) == [holiday / name for name in ("a.png", "b.JPG", "c.mp4", "d.gif", "deeper/a.png")]


def test_what_several_inputs_name_comes_once(holiday: Path) -> None:
    assert find_sources(["holiday/**/*.png", "holiday/a.png", "holiday/*.png"]) == [holiday / "a.png", holiday / "deeper/a.png"]


def test_a_number_is_a_camera_and_a_dash_is_standard_input(holiday: Path) -> None:
    assert find_sources(["1", "-", "0", "120"]) == [1, STDIN, 0, 120]
    assert [name_of(source) for source in (1, STDIN, holiday / "a.png")] == ["camera1", "-", "holiday/a.png"]


def test_a_number_that_names_a_folder_is_that_folder(holiday: Path) -> None:
    holiday.rename("202")
    assert Path("202/a.png") in find_sources(["202"])


@pytest.mark.parametrize("name", ["2023", "99999999999999999999", "²", "٣"])
def test_a_long_number_or_one_in_other_digits_is_no_camera(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no image or video found"):
        find_sources([name])


def test_cameras_and_some_files_have_frames(holiday: Path) -> None:
    assert [is_video(source) for source in (0, Path("a.MP4"), Path("a.gif"), Path("a.jpg"), Path("a"), STDIN)] == [
        True, True, True, False, False, False]


@pytest.mark.parametrize("name", ["fotos", "holiday/*.bmp", "holiday/deeper/b.png"])
def test_an_input_that_names_nothing_is_an_error(holiday: Path, name: str) -> None:
    with pytest.raises(InputError, match=r": no image or video found; an input is a file, a folder or a pattern of "
                                         r"them, the number .*Check the spelling"):
        find_sources(["holiday", name])


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no image or video found; .* a pattern of them \(.*\.avi, .*\.jpg, .*\), the number"):
        find_sources([str(tmp_path)])


def test_drawings_of_one_name_are_numbered_past_names_that_are_taken() -> None:
    sources = [Path("a.png"), Path("b/a.png"), Path("c/a_2.png"), Path("A.jpg"), Path("a.mov"), 3, STDIN]
    assert [path.as_posix() for path in drawing_paths(sources, Path("out")).values()] == [
        "out/a.jpg", "out/a_2.jpg", "out/a_2_2.jpg", "out/A_3.jpg", "out/a.mp4", "out/camera3.mp4", "out/stdin.jpg"]


def test_a_url_is_shown_without_its_password_and_its_drawing_is_named_after_its_path() -> None:
    urls = ["RTSP://me:p@ss@10.0.0.9:554/door/stream%201?token=9", "http://a.org/clip.avi", "https://a.org/?u=a@b",
            "http://a.org/%2e%2e/%2e%2e", "http://:80/"]
    assert find_sources(urls) == urls
    assert all(map(is_video, urls))
    assert [name_of(url) for url in urls] == ["RTSP://10.0.0.9:554/door/stream%201?token=9", *urls[1:]]
    assert [path.as_posix() for path in drawing_paths([*urls], Path("out")).values()] == [
        "out/stream_1.mp4", "out/clip.mp4", "out/a.org.mp4", "out/...mp4", "out/stream.mp4"]
    with pytest.raises(InputError, match=r"ftp://a.org/a.mp4: no image or video found; .* an rtsp:// or http:// URL"):
        find_sources(["ftp://a.org/a.mp4"])


@pytest.mark.parametrize("name", ["a.jpg", "clip.mp4"])
def test_a_drawing_never_replaces_an_input(name: str) -> None:
    with pytest.raises(InputError, match=rf"--out holiday: the drawing would replace holiday.{name}, which is an input"):
        drawing_paths([Path("holiday") / name], Path("holiday"))


def test_an_image_is_read_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", IMAGE)
    piped(monkeypatch, (tmp_path / "a.png").read_bytes())
    assert np.array_equal(read_input(STDIN), IMAGE)


@pytest.mark.parametrize("stdin", [None, SimpleNamespace(isatty=lambda: True)])  # none, as under pythonw, and a terminal
def test_nobody_is_waited_for_to_type_an_image(monkeypatch: pytest.MonkeyPatch, stdin: object) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(InputError, match="-: 0 bytes on standard input"):
        read_input(STDIN)


@pytest.mark.parametrize("data", [b"", b"names.txt\n"])
def test_standard_input_without_an_image_is_an_error(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    piped(monkeypatch, data)
    with pytest.raises(InputError, match=rf"-: {len(data)} bytes on standard input: not an image .*`ssd detect - < "
                                         rf"photo.jpg`"):
        read_input(STDIN)
