"""The state of training: what changes from step to step, and its conversion to a checkpoint and back."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, cast

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from ssd_lib.checkpoint.file import ComboCheckpoint
from ssd_lib.distributed.collectives import rank_and_size, sum_over_processes
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import TrainParams
from ssd_lib.train.optimizer import freeze, make_optimizer

VERSIONS = {
    "python": platform.python_version(),
    "torch": str(torch.__version__),
    "torchvision": str(torchvision.__version__),
    "albumentations": version("albumentations"),  # not imported here: its import looks for updates online; see data/augment.py
    "numpy": np.__version__,
}
ADAM_STATE, SGD_STATE = {"step", "exp_avg", "exp_avg_sq"}, {"momentum_buffer"}  # what the optimizers keep for a parameter
SCALER_STATE = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}


@dataclass
class TrainState:
    """The mutable state of a run. It holds no random generator: every step is seeded by its position.

    Attributes:
        net, average: the net, and its moving average (None if `train.ema_decay` is 0).
        epoch, step, totals, best, history, threads, micro_batch: as in ComboCheckpoint.
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
    threads: int = 0
    micro_batch: int = 0

    @property
    def final_net(self) -> SSD:
        """Return the net that is validated and becomes the model: the average if there is one."""
        return self.net if self.average is None else cast(SSD, self.average.module)


def new_state(spec: NetSpec, params: TrainParams, device: torch.device, precision: torch.dtype,
              weights: Mapping[str, Tensor] | None = None) -> TrainState:
    """Return the state before the first step, from `weights` or from new ones, which depend on `params.seed` only."""
    net = spec.build(params.seed)
    if weights is not None:
        net.load_state_dict(weights)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze(net, params.freeze)
    average = None
    if params.ema_decay > 0:
        average = moving_average(net, params.ema_decay)
    if params.sync_batch_norm and rank_and_size()[1] > 1:
        net = cast(SSD, with_shared_statistics(net))  # the average is only ever evaluated
    return TrainState(
        net=net,
        average=average,
        optimizer=make_optimizer(net, params),
        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
        totals=torch.zeros(3, dtype=torch.float64, device=device),
    )


def moving_average(net: SSD, decay: float) -> AveragedModel:
    """Return a copy of a net that follows its weights; its batch norm statistics are those of the net at every update.

    Guarantees: update n decays by min(decay, (1 + n) / (10 + n)), so that the first weights are soon forgotten and the average
    of a short run is about as good as the net. All that the updates depend on is in the state dict.
    Source of the ramp: TensorFlow's ExponentialMovingAverage with num_updates. Averaged statistics were worse (docs/log.md).
    """
    average = AveragedModel(net)
    average.n_averaged = average.n_averaged.cpu()  # read in every step, which must not wait for the device

    @torch.no_grad()
    def update(averages: Any, values: Any, _: Any) -> None:
        updates = int(average.n_averaged)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + updates) / (10 + updates)))

    average.multi_avg_fn = update
    return average


def restore(state: TrainState, checkpoint: ComboCheckpoint) -> None:
    """Load a checkpoint into a new state of the same net. Weight decay and momentum stay those of the state."""
    state.net.load_state_dict(checkpoint.weights)
    if state.average is not None and checkpoint.average:
        state.average.load_state_dict(checkpoint.average)
    elif state.average is not None:
        state.average.module.load_state_dict(checkpoint.weights)
    if checkpoint.optimizer:
        settings = [{key: value for key, value in group.items() if key != "params"} for group in state.optimizer.param_groups]
        saved = _copy(checkpoint.optimizer)  # a copy, since load_state_dict keeps references
        groups = [{**group, **setting} for group, setting in zip(saved["param_groups"], settings, strict=True)]
        state.optimizer.load_state_dict({**saved, "param_groups": groups})
    if checkpoint.scaler:
        state.scaler.load_state_dict(checkpoint.scaler)
    state.totals.copy_(checkpoint.totals)
    state.epoch, state.step = checkpoint.epoch, checkpoint.step
    state.best, state.history, state.threads = checkpoint.best, list(checkpoint.history), checkpoint.threads
    state.micro_batch = checkpoint.micro_batch


def optimizer_fault(checkpoint: ComboCheckpoint, net: SSD, params: TrainParams) -> str:
    """Return why the optimizer and the scaler of a checkpoint do not fit a net; "" if they do.

    Torch would find out in a step.
    """
    names = ADAM_STATE if params.optimizer == "adam" else SGD_STATE
    own = make_optimizer(net, params)
    shapes = [tuple(p.shape) for group in own.param_groups for p in group["params"]]
    if checkpoint.optimizer:
        groups, state = checkpoint.optimizer.get("param_groups", []), checkpoint.optimizer.get("state", {})
        if [group.get("params") for group in groups] != [group["params"] for group in own.state_dict()["param_groups"]]:
            return "optimizer: its parameter groups are not those of this net"
        for index, values in state.items():
            if not 0 <= index < len(shapes) or values.keys() != names:
                return f"optimizer: the state of parameter {index} is not {params.optimizer}'s"
            bad = next((name for name, value in values.items() if value is not None and not (
                isinstance(value, Tensor) and value.is_floating_point()
                and tuple(value.shape) == (() if name == "step" else shapes[index]))), None)
            if bad or (params.optimizer == "adam" and None in values.values()):
                return f"optimizer: {bad or 'a value'} of parameter {index} is not a tensor of its shape"
    if checkpoint.scaler and not (checkpoint.scaler.keys() == SCALER_STATE and all(
            type(value) in (int, float) and value >= 0 for value in checkpoint.scaler.values())):
        return f"scaler: it must hold numbers for {', '.join(sorted(SCALER_STATE))}"
    return ""


def snapshot(state: TrainState, spec: NetSpec, fingerprint: str, data_digest: str,
             params: Mapping[str, Any]) -> ComboCheckpoint:
    """Return the checkpoint of a state: a copy on the CPU, so that training can go on while it is written."""
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
        threads=state.threads,
        micro_batch=state.micro_batch,
    )


def _copy(tree: Any) -> Any:
    """Copy nested dicts, lists and tuples; copy tensors to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _copy(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_copy(value) for value in tree)
    return tree


def with_shared_statistics(net: nn.Module) -> nn.Module:
    """Change the batch norms of `net` to use statistics over all processes in training mode, and return it.

    Guarantees: parameters and buffers stay the same tensors under the same names; evaluation mode is unchanged.

    Args:
        net: on a CUDA device torch's SyncBatchNorm is used, on the CPU, which that does not support, SharedBatchNorm.
    """
    if next(net.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
    return net


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose mean and variance are over the images of all processes, as one process with the whole batch has them."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training:
            return super().forward(input)
        x = input.to(self.weight.dtype)  # bf16 has too few bits for sums
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        count = torch.full_like(mean, x.numel() / x.shape[1], dtype=torch.float64)
        sums = torch.stack([count, count * mean, count * (variance + mean.double() ** 2)])
        count, total, squares = _Sum.apply(sums).unbind()
        mean64 = total / count
        mean, variance = mean64.to(x.dtype), (squares / count - mean64 ** 2).clamp(min=0).to(x.dtype)
        self._update_running(mean.detach(), variance.detach() * (count / (count - 1)).to(x.dtype))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics as nn.BatchNorm2d does."""
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            running.lerp_(now, self.momentum)  # type: ignore[union-attr, arg-type]  # None only with track_running_stats=False
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


class _Sum(torch.autograd.Function):
    """The sum over processes. Each process contributes to the result of all, so the gradient is also a sum over processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return sum_over_processes(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient.contiguous())
