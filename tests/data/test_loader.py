"""Order of the images: it depends only on seed and position. Loader processes that fail end the loading with one message."""

import os
import resource
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.shared_memory import REFUSED, mount_shared_memory

from ssd_lib.data import loader
from ssd_lib.data.dataset import Batch, Sample
from ssd_lib.data.loader import (
    batches_from,
    epoch_batches,
    evaluation_batches,
    load_batches,
    steps_per_epoch,
    warn_of_small_shared_memory,
)
from ssd_lib.errors import InputError, StateError

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


class _Samples:
    """Samples of 64 px with `index` objects, from the third on after a call of `fail`."""

    def __init__(self, fail: Callable[[], Any]) -> None:
        self.fail = fail

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index = key[1]
        if index >= 2:
            self.fail()
        pixels = np.random.default_rng(index).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        return Sample(pixels, np.full((index, 4), 0.5, dtype=np.float32), np.ones(index, dtype=np.int64), index)


def _load(fail: Callable[[], Any], workers: int, images: int = 4, batch_size: int = 1) -> list[Batch]:
    return list(load_batches(_Samples(fail), evaluation_batches(images, batch_size), workers))  # type: ignore[arg-type]


def _say(kind: type[Exception]) -> None:
    raise kind("a.jpg: wrong. Correct it.")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("fail", "kind", "message"), [
    (lambda: np.empty(1 << 55), StateError, r"^memory ran out while a batch was loaded \(.*allocate.*\)\. Set runtime.workers"),
    (lambda: torch.empty(1 << 50), StateError, r"^memory ran out while a batch was loaded \(.*enforce fail.*\)\. Set"),
    (partial(_say, InputError), InputError, r"^a\.jpg: wrong\. Correct it\.$"),
    (partial(_say, StateError), StateError, r"^a\.jpg: wrong\. Correct it\.$"),
    (partial(_say, ZeroDivisionError), ZeroDivisionError, "a.jpg")], ids=["NumPy", "torch", "input", "state", "bug"])
def test_an_error_in_a_loader_process_is_one_line_and_a_bug_stays_one(workers: int, fail: Callable[[], Any],
                                                                    kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        _load(fail, workers)
    assert len(str(caught.value).splitlines()) == 1 or kind is ZeroDivisionError


def _ended(function: Callable[[], Any], prepare: Callable[[], Any]) -> int | None:
    """Call both in a fork of this process; return its exit code, None if it did not end."""
    def run() -> None:
        prepare()
        function()
    process = get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    process.kill()
    process.join()
    if process.exitcode == REFUSED:
        pytest.skip("this system lets no process mount a file system of its own")
    return process.exitcode


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a file system")
@pytest.mark.parametrize("reserve", [0, 1 << 20], ids=["found full", "known to be full"])
def test_batches_are_the_same_where_shared_memory_is_full(reserve: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "RESERVE_BYTES", reserve)
    monkeypatch.setattr(loader, "free_bytes", loader.free_bytes if reserve else lambda _: 1 << 40)
    expected = _load(int, workers=0, images=60, batch_size=12)

    def check() -> None:
        found = _load(int, workers=2, images=60, batch_size=12)
        same = [torch.equal(a, b) and a.stride() == b.stride() for one, other in zip(expected, found, strict=True)
                for a, b in zip(one, other, strict=True)]
        assert all(same)
        assert not list(Path("/dev/shm").glob("torch_*")), "files are left"
    assert _ended(check, partial(mount_shared_memory, "180k")) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="sets a limit of POSIX")
def test_too_many_open_files_end_the_loading_instead_of_stopping_it_for_ever() -> None:
    def check() -> None:
        kept = []
        with pytest.raises(StateError, match=r"Set runtime\.workers lower|set runtime\.workers lower"):
            kept += _load(int, workers=1, images=200)  # each batch keeps its files open

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, 4096))
    assert _ended(check, limit) == 0


@pytest.mark.parametrize(("workers", "batch_bytes", "is_told"), [
    (1, 1 << 10, False), (8, 1 << 50, True), (1, 1 << 50, True), (0, 1 << 50, False)])
def test_a_small_shared_memory_is_told_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int,
                                                       batch_bytes: int, is_told: bool) -> None:
    warn_of_small_shared_memory(workers, batch_bytes, tmp_path)
    warn_of_small_shared_memory(workers, batch_bytes, tmp_path / "none")
    assert [f"{tmp_path} has " in text and "--shm-size" in text for text in caplog.messages] == [True] * is_told
