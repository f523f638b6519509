"""Everything that a step depends on is in the checkpoint or follows from the position; batch norm over several processes."""

from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from support.tiny_run import set_params
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssd_lib.data.dataset import Batch
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.params import TrainParams, load_params
from ssd_lib.train.epoch import train_epoch
from ssd_lib.train.state import SharedBatchNorm, TrainState, new_state, restore, snapshot, with_shared_statistics

CPU = torch.device("cpu")
SPEC = NetSpec("mb2-ssd-lite", 64, 0.1, ("red", "blue"), (3, 7))
IMAGES = 8


def _state_with_dropout(params: TrainParams) -> TrainState:
    state = new_state(SPEC, params, CPU, torch.float32)
    for net in (state.net, state.final_net):
        net.extras[0] = nn.Sequential(nn.Dropout(0.5), net.extras[0])
    return state


def _batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[[0.1, 0.1, 0.6, 0.7]]] * 2)
    return Batch(images, boxes, torch.tensor([[1], [2]]), torch.zeros(2, 0, 4), torch.arange(2))


def _train(state: TrainState, params: TrainParams, until: int) -> None:
    batches = (_batch(step) for step in range(state.step, until))
    steps = train_epoch(state, state.net, batches, 6, params, torch.float32)
    for _ in range(state.step, until):
        next(steps)
    steps.close()


def test_dropout_continues_bit_for_bit(workspace: Path) -> None:
    set_params(workspace, epochs=1)
    params = load_params("train", path=workspace / "params.yaml").train
    calm = _state_with_dropout(params)
    _train(calm, params, until=4)
    stopped, continued = _state_with_dropout(params), _state_with_dropout(params)
    _train(stopped, params, until=2)
    stopped.threads = 3
    torch.rand(17)  # another process has used its generator for other things
    restore(continued, snapshot(stopped, SPEC, "f", "d", {}))
    assert continued.threads == 3
    _train(continued, params, until=4)
    for one, other in ((calm.net, continued.net), (calm.final_net, continued.final_net)):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    _train(stopped, params, until=4)
    undisturbed = torch.cat([p.flatten() for p in stopped.net.parameters()])
    assert torch.equal(undisturbed, torch.cat([p.flatten() for p in calm.net.parameters()]))


def test_the_average_of_a_short_run_is_near_the_net(workspace: Path) -> None:
    """With a decay that would keep 96 % of the first weights and statistics over these steps."""
    set_params(workspace, epochs=1, ema_decay=0.999, warmup_epochs=0.0)
    params = load_params("train", path=workspace / "params.yaml").train
    state = new_state(SPEC, params, CPU, torch.float32)
    first = {key: value.clone() for key, value in state.net.state_dict().items()}
    steps = train_epoch(state, state.net, (_batch(step) for step in range(40)), 40, params, torch.float32)
    assert len(list(steps)) == 40
    for name, value in state.net.named_parameters():
        moved = (value - first[name]).norm()
        assert (state.final_net.get_parameter(name) - value).norm() < 0.5 * moved + 1e-6, name
    for name, value in state.net.named_buffers():
        assert torch.equal(state.final_net.get_buffer(name), value), name


def in_two_processes(folder: Path, work: Callable[[int], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return what `work`, which must be picklable, gives in the first of two processes.

    They start from a fork server: autograd does not work in a fork of a process that has computed gradients.
    """
    processes = [get_context("forkserver").Process(target=_run, args=(folder, work, rank)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return torch.load(folder / "0.pt", weights_only=True)


def _run(folder: Path, work: Callable[[int], dict[str, Tensor]], rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2)
    torch.save(work(rank), folder / f"{rank}.pt")


def _norm(channels: int = 3) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).double()
    nn.init.uniform_(norm.weight, 0.5, 2.0, generator=torch.Generator().manual_seed(1))
    return norm


def _gradients(norm: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return output, gradients and statistics of a layer in which every element has another weight."""
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * x.detach().cos()).sin().sum().backward()
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad, **{name: p.grad for name, p in norm.named_parameters() if p.grad is not None},
            **dict(norm.named_buffers())}


