"""A window that shows pictures while they come, where OpenCV has one."""

import cv2
import numpy as np

from ssd_lib.errors import StateError

TITLE = "detect.py: q ends"
END_KEYS = (ord("q"), 27)  # 27 is Esc


def open_window() -> None:
    """Open the window.

    Raises:
        StateError: OpenCV has no windows.
    """
    try:
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    except cv2.error as error:
        raise StateError("--show: this OpenCV has no windows; opencv-python-headless is built without them, opencv-python "
                         "has them. `pip uninstall opencv-python-headless && pip install opencv-python`, or leave --show "
                         "out.") from error


def show_picture(picture: np.ndarray, wait_ms: int) -> bool:
    """Show an RGB picture, and say whether to go on: not after q or Esc.

    Args:
        picture: (H, W, 3) uint8.
        wait_ms: how long to wait for a key; 0 is until there is one.
    """
    cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return cv2.waitKey(wait_ms) not in END_KEYS
