"""Training, from data/fixed to models/ssd.pt: owns the loop over epochs, and when what is saved."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.nn.parallel import DistributedDataParallel

from ssd_lib.checkpoint.combo import CHECKPOINTS
from ssd_lib.checkpoint.lock import make_ready, only_writer
from ssd_lib.checkpoint.pruning import prune
from ssd_lib.data.cache import open_cache
from ssd_lib.data.dataset import Batch, DetectionDataset
from ssd_lib.data.fixed_set import FixedSet, load_fixed
from ssd_lib.data.loader import batches_from, evaluation_batches, load_batches, on_device, worker_count
from ssd_lib.data.transforms import build_transform
from ssd_lib.device import choose_algorithms, pick_device
from ssd_lib.distributed import launch, meet, process_count, rank_and_size, share_buffers, sum_over_processes
from ssd_lib.errors import StateError, Stopped
from ssd_lib.manifest import FIXED_FOLDER, HEAL, Manifest
from ssd_lib.nets.model_file import MODEL_PATH
from ssd_lib.params import Params
from ssd_lib.processes import die_with_parent, keep_freed_memory
from ssd_lib.train.engine import train_epoch, validation_losses
from ssd_lib.train.given import given_path
from ssd_lib.train.initial import balance_of, initial_weights, make_spec, report_priors
from ssd_lib.train.journal import StepJournal
from ssd_lib.train.optim import learning_rate
from ssd_lib.train.precision import pick_precision
from ssd_lib.train.resume import MODES, choose_start, data_digest, make_fingerprint, runs_folder
from ssd_lib.train.saving import Draw, Job, Measure, Saver, finish
from ssd_lib.train.state import TrainState, new_state, restore
from ssd_lib.train.stopping import StopRequested, StopWish

WRITER_LOCK = "writer.lock"  # held by the process that writes; with several processes that is not the one that started
PICTURES = 8  # validation images drawn for TensorBoard

def fit(params: Params, manifest: Manifest, measure: Measure, draw: Draw) -> str:
    """Train as params.yaml says, or continue; write the model when, and only when, all epochs are done.

    Returns:
        A line of summary.

    Raises:
        Stopped: a signal came; a checkpoint is saved.
        InputError, StateError: the data, the parameters or the machine do not allow it.
    """
    if not die_with_parent(signal.SIGTERM):
        print(f"WARNING on {sys.platform} training outlives a killed dvc: stop it yourself", file=sys.stderr)
    processes = process_count(params.runtime.processes, params.runtime.device, params.train.batch_size)
    train_set, val_set = load_fixed("train"), load_fixed("val")
    for split in (train_set, val_set):
        _check_images(split, manifest)
    plain = params.model_dump(mode="json", include={"data", "fix", "model", "train"})
    digest = data_digest(FIXED_FOLDER)
    fingerprint = make_fingerprint(plain, digest)
    spec = make_spec(params.model, train_set)
    own = runs_folder() / "resume" / fingerprint
    with only_writer(CHECKPOINTS.parent), only_writer(own):
        with only_writer(CHECKPOINTS.parent, WRITER_LOCK):
            pass  # the first of several processes may still be saving when the one that holds the other locks was killed
        MODEL_PATH.unlink(missing_ok=True)
        for folder in (CHECKPOINTS.parent, CHECKPOINTS, own):
            make_ready(folder)
        journal, resume = runs_folder() / "resume", params.train.resume
        start, lines = choose_start(plain, fingerprint, digest, asdict(spec), CHECKPOINTS, journal)
        needed = [own] if resume in MODES else [own, given_path(resume).parent]
        lines += prune(journal, needed, params.runtime.keep_runs, params.runtime.keep_days)
        weights, begun = (None, []) if start is not None else initial_weights(spec, params.model, params.train.seed)
        lines += [*begun, report_priors(spec.build(), train_set, is_fitted=params.model.priors == "auto")]
        print(*lines, sep="\n", flush=True)
        seed, size = params.train.seed, params.model.image_size
        on_gpu = params.runtime.device != "cpu" and torch.cuda.is_available()
        return launch(_train_process, processes, on_gpu, Job(
            params, plain, spec,
            DetectionDataset(train_set, manifest.path, build_transform(params.train.augmentation, size), seed,
                             open_cache(params.data.cache, size, train_set, manifest)),
            balance_of(train_set, params.data),
            DetectionDataset(val_set, manifest.path, build_transform("none", size)),
            digest, fingerprint, start, weights, measure, draw))


def _train_process(job: Job) -> str:
    """Train in one of the processes; raises Stopped once all is saved that a stop signal must not cost."""
    keep_freed_memory()
    rank, size = rank_and_size()
    device = pick_device(_own_device() if size > 1 else job.params.runtime.device)
    precision = pick_precision(job.params.train.precision, device)
    choose_algorithms(job.params.train.deterministic)
    state = new_state(job.spec, job.params.train, device, precision, job.weights)
    if job.start is not None:
        restore(state, job.start)
        if (job.start.params["train"]["ap_every_epochs"] > 0) != (job.params.train.ap_every_epochs > 0):
            state.best = None  # an AP is not to be compared with a loss
    position = state.epoch * job.steps + state.step
    board = runs_folder() / "tb" / f"{job.spec.net}-{job.fingerprint[:8]}"
    journal = StepJournal(job.train_set.fixed.file_name, job.params.train.batch_size, position,
                          job.params.train.epochs * job.steps, board, show=rank == 0)
    saver = Saver(job, state, journal)
    wish = StopWish(second_interrupts=size == 1)
    alone = only_writer(CHECKPOINTS.parent, WRITER_LOCK) if rank == 0 else nullcontext()
    with alone, wish.listen(), closing(journal), saver.rescue():
        try:
            _train_epochs(job, state, journal, saver, wish, device, precision)
            saver.wait()
            wish.check()
        except BackendCompilerFailed as error:
            raise StateError(f"train.compile: the net cannot be compiled here ({str(error).splitlines()[0]}). It takes a C++ "
                             "compiler, and Triton for a GPU; set train.compile: false.") from error
        except StopRequested:
            saver.save()
            saver.wait()
            number, epochs = signal.Signals(wish.signal_number or signal.SIGTERM), job.params.train.epochs
            raise Stopped(
                f"stopped by {number.name} at epoch {min(state.epoch + 1, epochs)}/{epochs}, step {state.step}/{job.steps}; "
                f"saved in {CHECKPOINTS}. The same command continues from there.", number) from None
    return finish(job, state) if rank == 0 else ""


def _train_epochs(job: Job, state: TrainState, journal: StepJournal, saver: Saver, wish: StopWish,
                  device: torch.device, precision: torch.dtype) -> None:
    """The epochs from the state's position to the last."""
    train, (rank, size) = job.params.train, rank_and_size()
    # Looking for unused parameters keeps the gradients' buckets as they are: rebuilt after the first step, they would be summed
    # in another order there than in a run that started earlier.
    compiled = cast(nn.Module, torch.compile(state.net)) if train.compile else state.net
    replica = compiled if size == 1 else DistributedDataParallel(compiled, find_unused_parameters=True)
    workers = worker_count(job.params.runtime.workers, size)
    keys = batches_from(job.factors, train.batch_size, train.seed, state.epoch, state.step, train.epochs, rank, size)
    with closing(load_batches(job.train_set, keys, workers, device.type == "cuda")) as loaded:
        batches = _timed(on_device(loaded, device), journal.wait_for)
        while state.epoch < train.epochs:
            for result in train_epoch(state, replica, batches, job.steps, train, precision):
                journal.step(result)
                saver.save_if_due()
                _agree_on_stop(wish, size, device)
            journal.read()
            saver.wait()  # validation forks loader processes, and a fork must not meet a thread that writes
            with wish.at_once():
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


def _validate(job: Job, state: TrainState, journal: StepJournal, workers: int, device: torch.device,
              precision: torch.dtype) -> tuple[dict[str, Any], np.ndarray | None]:
    """The row of the epoch that is trained, and a picture; changes nothing."""
    train, (rank, size) = job.params.train, rank_and_size()
    classification, box, steps = state.totals.tolist()
    pace = {"images_per_s": journal.images_per_s, "data_share": journal.data_share, "seconds": journal.seconds}
    share_buffers(state.net)
    share_buffers(state.final_net)
    keys = evaluation_batches(len(job.val_set), train.batch_size, rank, size)
    val_classification, val_box = validation_losses(
        state.final_net, load_batches(job.val_set, keys, workers), device, precision)
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
                         f"of {len(names)}. {HEAL}.")


def _agree_on_stop(wish: StopWish, processes: int, device: torch.device) -> None:
    """Raise StopRequested in all processes after the same step, if one was asked to stop."""
    if processes > 1:
        asked = sum_over_processes(torch.tensor(float(wish.signal_number is not None), device=device)).item()
        if asked:
            raise StopRequested
    else:
        wish.check()


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
