"""Write the checkpoints of a run, and at its end the model and the reports."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.checkpoint.best_epoch import stop_reason
from ssd_lib.checkpoint.file import BEST, CHECKPOINTS, PREVIOUS, read_checkpoint, save_checkpoint
from ssd_lib.data.loader import images_per_epoch
from ssd_lib.distributed.collectives import rank_and_size
from ssd_lib.errors import InputError, StateError, memory_as_state_error, plural
from ssd_lib.files import write_json
from ssd_lib.nets.model_file import MODEL_PATH, save_model
from ssd_lib.train.logger import TrainLogger, draw_history, write_ap, write_history
from ssd_lib.train.run_spec import RunSpec
from ssd_lib.train.state import TrainState, snapshot

HISTORY_PATH = Path("reports/history.csv")
AP_PATH = Path("reports/ap.csv")
CURVES_PATH = Path("reports/history.png")
SUMMARY_PATH = Path("reports/train.json")
SUMMARY_KEYS = ("epoch", "train_loss", "val_loss", "images_per_s")


@dataclass
class CheckpointWriter:
    """Write the checkpoints of a run.

    Training waits while the state is copied, but not while a thread writes the copy to disk. One checkpoint is written at a
    time; an error in writing it is raised at the next call.
    """

    run_spec: RunSpec
    state: TrainState
    logger: TrainLogger
    saved_at: float = field(default_factory=time.monotonic)
    saved: tuple[int, int] | None = None
    disk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))
    writing: Future[None] | None = None
    writing_best: bool = False

    def save_if_due(self) -> None:
        """Save if `train.checkpoint_minutes` have passed and the previous checkpoint is on disk."""
        if self.writing is None or self.writing.done():
            self.wait()
            if time.monotonic() - self.saved_at >= 60 * self.run_spec.params.train.checkpoint_minutes:
                self.save()

    def save(self, is_best: bool = False) -> None:
        """Start to save this state, unless it is saved already.

        Raises:
            StateError: a loss since the last save, or a weight, is not finite, and nothing is saved; or the previous checkpoint
                could not be written.
        """
        self.wait()
        position = self.state.epoch, self.state.step
        if position == self.saved:
            return
        self.logger.read()
        if not torch.stack([weight.isfinite().all() for weight in self.state.net.parameters()]).all():
            raise StateError(f"the weights are not finite after step {self.state.step} of epoch {self.state.epoch + 1}. Lower "
                             "train.lr or set train.precision: fp32. The last checkpoint is from before.")
        if rank_and_size()[0] == 0:
            spec = self.run_spec
            checkpoint = snapshot(self.state, spec.net_spec, spec.fingerprint, spec.data_digest, spec.params_dict)
            self.writing_best = is_best
            self.writing = self.disk.submit(save_checkpoint, checkpoint, CHECKPOINTS, spec.resume_dir, is_best=is_best)
            self.logger.board.flush()  # what comes before a checkpoint is not written again
        self.saved_at, self.saved = time.monotonic(), position

    def wait(self) -> None:
        """Wait until the checkpoint is on disk.

        Raises:
            StateError: it could not be written; the checkpoints that were there are unchanged.
        """
        if self.writing is not None:
            writing, self.writing, saved, self.saved = self.writing, None, self.saved, None
            writing.result()
            self.saved, self.writing_best = saved, False

    @contextmanager
    def save_on_error(self) -> Iterator[None]:
        """Save if an image cannot be read, a loader process dies, or the like: errors that are raised between two steps,
        where the state is consistent."""
        try:
            yield
            self.wait()
        except (InputError, StateError):
            with suppress(InputError, StateError), memory_as_state_error():  # not finite, or disk or memory are the problem
                self.wait()
                if not self.writing_best:  # else the checkpoint would name a best epoch that best.pt does not hold
                    self.save()
                    self.wait()
            raise
        finally:
            self.disk.shutdown()


def finish(run_spec: RunSpec, state: TrainState) -> str:
    """Write the model and the reports of a complete run, delete its previous checkpoint, and return a line of summary.

    Raises:
        StateError: `train.select` is best, and the checkpoint of the best epoch is damaged or gone.
    """
    is_best = run_spec.params.train.select == "best"
    weights = _best_weights(run_spec, state) if is_best else state.final_net.state_dict()
    last = state.history[-1]
    about = {"fingerprint": run_spec.fingerprint, "params": run_spec.params_dict, "metrics": dict(last)}
    postprocess = Postprocess.from_plain(run_spec.params_dict["postprocess"])
    save_model(MODEL_PATH, run_spec.net_spec, weights, about,
               postprocess._replace(class_thresholds=_class_thresholds(run_spec, state, weights)))
    write_history(HISTORY_PATH, state.history)
    write_ap(AP_PATH, state.history)
    draw_history(CURVES_PATH, state.history)
    reason = stop_reason(state.history, state.best, run_spec.params_dict["train"])
    ended = reason if state.epoch < run_spec.params.train.epochs else ""
    write_json(SUMMARY_PATH, {key: round(last[key], 4) for key in SUMMARY_KEYS} | ({"ended_early": ended} if ended else {}),
               indent=2)
    for folder in (CHECKPOINTS, run_spec.resume_dir):  # more epochs continue from last.pt; DVC would cache it for each run
        (folder / PREVIOUS).unlink(missing_ok=True)
    images, shown = len(run_spec.train_set), images_per_epoch(run_spec.repeat_factors)
    balance = "" if shown == images else f", {shown} shown in each"
    ap = f"AP50 {last['AP50']:.3f}, " if last.get("AP50") is not None else ""
    early = f"ended after {state.epoch} of {run_spec.params.train.epochs} epochs, since {ended}; " if ended else ""
    return (f"train: {early}{plural(state.epoch, 'epoch')} of {plural(images, 'image')}{balance}, "
            f"loss {last['train_loss']:.3f}, {ap}model in {MODEL_PATH}")


def _class_thresholds(run_spec: RunSpec, state: TrainState, weights: dict[str, Tensor]) -> tuple[float, ...]:
    """Return the score thresholds of the classes, chosen on the validation images with the weights that are written."""
    device = next(state.net.parameters()).device
    net = run_spec.net_spec.build()
    net.load_state_dict(weights)
    return tuple(run_spec.measure(net.to(device), run_spec.val_set, device=device).get("class_thresholds", ()))


def _best_weights(run_spec: RunSpec, state: TrainState) -> dict[str, Tensor]:
    path, reason = CHECKPOINTS / BEST, ""
    try:
        best = read_checkpoint(path)
        if best.fingerprint != run_spec.fingerprint:
            reason = "it is of another run"
        elif state.best is not None and (best.best is None or best.best < state.best):
            reason = f"it is of epoch {best.epoch}, which is not the best one"
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ").rstrip(".")
    if reason:
        raise StateError(f"{path}: the best epoch, which train.select: best asks for, is lost ({reason}); no model is written. "
                         "Set train.select: last to take the last epoch, then run the same command again: it does not train "
                         "again.")
    return best.final_weights
