"""A step in micro-batches: the same gradient, in parts, and fewer images at once where the memory of a GPU runs out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_run import set_params
from torch import Tensor, nn

from ssd_lib.data.dataset import Batch
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.params import load_params
from ssd_lib.train.epoch import _parts, train_epoch
from ssd_lib.train.state import TrainState, new_state, restore, snapshot

CPU = torch.device("cpu")
IMAGES = 8
SPEC = NetSpec("mb2-ssd-lite", 64, 0.1, ("red", "blue"), (3, 7))
WITHOUT_NORM = NetSpec("sq-ssd-lite", 64, 1.0, ("red", "blue"), (3, 7))


def _batch(count: int = IMAGES, seed: int = 0) -> Batch:
    """Images with 0 to 2 objects of several sizes, so that parts have different numbers of positives."""
    dice = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=dice)
    corners = torch.rand(count, 2, 2, generator=dice) * 0.5
    labels = torch.arange(2 * count).view(count, 2) % 3
    boxes = torch.cat([corners, corners + 0.1 + torch.rand(count, 2, 2, generator=dice) * 0.4], dim=2)
    return Batch(images, boxes * (labels > 0)[..., None], labels, torch.zeros(count, 0, 4), torch.arange(count))


def _step(net: str, hook: Any = None, **train: Any) -> tuple[TrainState, Tensor]:
    """Make one step; return the state and the losses."""
    set_params(Path.cwd(), epochs=1, ema_decay=0.0, **train)
    params = load_params("train").train
    state = new_state(WITHOUT_NORM if net == WITHOUT_NORM.net else SPEC, params, CPU, torch.float32)
    if net == SPEC.net:
        state.net.extras[0] = nn.Sequential(nn.Dropout(0.5), state.net.extras[0])
    if hook is not None:
        state.net.register_forward_hook(hook)
    result, = train_epoch(state, state.net, [_batch()], 1, params, torch.float32)
    return state, result.losses


def _no_memory_for(images: int) -> Any:
    """A hook of a GPU that has no memory for so many images: it fails after batch norm has updated its statistics."""
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], __: Any) -> None:
        if len(inputs[0]) >= images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return hook


def _same(one: TrainState, other: TrainState) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.net.state_dict().values(), other.net.state_dict().values(), strict=True))


def test_micro_batches_sum_to_the_gradient_of_the_batch(workspace: Path) -> None:
    """Of a net without batch norm; with SGD, whose step is the gradient."""
    (whole, losses), (parts, losses_of_parts) = (
        _step("sq-ssd-lite", optimizer="sgd", lr=0.01, clip_grad_norm=0.0, warmup_epochs=0.0, micro_batch=size)
        for size in ("auto", 3))
    torch.testing.assert_close(losses_of_parts, losses)
    for (name, one), other in zip(whole.net.named_parameters(), parts.net.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6, msg=name)
    assert not _same(whole, parts), "summed in another order"


def test_a_micro_batch_as_large_as_the_batch_changes_no_bit(workspace: Path) -> None:
    assert _same(_step("mb2-ssd-lite", micro_batch=IMAGES)[0], _step("mb2-ssd-lite", micro_batch="auto")[0])


@pytest.mark.parametrize(("count", "images", "sizes"), [
    (8, 0, [8]), (8, 8, [8]), (8, 99, [8]), (8, 3, [3, 3, 2]), (8, 2, [2, 2, 2, 2]), (5, 2, [3, 2]), (3, 2, [3]), (2, 2, [2])])
def test_a_batch_is_cut_into_parts_of_at_least_two_images(count: int, images: int, sizes: list[int]) -> None:
    parts = _parts(_batch(count), images)
    assert [len(part.images) for part in parts] == sizes
    assert torch.equal(torch.cat([part.indices for part in parts]), torch.arange(count))


@pytest.mark.parametrize(("fits", "found"), [(7, 4), (4, 4), (3, 2)])
def test_a_step_that_needs_too_much_memory_begins_again_with_half_the_images(
        workspace: Path, caplog: pytest.LogCaptureFixture, fits: int, found: int) -> None:
    """The same bits as with that number from the start: weights, statistics of batch norm, and what dropout draws."""
    halved, losses = _step("mb2-ssd-lite", _no_memory_for(fits + 1), micro_batch="auto")
    known, same_losses = _step("mb2-ssd-lite", micro_batch=found)
    assert _same(halved, known)
    assert torch.equal(losses, same_losses)
    assert halved.micro_batch == found
    assert f"; from here on {found} at once" in caplog.text
    known.micro_batch = 0
    restore(known, snapshot(halved, SPEC, "f", "d", {}))
    assert known.micro_batch == found


@pytest.mark.parametrize(("fits", "micro_batch"), [(1, "auto"), (3, 4)])
def test_a_given_number_and_two_images_are_not_halved(workspace: Path, fits: int, micro_batch: int | str) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        _step("mb2-ssd-lite", _no_memory_for(fits + 1), micro_batch=micro_batch)
