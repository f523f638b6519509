"""Show a run: progress bar, one line per epoch, history.csv and ap.csv, and the curves in history.png."""

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write, write_text
from ssd_lib.train.board import Board, Shown
from ssd_lib.train.epoch import StepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READ_EVERY_STEPS = 10  # losses stay on the device in between: reading them makes the host wait
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # leaves room for the bar in 80 columns
WAITING_SHOWN = 0.1  # share of an epoch spent waiting for data from which on the line of the epoch says so
AP_COLUMNS = ("epoch", "AP50", "AP")
PANELS = {  # of history.png: title -> lines as (column, label, colour)
    "Loss": [("train_loss", "training, augmented", "#2a78c2"), ("val_loss", "validation", "#e07b27")],
    "AP on the validation images": [("AP50", "IoU 0.50", "#2a78c2"), ("AP", "IoU 0.50 to 0.95", "#3d9a50")],
    "Learning rate": [("learning_rate", "", "#5f6368")],
}


class TrainLogger:
    """Log the steps of a run. Losses are read, checked and shown every READ_EVERY_STEPS steps.

    Args:
        name_of: maps an image's index to its name, for the error about a loss that is not finite.
        batch_size: images per step, over all processes.
        position, total_steps: steps done, and steps of the whole run.
        board: TensorBoard's event file.
        show: whether this process shows anything.
    """

    def __init__(self, name_of: Callable[[int], str], batch_size: int, position: int, total_steps: int, board: Board,
                 show: bool) -> None:
        self.name_of, self.batch_size, self.position = name_of, batch_size, position
        self.waiting: list[StepResult] = []
        self.show, self.board = show, board
        self.bar = tqdm(total=total_steps, initial=position, desc="train", disable=None if show else True, bar_format=BAR,
                        dynamic_ncols=True)
        self._start_clock()

    def step(self, result: StepResult) -> None:
        """Record a step."""
        self.waiting.append(result)
        self.position += 1
        self.bar.update()
        if len(self.waiting) >= READ_EVERY_STEPS:
            self.read()

    def begin_validation(self) -> None:
        """Say why the bar stands still."""
        self.bar.set_postfix_str("validating")

    def read(self) -> None:
        """Read the losses of the steps since the last call.

        Raises:
            StateError: a loss is not finite; its images are named. Nothing of these steps has been saved.
        """
        if not self.waiting:
            return
        rows = torch.stack([torch.cat([result.losses, result.gradient_norm.reshape(1)]) for result in self.waiting]).tolist()
        for result, (classification, box, _) in zip(self.waiting, rows, strict=True):
            if not math.isfinite(classification + box):
                self._refuse(result, classification, box)
        rate, (classification, box, norm) = self.waiting[-1].rate, np.mean(rows, axis=0).tolist()
        self.waiting.clear()
        self.bar.set_postfix_str(f"loss {classification + box:.3f}, {self.images_per_s:.0f} img/s", refresh=False)
        self.board.scalars({
            "loss by step/total": classification + box, "loss by step/classification": classification, "loss by step/box": box,
            "optimizer by step/learning rate": rate, "optimizer by step/gradient norm": norm,
            "speed by step/images per s": self.images_per_s, "speed by step/share of waiting": self.data_share,
        }, self.position)

    def add_waiting_time(self, seconds: float) -> None:
        """Record time spent waiting for a batch."""
        self.waited_s += seconds

    @property
    def images_per_s(self) -> float:
        """Return the speed since the epoch began, or since the process started if that was later."""
        return self.batch_size * (self.position - self.clock_position) / max(self.seconds, 1e-9)

    @property
    def data_share(self) -> float:
        """Return the share of that time spent waiting for data."""
        return self.waited_s / max(self.seconds, 1e-9)

    @property
    def seconds(self) -> float:
        """Return the length of that time."""
        return time.perf_counter() - self.clock_start

    def epoch_done(self, row: Mapping[str, Any], epochs: int, shown: Shown | None) -> None:
        """Print the line of an epoch, write it to TensorBoard, and begin to measure the next one."""
        if shown:
            self.board.epoch(row, shown)
        if self.show:
            self.bar.write(epoch_line(row, epochs))
        self._start_clock()

    def close(self) -> None:
        """Close the bar and the event file."""
        self.board.close()
        self.bar.close()

    def _start_clock(self) -> None:
        self.clock_start, self.clock_position, self.waited_s = time.perf_counter(), self.position, 0.0

    def _refuse(self, result: StepResult, classification: float, box: float) -> None:
        names = ", ".join(f"'{self.name_of(int(index))}'" for index in result.indices)
        raise StateError(f"the loss is not finite near step {self.position} (labels {classification:.3g}, offsets {box:.3g}); "
                         f"images {names}. Lower train.lr or set train.precision: fp32. The last checkpoint is from before.")


def epoch_line(row: Mapping[str, Any], epochs: int) -> str:
    """Format an epoch as one line of at most 80 columns."""
    minutes, seconds = divmod(round(row["seconds"]), 60)
    ap = f"  AP {row['AP']:.3f}  AP50 {row['AP50']:.3f}" if row.get("AP") is not None else ""
    waiting = f"  waits {row['data_share']:.0%}" if row["data_share"] >= WAITING_SHOWN else ""
    return (f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f} (val {row['val_loss']:.3f}){ap}  "
            f"{row['images_per_s']:.0f} img/s{waiting}  {minutes}:{seconds:02d}")


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write all epochs as CSV, one row each. The history comes from the checkpoint, so a deleted file is written again."""
    _write_table(path, list(dict.fromkeys(key for row in history for key in row)), history)


def write_ap(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write AP_COLUMNS of the epochs whose AP was measured as CSV: `dvc plots` draws a missing value as 0."""
    measured = [row for row in history if row.get("AP") is not None]
    _write_table(path, AP_COLUMNS, [{key: row[key] for key in AP_COLUMNS} for row in measured])


def _write_table(path: Path, columns: Sequence[str], history: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: round(v, 6) if isinstance(v, float) else v for key, v in row.items()} for row in history)
    write_text(path, text.getvalue())


def draw_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw loss, AP and learning rate over the epochs; the same history gives the same bytes.

    Args:
        path: a .png file.
        history: one dict per epoch, as in ComboCheckpoint.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, not before the first step: it takes most of a second
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for column, label, colour in lines:
            _draw_line(axes, history, column, label, colour)
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
        axes.set_xlim(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _draw_line(axes: "Axes", history: Sequence[Mapping[str, Any]], column: str, label: str, colour: str) -> None:
    points = [(row["epoch"], row[column]) for row in history if row.get(column) is not None]
    if points:
        marker = "o" if len(points) < len(history) or len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color=colour, label=label or None, linewidth=2, marker=marker, markersize=4)
