import cv2
import numpy as np
import pytest

from ssd_lib.detect import window
from ssd_lib.errors import StateError

HEADLESS = "GUI:                           NONE" in cv2.getBuildInformation()


@pytest.mark.skipif(not HEADLESS, reason="this OpenCV has windows")
def test_an_opencv_without_windows_says_what_to_install() -> None:
    with pytest.raises(StateError, match=r"--show: this OpenCV has no windows; .*pip install opencv-python`, or leave"):
        window.open_window()


@pytest.mark.parametrize(("key", "goes_on"), [(-1, True), (ord(" "), True), (ord("q"), False), (27, False)])
def test_q_and_esc_end_and_other_keys_go_on(monkeypatch: pytest.MonkeyPatch, key: int, goes_on: bool) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: shown.append(picture))  # no window can be opened in a test
    monkeypatch.setattr(cv2, "waitKey", lambda _: key)
    assert window.show_picture(np.full((2, 2, 3), (255, 0, 0), np.uint8), wait_ms=1) is goes_on
    assert shown[0][0, 0].tolist() == [0, 0, 255]  # blue first, as OpenCV has it
