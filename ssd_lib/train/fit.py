"""Training, from data/fixed to models/ssd.pt: the loop over epochs, and when checkpoints are saved."""

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.nn.parallel import DistributedDataParallel

from ssd_lib.checkpoint.best_epoch import metric_of, stop_reason
from ssd_lib.checkpoint.file import CHECKPOINTS, ComboCheckpoint
from ssd_lib.checkpoint.store import only_writer, prepare_folder, runs_folder
from ssd_lib.data.dataset import Batch
from ssd_lib.data.loader import (
    batches_from,
    evaluation_batches,
    load_batches,
    on_device,
    warn_of_small_shared_memory,
    worker_count,
)
from ssd_lib.device import choose_algorithms, pick_device, pick_precision, pick_threads
from ssd_lib.distributed.collectives import (
    GroupStopped,
    NonBlockingAny,
    abort_all,
    all_gather_object,
    barrier,
    broadcast_buffers,
    broadcast_object,
    rank_and_size,
)
from ssd_lib.distributed.group import Group, make_group
from ssd_lib.distributed.launch import launch
from ssd_lib.distributed.worker import has_launcher, run_under_launcher
from ssd_lib.errors import InputError, StateError, Stopped, first_line, print_messages
from ssd_lib.manifest import Manifest
from ssd_lib.nets.model_file import MODEL_PATH
from ssd_lib.params import PARAMS_PATH, Params
from ssd_lib.processes import available_cores, die_with_parent, free_addresses, keep_freed_memory
from ssd_lib.train.board import Board, Shown, board_folder
from ssd_lib.train.checkpoint_writer import CheckpointWriter, finish
from ssd_lib.train.epoch import train_epoch, validation_losses, validation_sums
from ssd_lib.train.logger import TrainLogger
from ssd_lib.train.optimizer import learning_rate
from ssd_lib.train.run_spec import Draw, Measure, RunSpec, WriteSamples, restore_run
from ssd_lib.train.setup import make_run_spec, with_start
from ssd_lib.train.signals import StopRequested, StopSignal
from ssd_lib.train.state import TrainState, new_state

WRITER_LOCK = "writer.lock"  # held by the process that writes; with several processes that is not the one that started them
LEAST_ADDRESSES = 700_000_000  # bytes that training of the smallest net maps after PyTorch is loaded
IMAGES_DRAWN = 8  # validation images drawn for TensorBoard
log = logging.getLogger(__name__)


def fit(params: Params, manifest: Manifest, measure: Measure, draw: Draw, write_samples: WriteSamples,
        joins: bool = False) -> str:
    """Train or continue training; write the model when, and only when, the run is complete.

    Args:
        params, manifest: of this machine.
        measure, draw, write_samples: see RunSpec.
        joins: work on the run that another machine has started, and write nothing.

    Returns:
        A line of summary.

    Raises:
        Stopped: a signal arrived; a checkpoint is saved.
        InputError, StateError: the data, the parameters or the machine do not allow it.
    """
    if not die_with_parent(signal.SIGTERM):
        log.warning("on %s training outlives a killed dvc: stop it yourself", sys.platform)
    if (free := free_addresses()) < LEAST_ADDRESSES:
        raise StateError(f"the limit of memory (`ulimit -v`) leaves {max(0, free) / 1e6:.0f} MB for training, now that PyTorch "
                         f"is loaded; at least {LEAST_ADDRESSES / 1e6:.0f} MB are needed. Set `ulimit -v unlimited`.")
    make_own = partial(make_run_spec, params, manifest, measure, draw, write_samples)
    if not has_launcher():
        return _fit(make_own, make_group(params.runtime, params.train.batch_size, joins))
    if joins:
        raise InputError("--join is only for `dvc repro` on another machine; torchrun and srun start all processes alike.")
    return run_under_launcher(partial(_fit, make_own), params.runtime, params.train.batch_size)


def _fit(make_own: Callable[[], RunSpec], group: Group) -> str:
    """Train as one of the group, or start its other processes; the process that does not join writes everything."""
    run_spec = make_own()
    if group.joins:
        launch(_train_process, group, run_spec)
        return "" if group.has_launcher else f"train: the run is complete; the model is on the first machine, {group.address}"
    with only_writer(CHECKPOINTS.parent), only_writer(run_spec.resume_dir):
        with only_writer(CHECKPOINTS.parent, WRITER_LOCK):
            pass  # the process that holds the other locks may have been killed while its first training process still saves
        for folder in (CHECKPOINTS.parent, CHECKPOINTS, run_spec.resume_dir):
            prepare_folder(folder)
        run_spec = with_start(run_spec)
        MODEL_PATH.unlink(missing_ok=True)
        _warn_of_small_shared_memory(run_spec.params, group)
        is_complete = run_spec.resume_from is not None and _is_complete(run_spec.resume_from, run_spec)
        return launch(_train_process, group if group.has_launcher or not is_complete else Group(), run_spec)


