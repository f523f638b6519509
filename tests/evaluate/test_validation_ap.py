"""AP of detections on some images of a split; the images are those of support/trained_project.py."""

from pathlib import Path

import numpy as np
import pytest
from support.trained_project import SIZES, TREE

from ssd_lib.boxes.selection import Selected
from ssd_lib.evaluate.validation_ap import SplitImages, average_precision, split_images


def truth(index: int) -> Selected:
    """Return the objects of an image as detections."""
    rows = [row for row in TREE["annotations"] if row["image_id"] == 900 + index and not row["iscrowd"]]
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    height, width = SIZES[index]
    labels = np.array([row["category_id"] for row in rows], np.int64)
    return Selected(boxes / np.array([width, height] * 2, np.float32), labels, np.full(len(rows), 0.9, np.float32))


def some(limit: int) -> SplitImages:
    images = split_images("val", limit)
    assert images is not None
    return images


@pytest.mark.parametrize(("limit", "indices"), [(1, (0,)), (2, (0, 2)), (3, (0, 1, 2)), (500, (0, 1, 2))])
def test_images_are_taken_at_even_distances(limit: int, indices: tuple[int, ...], project: Path) -> None:
    images = some(limit)
    assert images.indices == indices
    assert images.paths == tuple(Path(f"data/raw/tiny/val/{index}.png") for index in indices)
    assert len(images.fixed) == 3


def test_a_split_that_is_not_on_this_machine_has_no_images(project: Path) -> None:
    assert split_images("train", 3) is None
    Path("data/raw/tiny/val/2.png").unlink()
    assert split_images("val", 3) is None
    assert some(1).indices == (0,)


def test_the_truth_has_an_ap_of_one_whatever_the_other_images_have(project: Path) -> None:
    images = some(3)
    for indices in ((0, 1, 2), (0,), (1,), (1, 2)):
        part = images._replace(indices=indices)
        assert average_precision(part, (truth(index) for index in indices)) == pytest.approx(1)


def test_a_class_that_is_not_found_and_a_box_that_is_shifted_cost_ap(project: Path) -> None:
    images = some(1)
    dog, kite = (Selected(*(column[[row]] for column in truth(0))) for row in (0, 1))
    assert average_precision(images, [dog]) == pytest.approx(0.5)
    assert average_precision(images, [kite._replace(labels=dog.labels)]) == 0
    shifted = dog._replace(boxes=dog.boxes + np.float32([0.1, 0, 0.1, 0]))  # 9.6 of 40 pixels: an IoU of 0.61
    assert average_precision(images, [shifted]) == pytest.approx(0.5 * 3 / 10)


def test_images_without_ground_truth_have_no_ap(project: Path) -> None:
    assert average_precision(some(3)._replace(indices=(2,)), [truth(2)]) is None
