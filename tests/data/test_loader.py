"""Order of the images: it depends only on seed and position."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.data.loader import batches_from, epoch_batches, evaluation_batches, steps_per_epoch

sizes = st.integers(1, 60)
batch_sizes = st.integers(2, 16)


@given(sizes, batch_sizes, st.integers(0, 9))
def test_every_image_is_in_every_epoch_and_every_batch_is_full(images: int, batch_size: int, epoch: int) -> None:
    batches = epoch_batches(np.ones(images), batch_size, seed=1, epoch=epoch)
    assert batches.shape == (steps_per_epoch(np.ones(images), batch_size), batch_size)
    assert set(batches.flatten()) == set(range(images))


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=40), st.integers(0, 9))
def test_an_epoch_uses_an_image_as_often_as_its_factor_says(factors: list[float], epoch: int) -> None:
    expected = np.array(factors)
    total = max(1, round(expected.sum()))
    expected *= total / expected.sum()
    counts = np.bincount(epoch_batches(np.array(factors), 1, 1, epoch).ravel(), minlength=len(factors))
    assert counts.sum() == total
    assert (np.abs(counts - expected) < 1 + 1e-9).all()


def test_over_many_epochs_the_mean_number_of_uses_is_the_factor() -> None:
    factors = np.array([0.25, 1.0, 2.5, 0.5, 1.75])
    counts = sum(np.bincount(epoch_batches(factors, 1, 1, epoch).ravel(), minlength=5) for epoch in range(2000))
    assert np.allclose(counts / 2000, factors, atol=0.05)


def test_an_image_that_an_epoch_uses_again_has_another_key() -> None:
    keys = [key for batch in batches_from(np.array([1.0, 3.0]), 4, 1, 0, 0, epochs=2) for key in batch]
    assert sorted(keys[:4]) == [(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 1, 2)]
    assert len(set(keys)) == len(keys)


def test_epochs_and_seeds_have_different_orders() -> None:
    first, second, other_seed = (epoch_batches(np.ones(100), 10, seed, epoch) for seed, epoch in ((1, 0), (1, 1), (2, 0)))
    assert (first != second).any()
    assert (first != other_seed).any()
    assert (first == epoch_batches(np.ones(100), 10, 1, 0)).all()


@given(sizes, batch_sizes, st.data())
def test_a_resumed_order_is_the_rest_of_the_whole_order(images: int, batch_size: int, data: st.DataObject) -> None:
    steps = steps_per_epoch(np.ones(images), batch_size)
    epoch, step = data.draw(st.integers(0, 2)), data.draw(st.integers(0, steps))
    whole = list(batches_from(np.ones(images), batch_size, 7, 0, 0, epochs=3))
    assert list(batches_from(np.ones(images), batch_size, 7, epoch, step, epochs=3)) == whole[epoch * steps + step:]


@given(sizes, st.sampled_from([1, 2, 4]))
def test_processes_share_the_batches_of_a_single_process(images: int, processes: int) -> None:
    alone = list(batches_from(np.ones(images), 8, 3, 0, 0, epochs=2))
    shares = [list(batches_from(np.ones(images), 8, 3, 0, 0, 2, rank, processes)) for rank in range(processes)]
    assert [[key for part in parts for key in part] for parts in zip(*shares, strict=True)] == alone


@given(sizes, batch_sizes, st.sampled_from([1, 2, 3]))
def test_evaluation_uses_every_image_once(images: int, batch_size: int, processes: int) -> None:
    shares = [evaluation_batches(images, batch_size, rank, processes) for rank in range(processes)]
    keys = [key for batches in shares for batch in batches for key in batch]
    assert sorted(keys) == [(0, index) for index in range(images)]


def test_a_dataset_smaller_than_a_batch_fills_it() -> None:
    assert np.bincount(epoch_batches(np.ones(3), 8, 0, 0)[0]).sum() == 8
