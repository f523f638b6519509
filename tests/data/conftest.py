"""A small dataset: images and data/fixed."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.project import write_fixed

IMAGES = 6


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """Return a folder with fixed/train.json and its images; one image has no objects, another one a crowd."""
    rows, images = [], []
    for i in range(IMAGES):
        height, width = 80 + 10 * i, 120
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), pixels)
        images.append({"id": 10 * i + 3, "file_name": f"{i}.png", "width": width, "height": height})
        for k in range(i):
            rows.append({"id": 100 * i + k, "image_id": 10 * i + 3, "category_id": 1 + k % 2, "iscrowd": int(k == 4),
                         "bbox": [10 * k, 5 * k, 30, 40], "area": 1200})
    tree = {"images": images, "annotations": rows[::-1],
            "categories": [{"id": 1, "name": "cat", "source_id": 17}, {"id": 2, "name": "dog", "source_id": 18}]}
    write_fixed(tmp_path / "fixed", "train", tree)
    return tmp_path


@pytest.fixture
def path_of(small_set: Path) -> Callable[[str], Path]:
    """Return the function from the name of an image to its path."""
    return small_set.joinpath
