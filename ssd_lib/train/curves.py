"""The history of a run as a picture: loss, AP and learning rate over the epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ssd_lib.files import atomic_write

PANELS = {  # title -> lines as (column, label, colour)
    "Loss": [("train_loss", "training, augmented", "#2a78c2"), ("val_loss", "validation", "#e07b27")],
    "AP on the validation images": [("AP50", "IoU 0.50", "#2a78c2"), ("AP", "IoU 0.50 to 0.95", "#3d9a50")],
    "Learning rate": [("learning_rate", "", "#5f6368")],
}


def draw_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw all epochs; the same history gives the same bytes.

    Args:
        path: a .png file.
        history: a row for each epoch, as in ComboCheckpoint.
    """
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, lines) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for column, label, colour in lines:
            _draw_line(axes, history, column, label, colour)
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _draw_line(axes: Axes, history: Sequence[Mapping[str, Any]], column: str, label: str, colour: str) -> None:
    points = [(row["epoch"], row[column]) for row in history if row.get(column) is not None]
    if points:
        marker = "o" if len(points) < len(history) or len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color=colour, label=label or None, linewidth=2, marker=marker, markersize=4)