def _warn_of_small_shared_memory(params: Params, group: Group) -> None:
    workers = group.processes * worker_count(params.runtime.workers, group.processes)
    share = params.train.batch_size // (group.processes * group.nodes)
    warn_of_small_shared_memory(workers, share * 3 * params.model.image_size**2)


def _train_process(run_spec: RunSpec, group: Group) -> str:
    """Train in one of the processes; raise Stopped when everything is saved after a stop signal."""
    keep_freed_memory()
    params, (rank, size) = run_spec.params, rank_and_size()
    if size > 1 and not group.has_launcher:  # at the first start the process that started this one has printed the same
        print_messages(is_printing=rank == 0 and group.restart > 0)
    device = pick_device(_own_device() if size > 1 else params.runtime.device)
    precision = pick_precision(params.train.precision, device)
    choose_algorithms(params.train.deterministic)
    barrier()  # until all have read their data; one that cannot ends the others here
    run_spec.check_machines_agree()
    state = new_state(run_spec.net_spec, params.train, device, precision, run_spec.weights)
    restore_run(state, run_spec, group)
    if device.type == "cpu" and not _is_complete(state, run_spec):
        own = group.has_launcher and available_cores() < (os.cpu_count() or 1)  # srun gives each process its own cores
        threads = pick_threads(params.runtime.threads, state.threads, 1 if own else group.processes) if rank == 0 else 0
        state.threads = broadcast_object(threads)
        torch.set_num_threads(state.threads)
    steps = run_spec.steps_per_epoch
    position = state.epoch * steps + state.step
    folder = board_folder(runs_folder() / "tb", run_spec.net_spec.net, run_spec.fingerprint, PARAMS_PATH) if rank == 0 else None
    logger = TrainLogger(run_spec.train_set.fixed.file_name, params.train.batch_size, position, params.train.epochs * steps,
                         Board(folder, position), show=rank == 0)
    logger.board.parameters(run_spec.params_dict)
    writer = CheckpointWriter(run_spec, state, logger)
    stop = StopSignal(alone=size == 1 and not group.has_launcher, prints=size == 1 or (group.has_launcher and rank == 0))
    lock = only_writer(CHECKPOINTS.parent, WRITER_LOCK) if rank == 0 else nullcontext()
    with lock, stop.listen(), closing(logger), writer.save_on_error():
        try:
            _train_epochs(run_spec, group, state, logger, writer, stop, device, precision)
            writer.wait()
            if size == 1:  # of several processes those without a signal have left as after a complete run
                stop.check()
        except BackendCompilerFailed as error:
            raise StateError(f"train.compile: the net cannot be compiled here ({first_line(error)}). It needs a C++ "
                             "compiler, and Triton for a GPU; set train.compile: false.") from error
        except (StopRequested, GroupStopped) as stopped:
            writer.save()
            writer.wait()
            number = stopped.number if isinstance(stopped, GroupStopped) else stop.signal_number
            raise _leave_group(run_spec, group, state, number or signal.SIGTERM, device) from None
    return finish(run_spec, state) if rank == 0 else ""


def _leave_group(run_spec: RunSpec, group: Group, state: TrainState, number: int, device: torch.device) -> Stopped:
    """Wait until the other processes leave, too, and return the exception that ends this one."""
    abort_all(number, device)
    epochs, where = run_spec.params.train.epochs, " of the first machine" if group.nodes > 1 else ""
    return Stopped(f"stopped by {signal.Signals(number).name} at epoch {min(state.epoch + 1, epochs)}/{epochs}, step "
                   f"{state.step}/{run_spec.steps_per_epoch}; saved in {CHECKPOINTS}{where}. The same command continues from "
                   f"there.",
                   number)


def _train_epochs(run_spec: RunSpec, group: Group, state: TrainState, logger: TrainLogger, writer: CheckpointWriter,
                  stop: StopSignal, device: torch.device, precision: torch.dtype) -> None:
    """Train from the position of the state to the end of the run; all processes see the same history."""
    train, (rank, size), any_rank = run_spec.params.train, rank_and_size(), NonBlockingAny(device)
    # find_unused_parameters keeps DDP from rebuilding its gradient buckets after the first step: it would sum in another order
    # than a run that started earlier.
    compiled = cast(nn.Module, torch.compile(state.net)) if train.compile else state.net
    replica = compiled if size == 1 else DistributedDataParallel(compiled, find_unused_parameters=True)
    workers = worker_count(run_spec.params.runtime.workers, group.processes)
    keys = batches_from(run_spec.repeat_factors, train.batch_size, train.seed, state.epoch, state.step, train.epochs, rank,
                        size)
    with closing(load_batches(run_spec.train_set, keys, workers, device.type == "cuda")) as loaded:
        batches = _timed(on_device(loaded, device), logger.add_waiting_time)
        while not _is_complete(state, run_spec):
            for result in train_epoch(state, replica, batches, run_spec.steps_per_epoch, train, precision,
                                      run_spec.criterion):
                logger.step(result)
                writer.save_if_due()
                _raise_if_stopped(stop, any_rank)
            logger.read()
            writer.wait()  # validation forks loader processes, which must not happen while a thread writes
            logger.begin_validation()
            row, shown = _validate(run_spec, state, logger, workers, stop, device, precision)
            writer.save(_close_epoch(state, row, run_spec.params_dict["train"]))
            logger.epoch_done(row, train.epochs, shown)


