"""Read an image file into pixels: one way for training, evaluation, checks and pictures."""

import os
from pathlib import Path

import numpy as np

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # its warnings name no file; errors of ours do

import cv2  # noqa: E402

from ssd_lib.errors import InputError  # noqa: E402

cv2.setNumThreads(0)  # parallelism is by process; OpenCV's own threads would fight for the same cores
READ_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def read_image(path: Path) -> np.ndarray:
    """Decode an image file.

    Boxes refer to the pixels as they are stored, so an EXIF rotation is not applied (COCO's annotations are made so).

    Returns:
        (H, W, 3) uint8, RGB; grayscale becomes three equal channels.

    Raises:
        InputError: the file is missing or is not an image.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}. `dvc repro --force validate` lists every such file.") from error
    image = cv2.imdecode(data, READ_FLAGS) if data.size else None
    if image is None:
        raise InputError(f"{path}: not an image that OpenCV reads. `dvc repro --force validate` lists every such file.")
    return image
