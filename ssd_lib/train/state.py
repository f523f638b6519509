"""What changes while a net is trained, and its way into a checkpoint and back."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import torch
import torchvision
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ssd_lib.checkpoint.file import ComboCheckpoint
from ssd_lib.distributed.collectives import rank_and_size
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import TrainParams
from ssd_lib.train.batch_norm import with_shared_statistics
from ssd_lib.train.optimizer import freeze, make_optimizer

VERSIONS = {
    "python": platform.python_version(),
    "torch": str(torch.__version__),
    "torchvision": str(torchvision.__version__),
    "albumentations": version("albumentations"),  # importing it here would ask the network for news: see data/transforms.py
    "numpy": np.__version__,
}


@dataclass
class TrainState:
    """The one mutable thing of a run. There is no generator in it: every step is seeded by its position.

    Attributes:
        net, average: the net, and its moving average (None where `train.ema_decay` is 0).
        epoch, step, totals, best, history: as in ComboCheckpoint.
    """

    net: SSD
    average: AveragedModel | None
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    totals: Tensor
    epoch: int = 0
    step: int = 0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def final_net(self) -> SSD:
        """The net that is validated and becomes the model: the average where there is one."""
        return self.net if self.average is None else cast(SSD, self.average.module)


def new_state(spec: NetSpec, params: TrainParams, device: torch.device, precision: torch.dtype,
              weights: Mapping[str, Tensor] | None = None) -> TrainState:
    """The state before the first step, from given weights or from new ones, which `params.seed` alone makes."""
    net = spec.build(params.seed)
    if weights is not None:
        net.load_state_dict(weights)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze(net, params.freeze)
    average = None
    if params.ema_decay > 0:
        average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(params.ema_decay), use_buffers=True)
        average.n_averaged = average.n_averaged.cpu()  # it is looked at in every step, and no step shall wait for the device
    if params.sync_batch_norm and rank_and_size()[1] > 1:
        net = cast(SSD, with_shared_statistics(net))  # the average is only ever evaluated
    return TrainState(
        net=net,
        average=average,
        optimizer=make_optimizer(net, params),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        totals=torch.zeros(3, dtype=torch.float64, device=device),
    )


def restore(state: TrainState, checkpoint: ComboCheckpoint) -> None:
    """Put a checkpoint into a fresh state of the same net; weight decay and momentum stay as the state has them."""
    state.net.load_state_dict(checkpoint.weights)
    if state.average is not None and checkpoint.average:
        state.average.load_state_dict(checkpoint.average)
    elif state.average is not None:
        state.average.module.load_state_dict(checkpoint.weights)
    if checkpoint.optimizer:
        settings = [{key: value for key, value in group.items() if key != "params"} for group in state.optimizer.param_groups]
        given = _copy(checkpoint.optimizer)  # it keeps what it is given, and processes share that
        groups = [{**group, **setting} for group, setting in zip(given["param_groups"], settings, strict=True)]
        state.optimizer.load_state_dict({**given, "param_groups": groups})
    if checkpoint.scaler:
        state.scaler.load_state_dict(checkpoint.scaler)
    state.totals.copy_(checkpoint.totals)
    state.epoch, state.step = checkpoint.epoch, checkpoint.step
    state.best, state.history = checkpoint.best, list(checkpoint.history)


def snapshot(state: TrainState, spec: NetSpec, fingerprint: str, data_digest: str,
             params: Mapping[str, Any]) -> ComboCheckpoint:
    """The checkpoint of a state: a copy on the CPU, so that training can go on while it is written."""
    return ComboCheckpoint(
        fingerprint=fingerprint,
        params=dict(params),
        data_digest=data_digest,
        spec={**asdict(spec), "mean": state.net.mean.flatten().tolist(), "std": state.net.std.flatten().tolist(),
              "priors": len(state.net.priors)},
        epoch=state.epoch,
        step=state.step,
        weights=_copy(state.net.state_dict()),
        average={} if state.average is None else _copy(state.average.state_dict()),
        optimizer=_copy(state.optimizer.state_dict()),
        scaler=_copy(state.scaler.state_dict()),
        totals=_copy(state.totals),
        best=state.best,
        history=_copy(state.history),
        versions=VERSIONS,
    )


def _copy(tree: Any) -> Any:
    """Dicts, lists and tuples as new ones, tensors as new ones on the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _copy(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_copy(value) for value in tree)
    return tree
