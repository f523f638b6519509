"""What a step depends on is in the checkpoint, or follows from the position."""

from pathlib import Path

import torch
from support.tiny_run import set_params
from torch import nn

from ssd_lib.data.dataset import Batch
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.params import TrainParams, load_params
from ssd_lib.train.epoch import train_epoch
from ssd_lib.train.state import TrainState, new_state, restore, snapshot

CPU = torch.device("cpu")
SPEC = NetSpec("mb2-ssd-lite", 64, 0.1, ("red", "blue"), (3, 7))


def _state_with_dropout(params: TrainParams) -> TrainState:
    state = new_state(SPEC, params, CPU, torch.float32)
    for net in (state.net, state.final_net):
        net.extras[0] = nn.Sequential(nn.Dropout(0.5), net.extras[0])
    return state


def _batch(step: int) -> Batch:
    dice = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=dice)
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
    torch.rand(17)  # another process has used its generator for other things
    restore(continued, snapshot(stopped, SPEC, "f", "d", {}))
    _train(continued, params, until=4)
    for one, other in ((calm.net, continued.net), (calm.final_net, continued.final_net)):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    _train(stopped, params, until=4)
    undisturbed = torch.cat([p.flatten() for p in stopped.net.parameters()])
    assert torch.equal(undisturbed, torch.cat([p.flatten() for p in calm.net.parameters()]))
