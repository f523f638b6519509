"""What a run leaves: checkpoints on the way, the model and the reports at its end."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ssd_lib.checkpoint.file import BEST, CHECKPOINTS, read_checkpoint, save_checkpoint
from ssd_lib.data.loader import images_shown
from ssd_lib.distributed.collectives import rank_and_size
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import write_json
from ssd_lib.nets.model_file import MODEL_PATH, save_model
from ssd_lib.train.curves import draw_history
from ssd_lib.train.logger import TrainLogger, write_history
from ssd_lib.train.run_spec import RunSpec
from ssd_lib.train.state import TrainState, snapshot

HISTORY_PATH = Path("reports/history.csv")
CURVES_PATH = Path("reports/history.png")
SUMMARY_PATH = Path("reports/train.json")
SUMMARY_KEYS = ("epoch", "train_loss", "val_loss", "images_per_s")  # what `dvc metrics show` says of training


@dataclass
class CheckpointWriter:
    """Writes the checkpoints of a run, and remembers when it last did.

    Training waits while the state is copied, and not while the copy goes to the disk, in a thread. One is written at a time;
    that it could not be written is raised at the next call.
    """

    job: RunSpec
    state: TrainState
    journal: TrainLogger
    saved_at: float = field(default_factory=time.monotonic)
    saved: tuple[int, int] | None = None
    disk: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))
    writing: Future[None] | None = None
    writing_best: bool = False

    def save_if_due(self) -> None:
        """Save if `train.checkpoint_minutes` have passed, and the last one is on the disk."""
        if self.writing is None or self.writing.done():
            self.wait()
            if time.monotonic() - self.saved_at >= 60 * self.job.params.train.checkpoint_minutes:
                self.save()

    def save(self, is_best: bool = False) -> None:
        """Save this state, unless it is saved already.

        Raises:
            StateError: a loss since the last save, or a weight, is not finite; nothing is saved. Or the one before could not
                be written.
        """
        self.wait()
        position = self.state.epoch, self.state.step
        if position == self.saved:
            return
        self.journal.read()
        if not torch.stack([weight.isfinite().all() for weight in self.state.net.parameters()]).all():
            raise StateError(f"the weights are not finite after step {self.state.step} of epoch {self.state.epoch + 1}. Lower "
                             "train.lr or set train.precision: fp32. The last checkpoint is from before.")
        if rank_and_size()[0] == 0:
            checkpoint = snapshot(self.state, self.job.spec, self.job.fingerprint, self.job.digest, self.job.plain)
            self.writing_best = is_best
            self.writing = self.disk.submit(save_checkpoint, checkpoint, CHECKPOINTS, self.job.journal, is_best=is_best)
        self.saved_at, self.saved = time.monotonic(), position

    def wait(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            StateError: it could not be written; the checkpoints that were there are untouched.
        """
        if self.writing is not None:
            writing, self.writing, saved, self.saved = self.writing, None, self.saved, None
            writing.result()
            self.saved, self.writing_best = saved, False

    @contextmanager
    def rescue(self) -> Iterator[None]:
        """Save what can be saved if an image cannot be read, a loader process dies, or the like: faults that are raised
        between two steps, where the state is whole."""
        try:
            yield
            self.wait()
        except (InputError, StateError):
            with suppress(InputError, StateError):  # what is not finite is not saved, and the disk may be the fault
                self.wait()
                if not self.writing_best:  # a later checkpoint would know of a best epoch that best.pt never got
                    self.save()
                    self.wait()
            raise
        finally:
            self.disk.shutdown()


def finish(job: RunSpec, state: TrainState) -> str:
    """Write the model and the reports of a complete run."""
    weights = state.final_net.state_dict()
    if job.params.train.select == "best" and (CHECKPOINTS / BEST).exists():
        weights = read_checkpoint(CHECKPOINTS / BEST).final_weights
    last = state.history[-1]
    save_model(MODEL_PATH, job.spec, weights, {"fingerprint": job.fingerprint, "params": job.plain, "metrics": dict(last)})
    write_history(HISTORY_PATH, state.history)
    draw_history(CURVES_PATH, state.history)
    write_json(SUMMARY_PATH, {key: round(last[key], 4) for key in SUMMARY_KEYS}, indent=2)
    shown = images_shown(job.factors)
    balance = "" if shown == len(job.train_set) else f", {shown} shown in each"
    return f"train: {state.epoch} epochs of {len(job.train_set)} images{balance}, loss {last['train_loss']:.3f}, " + (
        f"AP50 {last['AP50']:.3f}, " if last.get("AP50") is not None else "") + f"model in {MODEL_PATH}"

