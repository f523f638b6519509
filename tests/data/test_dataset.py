"""Dataset, samples and batches: values, padding, and the same batches with any number of workers."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import Batch, DetectionDataset, collate
from ssd_lib.data.loader import batches_from, evaluation_batches, load_batches
from ssd_lib.errors import InputError, StateError


def _dataset(folder: Path, preset: str = "ssd", seed: int = 1) -> DetectionDataset:
    return DetectionDataset(load_fixed("train", folder / "fixed"), folder.joinpath, build_transform(preset, 64), seed)


def _loaded(dataset: DetectionDataset, workers: int, epoch: int = 0, step: int = 0) -> list[Batch]:
    return list(load_batches(dataset, batches_from(np.ones(len(dataset)), 2, 1, epoch, step, epochs=2), workers))


def test_boxes_are_fractions_of_the_image(small_set: Path) -> None:
    sample = _dataset(small_set, "none")[0, 2]
    assert sample.image.shape == (64, 64, 3)
    assert sample.image.dtype == np.uint8
    expected = [[10 / 120, 5 / 100, 40 / 120, 45 / 100], [0, 0, 30 / 120, 40 / 100]]
    np.testing.assert_allclose(sample.boxes, expected, atol=1e-6)
    assert sample.labels.tolist() == [2, 1]  # in the order of the file


def test_a_batch_is_padded_and_separates_crowds(small_set: Path) -> None:
    dataset = _dataset(small_set, "none")
    batch = collate([dataset[0, 0], dataset[0, 5]])
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.labels.tolist() == [[0, 0, 0, 0], [2, 1, 2, 1]]
    assert batch.crowd_boxes.shape == (2, 1, 4)
    assert batch.crowd_boxes[0].count_nonzero() == 0
    assert batch.indices.tolist() == [0, 5]


def test_images_without_objects_make_a_batch(small_set: Path) -> None:
    dataset = _dataset(small_set)
    batch = collate([dataset[0, 0], dataset[1, 0]])
    assert batch.boxes.shape == (2, 0, 4)
    assert batch.labels.shape == (2, 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_with_any_number_of_workers(small_set: Path, workers: int) -> None:
    alone, shared = _loaded(_dataset(small_set), 0), _loaded(_dataset(small_set), workers)
    assert len(alone) == len(shared) == 6
    assert all(torch.equal(x, y) for a, b in zip(alone, shared, strict=True) for x, y in zip(a, b, strict=True))


def test_a_resumed_run_loads_the_remaining_batches(small_set: Path) -> None:
    whole, rest = _loaded(_dataset(small_set), 0), _loaded(_dataset(small_set), 2, epoch=1, step=1)
    assert len(rest) == 2
    assert all(torch.equal(x, y) for a, b in zip(whole[4:], rest, strict=True) for x, y in zip(a, b, strict=True))


def test_a_sample_depends_on_its_key_alone(small_set: Path) -> None:
    dataset = _dataset(small_set)
    first = dataset[3, 4]
    random.seed(99)
    np.random.default_rng(5).random()
    _ = dataset[7, 2]
    assert np.array_equal(first.image, dataset[3, 4].image)
    assert not np.array_equal(first.image, dataset[4, 4].image)
    assert not np.array_equal(first.image, _dataset(small_set, seed=2)[3, 4].image)


def test_loading_does_not_change_torch_s_generator(small_set: Path) -> None:
    dataset = _dataset(small_set)
    before = torch.random.get_rng_state()
    list(load_batches(dataset, evaluation_batches(len(dataset), 4), 0))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named(small_set: Path, workers: int) -> None:
    (small_set / "4.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"4\.png: not an image") as caught:
        _loaded(_dataset(small_set), workers)
    assert "Traceback" not in str(caught.value)


def test_a_missing_split_names_the_stage_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="dvc repro fix_annotations"):
        load_fixed("train", tmp_path)


def test_fixed_annotations_are_arrays_in_the_order_of_the_images(small_set: Path, path_of: Callable[[str], Path]) -> None:
    fixed = load_fixed("train", small_set / "fixed")
    assert fixed.box_offsets.tolist() == [0, 0, 1, 3, 6, 10, 15]
    assert fixed.class_names == ("cat", "dog")
    assert fixed.source_ids == (17, 18)
    assert [path_of(fixed.file_name(i)).is_file() for i in range(len(fixed))] == [True] * 6
    assert fixed.is_crowd.sum() == 1
