"""Augmentation by a file of albumentations: boxes that follow, nothing that depends on anything but the seed, clear errors."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
import yaml
from support.architecture import PIPELINE
from support.project import ROOT

from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.data.augment import PRESETS, Transform, augment, build_transform
from ssd_lib.data.dataset import DetectionDataset, try_transform
from ssd_lib.data.loader import load_batches
from ssd_lib.errors import InputError
from ssd_lib.params import WORDS_FOR_FILES
from ssd_lib.train.setup import AUGMENTATION_FOLDER

BOX = np.array([[0.2, 0.3, 0.5, 0.6]], dtype=np.float32)
SHIPPED = ROOT / AUGMENTATION_FOLDER / "from-above.yaml"


def _load(folder: Path, *transforms: Any, side: int = 160, kind: str = "yaml") -> Transform:
    path = folder / f"mine.{kind}"
    A.save(A.Compose(transforms), path, data_format=kind)
    return build_transform(str(path), side)


def _image(boxes: np.ndarray) -> np.ndarray:
    """Return an image of white objects on black."""
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in np.rint(boxes * (300, 200, 300, 200)).astype(int):
        image[y1:y2, x1:x2] = 255
    return image


@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_boxes_follow_their_pixels(tmp_path: Path, kind: str) -> None:
    transform = _load(tmp_path, A.D4(p=1), A.RandomCrop(150, 150), A.Affine(scale=(0.8, 1.2), rotate=(-10, 10), p=1), kind=kind)
    seen = 0
    for index in range(40):
        image, boxes, _ = augment(transform, _image(BOX), BOX, np.array([1]), (1, 0, index))
        assert image.shape == (160, 160, 3)
        if len(boxes) and (boxes > 0.01).all() and (boxes < 0.99).all():
            rows, columns = np.nonzero(image[..., 0] > 128)
            np.testing.assert_allclose(boxes[0] * 160, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=12)
            seen += 1
    assert seen > 10


def test_objects_go_with_their_centre_and_crowds_stay_while_they_are_visible(tmp_path: Path) -> None:
    boxes = np.array([[0.3, 0, 0.8, 1], [0.4, 0, 0.8, 1], [0.4, 0, 0.8, 1], [0.6, 0, 0.8, 1]], dtype=np.float32)
    left_half = _load(tmp_path, A.Crop(0, 0, 150, 200), side=64)
    _, found, labels = augment(left_half, _image(BOX), boxes, np.array([1, 2, -1, -1]), (1,))
    np.testing.assert_allclose(found, [[0.8, 0, 1, 1]], atol=1e-6)
    assert labels.tolist() == [-1]
    _, found, labels = augment(left_half, _image(BOX), boxes - (0.1, 0, 0.1, 0), np.array([1, 2, -1, -1]), (1,))
    assert labels.tolist() == [1, -1]
    assert labels.dtype == np.int64
    assert found.dtype == np.float32


def test_a_sample_depends_on_its_seed_alone() -> None:
    transform = build_transform(str(SHIPPED), 64)
    image = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    first = [augment(transform, image, BOX, np.array([1]), (1, 0, i)) for i in range(20)]
    np.random.seed(5)  # the state that must not matter
    random.seed(5)
    again = [augment(transform, image, BOX, np.array([1]), (1, 0, i)) for i in reversed(range(20))][::-1]
    assert all(np.array_equal(one, other) for pair in zip(first, again, strict=True) for one, other in zip(*pair, strict=True))
    assert len({sample[0].tobytes() for sample in first}) == 20


def test_the_number_of_loader_processes_changes_nothing(small_set: Path, path_of: Callable[[str], Path]) -> None:
    dataset = DetectionDataset(load_fixed("train", small_set / "fixed"), path_of, build_transform(str(SHIPPED), 64), seed=3)
    keys = [[(1, 0, 0), (1, 5, 0)], [(1, 4, 0), (1, 4, 1)]]
    for one, other in zip(load_batches(dataset, keys, 0), load_batches(dataset, keys, 2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_trial_says_what_remains(small_set: Path, path_of: Callable[[str], Path]) -> None:
    def tried(transform: Transform) -> str:
        return try_transform(DetectionDataset(load_fixed("train", small_set / "fixed"), path_of, transform))
    assert "100% of the objects remain" in tried(_load(small_set, A.HorizontalFlip()))
    with pytest.raises(InputError, match=r"0\.png: train\.augmentation fails on an image of 120 x 80 px: CropSizeError"):
        tried(_load(small_set, A.RandomCrop(100, 100)))
    with pytest.raises(InputError, match="loses all"):
        tried(_load(small_set, A.Crop(100, 70, 102, 72)))


class _Global(A.ImageOnlyTransform):
    """Draws from a generator of its own."""

    def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
        img[0, 0] = random.randrange(256)
        return img


def test_a_trial_finds_what_a_seed_does_not_determine(small_set: Path, path_of: Callable[[str], Path]) -> None:
    pipeline = A.Compose([A.HorizontalFlip(), _Global(p=1)], bbox_params=A.BboxParams("albumentations"),
                         keypoint_params=A.KeypointParams("xy", remove_invisible=False))
    transform = build_transform("none", 64)._replace(of_file=pipeline)
    with pytest.raises(InputError, match="gives another result when it is repeated"):
        try_transform(DetectionDataset(load_fixed("train", small_set / "fixed"), path_of, transform))


@pytest.mark.parametrize(("transform", "fault"), [
    (A.Normalize(), "8 bits and three channels, and gives float32"),
    (A.ToGray(num_output_channels=1, p=1), r"gives uint8 of shape \(200, 300\)"),
    (A.pytorch.ToTensorV2(), "ToTensorV2 does not move boxes with the pixels"),
    (A.OverlayElements(p=1), "OverlayElements does not move boxes"),
    (A.Lambda(image=np.abs, name="mine"), "Lambda is code"),
])
def test_transforms_that_cannot_be_used_are_named(tmp_path: Path, transform: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        augment(_load(tmp_path, transform), _image(BOX), BOX, np.array([1]), (1,))


@pytest.mark.parametrize("name", ["PadIfNeeded", "CoarseDropout", "GridDropout", "RandomSizedBBoxSafeCrop", "ElasticTransform"])
def test_what_albumentations_writes_is_read(tmp_path: Path, name: str) -> None:
    """It writes arguments of base classes, too, and warns of them when it reads them."""
    sizes = {"PadIfNeeded": (400, 400), "RandomSizedBBoxSafeCrop": (100, 100)}.get(name, ())
    transform = _load(tmp_path, A.Sequential([getattr(A, name)(*sizes, p=1)], p=1))
    assert name in repr(transform.of_file)
    for boxes in (BOX, BOX[:0]):
        sample, moved, labels = augment(transform, _image(BOX), boxes, np.ones(len(boxes), dtype=np.int64), (1,))
        assert (sample.shape, sample.dtype) == ((transform.side, transform.side, 3), np.uint8)
        assert sample.any(), "the image is not lost"
        assert len(moved) == len(labels) <= len(boxes)
        assert ((moved >= 0) & (moved <= 1)).all()


@pytest.mark.parametrize(("text", "fault"), [
    ("{a: [", "not YAML"),
    ("\0", "not YAML"),
    ("a: !!python/object:os.system x", "not YAML"),
    ("[1, 2]", "the key 'transform' is missing"),
    ("transform: {__class_fullname__: Compose, transforms: [3]}", "found 3 in place of a transform"),
    ("transform: &a {__class_fullname__: Compose, transforms: [*a]}", "found None in place of a transform"),
    ("transform: {__class_fullname__: HorizontalFlipp, p: 1}", "'HorizontalFlipp' is not known, but 'HorizontalFlip' is"),
    ("transform: {__class_fullname__: HorizontalFlip, p: 1, colour: red}", "HorizontalFlip has no argument 'colour'"),
    ("transform: {__class_fullname__: HorizontalFlip, p: 7}", "less than or equal to 1"),
    ("transform: {__class_fullname__: Old, p: 1}\n__version__: 1.4.0", "written by albumentations 1.4.0, and 2"),
])
def test_a_file_that_is_no_pipeline_is_one_clear_error(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=fault) as caught:
        build_transform(str(tmp_path / "mine.yaml"), 64)
    assert "mine.yaml" in str(caught.value)


def test_neither_a_preset_nor_a_file_is_an_error_that_names_the_presets() -> None:
    with pytest.raises(InputError, match=r"'ligth', which cannot be read .* allowed are ssd, ssdlite, light, none, or the"):
        build_transform("ligth", 64)
    assert WORDS_FOR_FILES["train.augmentation"] == tuple(PRESETS)


def test_the_train_stage_depends_on_the_folder_of_these_files() -> None:
    assert AUGMENTATION_FOLDER in PIPELINE["train"]["deps"]
    for path in (ROOT / AUGMENTATION_FOLDER).iterdir():
        assert yaml.safe_load(path.read_text())["__version__"] == A.__version__
        build_transform(str(path), 64)
