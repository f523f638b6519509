"""Train for one epoch, and compute the validation loss."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssd_lib.boxes.loss import MULTIBOX, Criterion, LossSums, count_positives, detection_loss
from ssd_lib.boxes.matching import match_priors
from ssd_lib.data.dataset import Batch
from ssd_lib.data.loader import on_device
from ssd_lib.distributed.collectives import rank_and_size, sum_over_processes
from ssd_lib.nets.ssd import SSD
from ssd_lib.params import TrainParams
from ssd_lib.train.optimizer import learning_rate, set_learning_rate, set_training_mode
from ssd_lib.train.state import TrainState

FEWEST_IMAGES = 2  # that a net sees at once: batch norm cannot train on one where a feature map has a single cell
log = logging.getLogger(__name__)


class StepResult(NamedTuple):
    """Result of one training step.

    Attributes:
        losses: (2,) classification and box loss of the global batch.
        gradient_norm: () of all gradients of this process, before clipping.
        indices: of the images of the batch of this process.
        rate: the learning rate.
    """

    losses: Tensor
    gradient_norm: Tensor
    indices: Tensor
    rate: float


class ValidationLosses(NamedTuple):
    """Losses of a net over the validation images of all processes.

    Attributes:
        classification, box: divided by the number of positives.
        positives: of each level, the finest first.
    """

    classification: float
    box: float
    positives: tuple[int, ...]


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
        rate = learning_rate(position, params.epochs * steps, params.warmup_epochs * steps, params)
        set_learning_rate(state.optimizer, rate)
        losses, norm = _train_step(state, replica, batch, params, precision, criterion,
                                   _step_seed(params.seed, position, rank))
        if state.average is not None:
            state.average.update_parameters(state.net)
        state.totals += torch.cat([losses.double(), losses.new_ones(1).double()])
        state.step = step + 1
        yield StepResult(losses, norm, batch.indices, rate)


@torch.no_grad()
def validation_sums(net: SSD, batches: Iterable[Batch], device: torch.device, precision: torch.dtype,
                    criterion: Criterion = MULTIBOX) -> Tensor:
    """Return the sums for `validation_losses` over the images of this process, with `net` in evaluation mode.

    Returns:
        (3 + levels,) float64: classification and box loss, the positives, and the positives of each level.
    """
    was_training = net.training
    net.eval()
    levels = len(net.priors_per_map)
    sums = torch.zeros(3 + levels, dtype=torch.float64, device=device)
    level_of_prior = torch.arange(levels, device=device).repeat_interleave(torch.tensor(net.priors_per_map, device=device))
    for batch in on_device(batches, device):
        boxes, labels = _assign(net, batch, criterion)
        sums[:3] += torch.stack(_loss_sums(net, net, batch, boxes, labels, precision, criterion)).double()
        sums[3:] += torch.bincount(level_of_prior.expand(labels.shape)[labels > 0], minlength=levels)
    net.train(was_training)
    return sums


def validation_losses(sums: Tensor) -> ValidationLosses:
    """Return the losses over all images of all processes, each of which passes its `validation_sums`."""
    classification, box, positives, *by_level = sum_over_processes(sums).tolist()
    return ValidationLosses(classification / max(positives, 1), box / max(positives, 1), tuple(int(each) for each in by_level))


def _train_step(state: TrainState, replica: nn.Module, batch: Batch, params: TrainParams, precision: torch.dtype,
                criterion: Criterion, seed: int) -> tuple[Tensor, Tensor]:
    """Make one step of the optimizer; return losses and gradient norm as in `StepResult`.

    Where `train.micro_batch` is auto and the memory of a GPU runs out, the step begins again with half as many images at once.
    """
    buffers = [buffer.clone() for buffer in state.net.buffers()]  # a forward pass changes those of batch norm
    while True:
        torch.manual_seed(seed)  # for dropout, if a net has it
        images = state.micro_batch if params.micro_batch == "auto" else params.micro_batch
        try:
            losses = _backward(state, replica, _parts(batch, images), precision, criterion)
            break
        except torch.OutOfMemoryError:
            images = min(images or len(batch.images), len(batch.images))
            if params.micro_batch != "auto" or images < 2 * FEWEST_IMAGES or rank_and_size()[1] > 1:
                raise
        state.micro_batch = images // 2  # not in the except block: the exception keeps tensors
        state.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        for buffer, before in zip(state.net.buffers(), buffers, strict=True):
            buffer.copy_(before)
        log.warning("train.micro_batch: auto: %d images at once need more memory than the GPU has; from here on %d at once",
                    images, state.micro_batch)
    parameters = [parameter for parameter in state.net.parameters() if parameter.grad is not None]
    state.scaler.unscale_(state.optimizer)
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    if params.clip_grad_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, params.clip_grad_norm, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return losses, norm.detach()


def _backward(state: TrainState, replica: nn.Module, parts: Sequence[Batch], precision: torch.dtype,
              criterion: Criterion) -> Tensor:
    """Compute the gradients of a step, part by part; return (2,) the losses of the global batch.

    Guarantees: the parts are summed in their order, and processes exchange gradients with the last one only.
    """
    assigned = [_assign(state.net, part, criterion) for part in parts]
    positives = sum_over_processes(torch.stack([count_positives(labels) for _, labels in assigned]).sum())
    state.optimizer.zero_grad(set_to_none=True)
    losses = positives.new_zeros(2)
    for number, (part, (boxes, labels)) in enumerate(zip(parts, assigned, strict=True), start=1):
        waits = isinstance(replica, DistributedDataParallel) and number < len(parts)
        with replica.no_sync() if waits else nullcontext():  # type: ignore[operator]
            sums = _loss_sums(replica, state.net, part, boxes, labels, precision, criterion)
            loss = (sums.classification + sums.box) / positives * rank_and_size()[1]  # DDP averages, this undoes it
            state.scaler.scale(loss).backward()
        losses += torch.stack(sums[:2]).detach()
    return sum_over_processes(losses) / positives


def _parts(batch: Batch, images: int) -> list[Batch]:
    """Cut a batch into parts of about the same size: at most so many images (0 is no limit), but at least FEWEST_IMAGES."""
    count = len(batch.images)
    parts = max(1, min(-(-count // images), count // FEWEST_IMAGES)) if images else 1
    split = (tensor.tensor_split(parts) for tensor in batch)
    return [batch] if parts == 1 else [Batch(*part) for part in zip(*split, strict=True)]


def _assign(net: SSD, batch: Batch, criterion: Criterion) -> tuple[Tensor, Tensor]:
    per_level = net.priors_per_map if criterion.assignment == "atss" else ()
    return match_priors(batch.boxes, batch.labels, batch.crowd_boxes, net.priors_xyxy, per_level=per_level)


def _loss_sums(replica: nn.Module, net: SSD, batch: Batch, boxes: Tensor, labels: Tensor, precision: torch.dtype,
               criterion: Criterion) -> LossSums:
    with torch.autocast(batch.images.device.type, dtype=precision, enabled=precision != torch.float32):
        logits, offsets = replica(batch.images)
    return detection_loss(logits, offsets, labels, boxes, net.priors, criterion)


def _step_seed(seed: int, position: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, position, rank]).generate_state(1, np.uint64)[0] >> 1)
