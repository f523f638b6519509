"""Training, from data/fixed to models/ssd.pt: owns the loop over epochs, and when what is saved."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.nn.parallel import DistributedDataParallel

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.checkpoint.explicit_resume import given_path
from ssd_lib.checkpoint.file import CHECKPOINTS
from ssd_lib.checkpoint.lock import make_ready, only_writer
from ssd_lib.checkpoint.pruning import prune
from ssd_lib.checkpoint.resume import MODES, data_digest, make_fingerprint, runs_folder
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import Batch, DetectionDataset
from ssd_lib.data.loader import batches_from, evaluation_batches, load_batches, on_device, worker_count
from ssd_lib.data.pixel_cache import open_cache
from ssd_lib.device import choose_algorithms, pick_device
from ssd_lib.distributed.collectives import (
    GroupStopped,
    Vote,
    abort_all,
    all_gather_object,
    broadcast_buffers,
    meet,
    rank_and_size,
)
from ssd_lib.distributed.group import Group, make_group
from ssd_lib.distributed.launch import launch
from ssd_lib.errors import StateError, Stopped, first_line
from ssd_lib.manifest import FIXED_FOLDER, REPAIR_HINT, Manifest
from ssd_lib.nets.model_file import MODEL_PATH
from ssd_lib.params import Params
from ssd_lib.precision import pick_precision
from ssd_lib.processes import die_with_parent, keep_freed_memory
from ssd_lib.train.checkpoint_writer import CheckpointWriter, finish
from ssd_lib.train.epoch import train_epoch, validation_losses
from ssd_lib.train.initial import balance_of, initial_weights, make_spec, report_priors
from ssd_lib.train.logger import TrainLogger
from ssd_lib.train.optimizer import learning_rate
from ssd_lib.train.run_spec import Draw, Measure, RunSpec, begin
from ssd_lib.train.signals import StopRequested, StopSignal
from ssd_lib.train.state import TrainState, new_state

WRITER_LOCK = "writer.lock"  # held by the process that writes; with several processes that is not the one that started
PICTURES = 8  # validation images drawn for TensorBoard


def fit(params: Params, manifest: Manifest, measure: Measure, draw: Draw, joins: bool = False) -> str:
    """Train as params.yaml says, or continue; write the model when, and only when, all epochs are done.

    Args:
        params, manifest: of this machine.
        measure, draw: see RunSpec.
        joins: work on the run that another machine has begun, and write nothing.

    Returns:
        A line of summary.

    Raises:
        Stopped: a signal came; a checkpoint is saved.
        InputError, StateError: the data, the parameters or the machine do not allow it.
    """
    if not die_with_parent(signal.SIGTERM):
        print(f"WARNING on {sys.platform} training outlives a killed dvc: stop it yourself", file=sys.stderr)
    group = make_group(params.runtime, params.train.batch_size, joins)
    job = _make_job(params, manifest, measure, draw)
    if joins:
        launch(_train_process, group, job)
        return f"train: {params.train.epochs} epochs are done; the model is on the first machine, {group.address}"
    with only_writer(CHECKPOINTS.parent), only_writer(job.journal):
        with only_writer(CHECKPOINTS.parent, WRITER_LOCK):
            pass  # the first of several processes may still be saving when the one that holds the other locks was killed
        MODEL_PATH.unlink(missing_ok=True)
        for folder in (CHECKPOINTS.parent, CHECKPOINTS, job.journal):
            make_ready(folder)
        job = _with_start(job)
        is_complete = job.start is not None and job.start.position == (params.train.epochs, 0)
        return launch(_train_process, Group() if is_complete else group, job)


def _make_job(params: Params, manifest: Manifest, measure: Measure, draw: Draw) -> RunSpec:
    """The work, and nothing yet about where it begins."""
    train_set, val_set = load_fixed("train"), load_fixed("val")
    for split in (train_set, val_set):
        _check_images(split, manifest)
    plain = params.model_dump(mode="json", include={"data", "fix", "model", "train"})
    digest = data_digest(FIXED_FOLDER)
    seed, size = params.train.seed, params.model.image_size
    return RunSpec(
        params, plain, make_spec(params.model, train_set),
        DetectionDataset(train_set, manifest.path, build_transform(params.train.augmentation, size), seed,
                         open_cache(params.data.cache, size, train_set, manifest)),
        balance_of(train_set, params.data),
        DetectionDataset(val_set, manifest.path, build_transform("none", size)),
        digest, make_fingerprint(plain, digest), None, None, measure, draw)


def _with_start(job: RunSpec) -> RunSpec:
    """The job with the checkpoint or the weights that it begins from; says what that is. The caller holds the locks."""
    model, resume, runtime = job.params.model, job.params.train.resume, job.params.runtime
    start, lines = job.find_start()
    needed = [job.journal] if resume in MODES else [job.journal, given_path(resume).parent]
    lines += prune(job.journal.parent, needed, runtime.keep_runs, runtime.keep_days)
    weights, begun = (None, []) if start is not None else initial_weights(job.spec, model, job.params.train.seed)
    lines += [*begun, report_priors(job.spec.build(), job.train_set.fixed, is_fitted=model.priors == "auto")]
    print(*lines, sep="\n", flush=True)
    return replace(job, start=start, weights=weights)


def _train_process(job: RunSpec, restart: int) -> str:
    """Train in one of the processes; raises Stopped once all is saved that a stop signal must not cost."""
    keep_freed_memory()
    rank, size = rank_and_size()
    device = pick_device(_own_device() if size > 1 else job.params.runtime.device)
    precision = pick_precision(job.params.train.precision, device)
    choose_algorithms(job.params.train.deterministic)
    job.agree()
    state = new_state(job.spec, job.params.train, device, precision, job.weights)
    begin(state, job, restart)
    position = state.epoch * job.steps + state.step
    board = runs_folder() / "tb" / f"{job.spec.net}-{job.fingerprint[:8]}"
    journal = TrainLogger(job.train_set.fixed.file_name, job.params.train.batch_size, position,
                          job.params.train.epochs * job.steps, board, show=rank == 0)
    saver = CheckpointWriter(job, state, journal)
    wish = StopSignal(alone=size == 1)
    alone = only_writer(CHECKPOINTS.parent, WRITER_LOCK) if rank == 0 else nullcontext()
    with alone, wish.listen(), closing(journal), saver.rescue():
        try:
            _train_epochs(job, state, journal, saver, wish, device, precision)
            saver.wait()
            wish.check()
        except BackendCompilerFailed as error:
            raise StateError(f"train.compile: the net cannot be compiled here ({first_line(error)}). It takes a C++ "
                             "compiler, and Triton for a GPU; set train.compile: false.") from error
        except (StopRequested, GroupStopped) as stop:
            saver.save()
            saver.wait()
            number = stop.number if isinstance(stop, GroupStopped) else wish.signal_number
            raise _stopped(job, state, number or signal.SIGTERM, device) from None
    return finish(job, state) if rank == 0 else ""


def _stopped(job: RunSpec, state: TrainState, number: int, device: torch.device) -> Stopped:
    """What ends this process, once the others leave, too."""
    abort_all(number, device)
    epochs, where = job.params.train.epochs, " of the first machine" if job.params.runtime.nodes > 1 else ""
    return Stopped(f"stopped by {signal.Signals(number).name} at epoch {min(state.epoch + 1, epochs)}/{epochs}, step "
                   f"{state.step}/{job.steps}; saved in {CHECKPOINTS}{where}. The same command continues from there.", number)


def _train_epochs(job: RunSpec, state: TrainState, journal: TrainLogger, saver: CheckpointWriter, wish: StopSignal,
                  device: torch.device, precision: torch.dtype) -> None:
    """The epochs from the state's position to the last."""
    train, (rank, size), vote = job.params.train, rank_and_size(), Vote(device)
    # Looking for unused parameters keeps the gradients' buckets as they are: rebuilt after the first step, they would be summed
    # in another order there than in a run that started earlier.
    compiled = cast(nn.Module, torch.compile(state.net)) if train.compile else state.net
    replica = compiled if size == 1 else DistributedDataParallel(compiled, find_unused_parameters=True)
    workers = worker_count(job.params.runtime.workers, max(1, size // job.params.runtime.nodes))
    keys = batches_from(job.factors, train.batch_size, train.seed, state.epoch, state.step, train.epochs, rank, size)
    with closing(load_batches(job.train_set, keys, workers, device.type == "cuda")) as loaded:
        batches = _timed(on_device(loaded, device), journal.wait_for)
        while state.epoch < train.epochs:
            for result in train_epoch(state, replica, batches, job.steps, train, precision):
                journal.step(result)
                saver.save_if_due()
                _stop_if_asked(wish, vote)
            journal.read()
            saver.wait()  # validation forks loader processes, and a fork must not meet a thread that writes
            with wish.raise_now():
                row, picture = _validate(job, state, journal, workers, device, precision)
                meet()
            saver.save(_close_epoch(state, row, by_ap=train.ap_every_epochs > 0))
            journal.epoch_done(row, train.epochs, picture)


def _close_epoch(state: TrainState, row: dict[str, Any], by_ap: bool) -> bool:
    """Move to the next epoch; whether the one that ends is the best so far."""
    metric = row.get("AP") if by_ap else -row["val_loss"]
    is_best = metric is not None and (state.best is None or metric > state.best)
    state.best = metric if is_best else state.best
    state.history.append(row)
    state.epoch, state.step = state.epoch + 1, 0
    state.totals.zero_()
    return is_best


def _validate(job: RunSpec, state: TrainState, journal: TrainLogger, workers: int, device: torch.device,
              precision: torch.dtype) -> tuple[dict[str, Any], np.ndarray | None]:
    """The row of the epoch that is trained, and a picture; changes nothing."""
    train, (rank, size) = job.params.train, rank_and_size()
    classification, box, steps = state.totals.tolist()
    pace = {"images_per_s": journal.images_per_s, "data_share": journal.data_share, "seconds": journal.seconds}
    broadcast_buffers(state.net)
    broadcast_buffers(state.final_net)
    keys = evaluation_batches(len(job.val_set), train.batch_size, rank, size)
    with closing(load_batches(job.val_set, keys, workers)) as batches:
        val_classification, val_box = validation_losses(state.final_net, batches, device, precision)
    row = {
        "epoch": state.epoch + 1,
        "train_loss": (classification + box) / steps,
        "train_loss_classification": classification / steps,
        "train_loss_box": box / steps,
        "val_loss": val_classification + val_box,
        "val_loss_classification": val_classification,
        "val_loss_box": val_box,
        "learning_rate": learning_rate((state.epoch + 1) * job.steps - 1, train.epochs * job.steps,
                                       train.warmup_epochs * job.steps, train),
        **pace,
    }
    if rank > 0:
        return row, None
    every, epoch = train.ap_every_epochs, state.epoch + 1
    if every and (epoch % every == 0 or epoch == train.epochs):
        metrics = job.measure(state.final_net, job.val_set, device=device)
        row.update({name: metrics[name] for name in ("AP", "AP50", "AP75")})
    return row, job.draw(state.final_net, job.val_set, indices=range(min(PICTURES, len(job.val_set))), device=device)


def _check_images(fixed: FixedSet, manifest: Manifest) -> None:
    """Every image must be there, with the size of the manifest."""
    def is_good(name: str) -> bool:
        path = manifest.path(name)
        return name in manifest.files and path.is_file() and path.stat().st_size == manifest.files[name][0]
    names = [fixed.file_name(index) for index in range(len(fixed))]
    bad = [name for name in names if not is_good(name)]
    if bad:
        raise StateError(f"{manifest.path(bad[0])}: missing or of another size than in the manifest, and {len(bad) - 1} more "
                         f"of {len(names)}. {REPAIR_HINT}.")


def _stop_if_asked(wish: StopSignal, vote: Vote) -> None:
    """Raise GroupStopped in all processes after the same step, if one was asked to stop; StopRequested in one alone."""
    if rank_and_size()[1] == 1:
        wish.check()
    elif vote.any(wish.signal_number is not None):
        raise GroupStopped(max(number or 0 for number in all_gather_object(wish.signal_number)))


def _own_device() -> str:
    """The device of one of several processes."""
    return f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"


def _timed(batches: Iterable[Batch], note: Callable[[float], None]) -> Iterator[Batch]:
    """The same batches; tells how long each was waited for."""
    iterator = iter(batches)
    while True:
        begin = time.perf_counter()
        batch = next(iterator, None)
        note(time.perf_counter() - begin)
        if batch is None:
            return
        yield batch
