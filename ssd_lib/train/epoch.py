"""Train for one epoch, and compute the validation loss."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssd_lib.boxes.loss import MULTIBOX, Criterion, LossSums, detection_loss
from ssd_lib.boxes.matching import match_priors
from ssd_lib.data.dataset import Batch
from ssd_lib.data.loader import on_device
from ssd_lib.distributed.collectives import barrier, rank_and_size, sum_over_processes
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import TrainParams
from ssd_lib.train.optimizer import learning_rate, set_learning_rate, set_training_mode
from ssd_lib.train.state import TrainState


class StepResult(NamedTuple):
    """Result of one training step.

    (2,) classification and box loss of the global batch, its image indices, its learning rate.
    """

    losses: Tensor
    indices: Tensor
    rate: float


def train_epoch(state: TrainState, replica: nn.Module, batches: Iterable[Batch], steps: int, params: TrainParams,
                precision: torch.dtype, criterion: Criterion = MULTIBOX) -> Iterator[StepResult]:
    """Train from `state.step` to the end of the epoch, and yield after every step, where the state is consistent.

    Guarantees: the state after a step depends only on the state before it, the batch and the position.

    Args:
        state: is changed in place.
        replica: `state.net`, or the module that synchronises it over processes.
        batches: on the net's device, from the current position on; as many as needed are taken.
        steps: number of steps of a whole epoch.
        params, precision: as in params.yaml, resolved.
        criterion: the assignment and the losses.
    """
    set_training_mode(state.net, params.freeze)
    rank, _ = rank_and_size()
    for step, batch in zip(range(state.step, steps), batches, strict=False):  # range first, else zip takes a batch too many
        position = state.epoch * steps + step
        torch.manual_seed(_step_seed(params.seed, position, rank))  # for dropout, if a net has it
        rate = learning_rate(position, params.epochs * steps, params.warmup_epochs * steps, params)
        set_learning_rate(state.optimizer, rate)
        losses = _train_step(state, replica, batch, params.clip_grad_norm, precision, criterion)
        if state.average is not None:
            state.average.update_parameters(state.net)
        state.totals += torch.cat([losses.double(), losses.new_ones(1).double()])
        state.step = step + 1
        yield StepResult(losses, batch.indices, rate)


@torch.no_grad()
def validation_losses(net: SSD, batches: Iterable[Batch], device: torch.device, precision: torch.dtype,
                      criterion: Criterion = MULTIBOX) -> tuple[float, float]:
    """Return classification and box loss of `net`, in evaluation mode, over all images of all processes."""
    was_training = net.training
    net.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for batch in on_device(batches, device):
        sums += torch.stack(_loss_sums(net, net, batch, precision, criterion)).double()
    net.train(was_training)
    barrier()
    classification, box, positives = sum_over_processes(sums).tolist()
    return classification / max(positives, 1), box / max(positives, 1)


def _train_step(state: TrainState, replica: nn.Module, batch: Batch, clip: float, precision: torch.dtype,
                criterion: Criterion) -> Tensor:
    """Make one step of the optimizer; the losses are divided by the positives of the global batch."""
    sums = _loss_sums(replica, state.net, batch, precision, criterion)
    total = sum_over_processes(torch.stack(sums).detach())
    loss = (sums.classification + sums.box) / total[2] * rank_and_size()[1]  # DDP averages, this undoes it
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    if clip > 0:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.net.parameters(), clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return total[:2] / total[2]


def _loss_sums(replica: nn.Module, net: SSD, batch: Batch, precision: torch.dtype, criterion: Criterion) -> LossSums:
    with torch.autocast(batch.images.device.type, dtype=precision, enabled=precision != torch.float32):
        logits, offsets = replica(batch.images)
    per_level = net.priors_per_map if criterion.assignment == "atss" else ()
    boxes, labels = match_priors(batch.boxes, batch.labels, batch.crowd_boxes, net.priors_xyxy, per_level=per_level)
    return detection_loss(logits, offsets, labels, boxes, net.priors, criterion)


def _step_seed(seed: int, position: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, position, rank]).generate_state(1, np.uint64)[0] >> 1)