def _gradients_of_a_share(x: Tensor, rank: int) -> dict[str, Tensor]:
    found = _gradients(with_shared_statistics(_norm()), x[:5] if rank == 0 else x[5:])
    for name in ("weight", "bias"):
        dist.all_reduce(found[name])
    return found


def test_output_gradients_and_statistics_are_those_of_the_whole_two_class_batch(tmp_path: Path) -> None:
    """The processes have 5 and 3 images: they count by what they have."""
    x = torch.randn(8, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 3 + 100
    whole = _gradients(_norm(), x)

    part = in_two_processes(tmp_path, partial(_gradients_of_a_share, x))
    for name, value in whole.items():
        torch.testing.assert_close(part[name], value[:5] if name in ("x", "y") else value, rtol=1e-9, atol=1e-9, msg=name)


def _two_class_batch(step: int, rows: slice) -> Batch:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (IMAGES, 3, 64, 64), dtype=torch.uint8, generator=generator)
    corners = torch.rand(IMAGES, 1, 2, generator=generator) * 0.5
    labels = 1 + torch.arange(IMAGES)[:, None] % 2
    whole = Batch(images, torch.cat([corners, corners + 0.4], dim=2), labels, torch.zeros(IMAGES, 0, 4), torch.arange(IMAGES))
    return Batch(*(tensor[rows] for tensor in whole))


def _double(params: TrainParams) -> TrainState:
    """In 64 bits: an untrained net has maps of one cell that hardly vary over eight images. Batch norm divides by that, so that
    a difference in the last bit grows a hundredfold with each step."""
    state = new_state(SPEC, params, CPU, torch.float32)
    state.net.double()
    return state


def _after(steps: int, params: TrainParams, rank: int, size: int) -> dict[str, Tensor]:
    state, share = _double(params), IMAGES // size
    replica = state.net if size == 1 else DistributedDataParallel(state.net)
    batches = (_two_class_batch(step, slice(rank * share, (rank + 1) * share)) for step in range(steps))
    for _ in train_epoch(state, replica, batches, steps, params, torch.float32):
        pass
    return state.net.state_dict()


def _after_share(steps: int, params: TrainParams, rank: int) -> dict[str, Tensor]:
    return _after(steps, params, rank, 2)


def _difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[key].double() - other[key].double()).abs().max().item() for key in one)


@pytest.mark.parametrize(("shared", "steps"), [
    (True, 3), pytest.param(True, 10, marks=pytest.mark.slow), (False, 1)],
    ids=["shared", "shared, longer", "each process for itself"])
def test_steps_in_two_processes_are_those_of_one(workspace: Path, shared: bool, steps: int) -> None:
    """With SGD: Adam makes full steps of gradients that are nothing but rounding."""
    set_params(workspace, epochs=1, optimizer="sgd", lr=0.001, ema_decay=0.0, sync_batch_norm=shared)
    params = load_params("train", path=workspace / "params.yaml").train
    one = _after(steps, params, 0, 1)
    two = in_two_processes(workspace, partial(_after_share, steps, params))
    assert (_difference(one, two) < 1e-5) == shared


def test_evaluation_and_names_are_as_ever() -> None:
    net = SPEC.build(1).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(3))
    before: Any = net.state_dict()
    logits, offsets = net(images)
    shared = with_shared_statistics(net)
    assert sum(isinstance(module, SharedBatchNorm) for module in shared.modules()) > 20
    assert list(shared.state_dict()) == list(before)
    assert all(torch.equal(one, other) for one, other in zip(shared(images), (logits, offsets), strict=True))


def test_one_process_has_nothing_to_share(workspace: Path) -> None:
    set_params(workspace, sync_batch_norm=True)
    state = new_state(SPEC, load_params("train", path=workspace / "params.yaml").train, CPU, torch.float32)
    assert not any(isinstance(module, SharedBatchNorm) for module in state.net.modules())
