"""What a person sees of a run: the progress bar, a line an epoch, TensorBoard, history.csv."""

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ssd_lib.errors import StateError
from ssd_lib.files import write_text
from ssd_lib.train.epoch import StepResult

READ_EVERY_STEPS = 10  # losses stay on the device in between: reading them makes the host wait


class TrainLogger:
    """Follows the steps of a run. Losses are read, checked and shown every few steps.

    Args:
        name_of: from an image's index to its name, for the message about a loss that is not finite.
        batch_size: images a step, over all processes.
        position, total_steps: steps done and steps of the whole run.
        folder: of TensorBoard's event files.
        show: whether this process shows anything.
    """

    def __init__(self, name_of: Callable[[int], str], batch_size: int, position: int, total_steps: int, folder: Path,
                 show: bool) -> None:
        self.name_of, self.batch_size, self.position = name_of, batch_size, position
        self.waiting: list[StepResult] = []
        self.show = show
        self.board = SummaryWriter(str(folder), purge_step=position) if show else None
        self.bar = tqdm(total=total_steps, initial=position, unit="step", desc="train", disable=None if show else True,
                        dynamic_ncols=True)
        self._start_clock()

    def step(self, result: StepResult) -> None:
        """Note a step."""
        self.waiting.append(result)
        self.position += 1
        self.bar.update()
        if len(self.waiting) >= READ_EVERY_STEPS:
            self.read()

    def read(self) -> None:
        """Read the losses of the steps since the last time.

        Raises:
            StateError: one is not finite; its images are named. Nothing of these steps has been saved.
        """
        if not self.waiting:
            return
        losses = torch.stack([result.losses for result in self.waiting]).tolist()
        for result, (classification, box) in zip(self.waiting, losses, strict=True):
            if not math.isfinite(classification + box):
                self._refuse(result, classification, box)
        rate, mean = self.waiting[-1].rate, np.mean(losses, axis=0)
        self.waiting.clear()
        self.bar.set_postfix_str(f"loss {mean.sum():.3f}  lr {rate:.4f}  {self.images_per_s:.1f} img/s  "
                                 f"data {self.data_share:.0%}", refresh=False)
        self.scalars({"step/loss": mean.sum(), "step/loss_classification": mean[0], "step/loss_box": mean[1],
                      "step/learning_rate": rate, "step/images_per_s": self.images_per_s})

    def wait_for(self, seconds: float) -> None:
        """Note time spent waiting for a batch."""
        self.waited_s += seconds

    @property
    def images_per_s(self) -> float:
        """Since the epoch began, or since the start if that was later."""
        return self.batch_size * (self.position - self.clock_position) / max(self.seconds, 1e-9)

    @property
    def data_share(self) -> float:
        """Share of that time spent waiting for data."""
        return self.waited_s / max(self.seconds, 1e-9)

    @property
    def seconds(self) -> float:
        """Length of that time."""
        return time.perf_counter() - self.clock_start

    def epoch_done(self, row: Mapping[str, Any], epochs: int, picture: np.ndarray | None) -> None:
        """Print the line of an epoch and write it to TensorBoard."""
        self.scalars({f"epoch/{key}": value for key, value in row.items() if isinstance(value, float)})
        if picture is not None:
            self._write(lambda board: board.add_image("validation", picture, self.position, dataformats="HWC"))
        self._write(lambda board: board.flush())
        if self.show:
            self.bar.write(epoch_line(row, epochs))
        self._start_clock()

    def scalars(self, values: Mapping[str, float]) -> None:
        """Write to TensorBoard."""
        def add(board: SummaryWriter) -> None:
            for name, value in values.items():
                board.add_scalar(name, value, self.position)
        self._write(add)

    def close(self) -> None:
        """End the bar and the event file."""
        self._write(lambda board: board.close())
        self.bar.close()

    def _write(self, act: Callable[[SummaryWriter], Any]) -> None:
        """Let TensorBoard write; a full disk must not cost the run what came after its last checkpoint."""
        if self.board is not None:
            try:
                act(self.board)
            except OSError as error:
                self.bar.write(f"WARNING TensorBoard's files cannot be written ({error}); training goes on without them")
                self.board = None

    def _start_clock(self) -> None:
        self.clock_start, self.clock_position, self.waited_s = time.perf_counter(), self.position, 0.0

    def _refuse(self, result: StepResult, classification: float, box: float) -> None:
        names = ", ".join(f"'{self.name_of(int(index))}'" for index in result.indices)
        raise StateError(f"the loss is not finite near step {self.position} (labels {classification:.3g}, offsets {box:.3g}); "
                         f"images {names}. Lower train.lr or set train.precision: fp32. The last checkpoint is from before.")


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """An epoch in one line."""
    minutes, seconds = divmod(round(row["seconds"]), 60)
    ap = f"  AP {row['AP']:.3f}  AP50 {row['AP50']:.3f}" if row.get("AP") is not None else ""
    return (f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f} (cls {row['train_loss_classification']:.3f} "
            f"box {row['train_loss_box']:.3f})  val {row['val_loss']:.3f}{ap}  lr {row['learning_rate']:.4f}  "
            f"{row['images_per_s']:.0f} img/s (data {row['data_share']:.0%})  {minutes} m {seconds:02d} s")


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write all epochs as CSV, one row each; it is made anew from the checkpoint's history, so nothing in it can be lost."""
    text = io.StringIO()
    columns = list(dict.fromkeys(key for row in history for key in row))
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: round(v, 6) if isinstance(v, float) else v for key, v in row.items()} for row in history)
    write_text(path, text.getvalue())