def _is_complete(at: TrainState | ComboCheckpoint, run_spec: RunSpec) -> bool:
    """Return whether all epochs are done, or `train.patience` ends the run here."""
    train = run_spec.params_dict["train"]
    return at.step == 0 and (at.epoch == train["epochs"] or stop_reason(at.history, at.best, train) != "")


def _close_epoch(state: TrainState, row: dict[str, Any], train: Mapping[str, Any]) -> bool:
    """Move the state to the next epoch, and return whether the finished one is the best so far."""
    metric = metric_of(row, train)
    is_best = metric is not None and metric > (-math.inf if state.best is None else state.best)
    state.best = metric if is_best else state.best
    state.history.append(row)
    state.epoch, state.step = state.epoch + 1, 0
    state.totals.zero_()
    return is_best


def _validate(run_spec: RunSpec, state: TrainState, logger: TrainLogger, workers: int, stop: StopSignal, device: torch.device,
              precision: torch.dtype) -> tuple[dict[str, Any], Shown | None]:
    """Return the metrics of the trained epoch and, in the first process, what TensorBoard shows; the state does not change.

    A stop signal ends it where a process computes by itself and in barriers, and never in an operation that waits for others.
    """
    train, (rank, size) = run_spec.params.train, rank_and_size()
    classification, box, counted = state.totals.tolist()
    steps = run_spec.steps_per_epoch
    pace = {"images_per_s": logger.images_per_s, "data_share": logger.data_share, "seconds": logger.seconds}
    broadcast_buffers(state.net)
    broadcast_buffers(state.final_net)
    keys = evaluation_batches(len(run_spec.val_set), train.batch_size, rank, size)
    with closing(load_batches(run_spec.val_set, keys, workers)) as batches, stop.raise_now():
        sums = validation_sums(state.final_net, batches, device, precision, run_spec.criterion)
    barrier(lambda: stop.signal_number)
    losses = validation_losses(sums)
    row = {
        "epoch": state.epoch + 1,
        "train_loss": (classification + box) / counted,
        "train_loss_classification": classification / counted,
        "train_loss_box": box / counted,
        "val_loss": losses.classification + losses.box,
        "val_loss_classification": losses.classification,
        "val_loss_box": losses.box,
        "learning_rate": learning_rate((state.epoch + 1) * steps - 1, train.epochs * steps, train.warmup_epochs * steps, train),
        **pace,
    }
    shown = None
    if rank == 0:
        with stop.raise_now():
            metrics, image = _measure(run_spec, state, device)
        row |= {name: metrics[name] for name in ("AP", "AP50", "AP75") if name in metrics}
        shown = Shown(losses.positives, metrics.get("precisions", {}), image)
    barrier(lambda: stop.signal_number)
    return broadcast_object(row), shown  # only the first process has measured AP


def _measure(run_spec: RunSpec, state: TrainState, device: torch.device) -> tuple[Mapping[str, Any], np.ndarray]:
    """Return the metrics, in an epoch in which AP is measured, and some validation images with their detections."""
    every, epoch = run_spec.params.train.ap_every_epochs, state.epoch + 1
    is_due = every and (epoch % every == 0 or epoch == run_spec.params.train.epochs)
    metrics = run_spec.measure(state.final_net, run_spec.val_set, device=device) if is_due else {}
    drawn = range(min(IMAGES_DRAWN, len(run_spec.val_set)))
    return metrics, run_spec.draw(state.final_net, run_spec.val_set, indices=drawn, device=device)


def _raise_if_stopped(stop: StopSignal, any_rank: NonBlockingAny) -> None:
    """Raise StopRequested in a single process; GroupStopped in all of several after the same step, if one got a stop signal."""
    if rank_and_size()[1] == 1:
        stop.check()
    elif any_rank(stop.signal_number is not None):
        raise GroupStopped(max(number or 0 for number in all_gather_object(stop.signal_number)))


def _own_device() -> str:
    """Return the device of one of several processes."""
    return f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"


def _timed(batches: Iterable[Batch], note: Callable[[float], None]) -> Iterator[Batch]:
    """Yield the same batches, and pass the time that each took to `note`."""
    iterator = iter(batches)
    while True:
        begin = time.perf_counter()
        batch = next(iterator, None)
        note(time.perf_counter() - begin)
        if batch is None:
            return
        yield batch
