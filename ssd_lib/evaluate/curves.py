"""Precision-recall curves and the confusion of classes as tables for `dvc plots`; the curves also as an image."""

import csv
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ssd_lib.annotations.fixed_set import BACKGROUND_NAME
from ssd_lib.errors import visible
from ssd_lib.files import atomic_write, write_text

CURVES = {"IoU 0.50": slice(0, 1), "IoU 0.75": slice(5, 6), "IoU 0.50 to 0.95": slice(None)}  # along COCO's ten IoUs
COLOURS = {"IoU 0.50": "#2a78c2", "IoU 0.75": "#e07b27", "IoU 0.50 to 0.95": "#3d9a50"}
RECALLS = np.linspace(0, 1, 101)
MAX_BARS = 30
GREY = "#5f6368"


def write_curves(path: Path, precision: np.ndarray) -> None:
    """Write a table of recall and, for each entry of `CURVES`, precision averaged over the classes.

    Args:
        path: a .csv file.
        precision: (10, 101, K, areas, limits), `COCOeval.eval["precision"]`.
    """
    columns = [mean_curve(precision, ious) for ious in CURVES.values()]
    rows = [",".join(f"{value:.4f}" for value in row) for row in zip(RECALLS, *columns, strict=True)]
    write_text(path, "\n".join([",".join(["recall", *CURVES]), *rows]) + "\n")


def write_class_curves(path: Path, precision: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Write a row with class, recall and precision at IoU 0.5 for each class with ground truth and each second recall.

    The template .dvc/plots/classes.json of `dvc plots` draws a line for each class.

    Args:
        path: a .csv file.
        precision: see `write_curves`.
        class_names: K names.
    """
    curves, text = precision[0, :, :, 0, -1], StringIO()  # (101, K)
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["class", "recall", "precision"])
    for name, curve in zip(class_names, curves.T, strict=True):
        if (curve > -1).all():
            table.writerows([visible(name), f"{recall:.2f}", f"{value:.4f}"]
                            for recall, value in zip(RECALLS[::2], curve[::2], strict=True))
    write_text(path, text.getvalue())


def write_confusion(path: Path, confused: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Write one row for each object or wrong detection, as the template `confusion` of `dvc plots` counts them.

    Args:
        path: a .csv file.
        confused: (K + 1, K + 1), of `error_kinds.confusion`.
        class_names: K names.
    """
    names = [visible(name) for name in (*class_names, BACKGROUND_NAME)]
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["actual", "predicted"])
    for row, column in np.argwhere(confused).tolist():
        table.writerows([[names[row], names[column]]] * confused[row, column])
    write_text(path, text.getvalue())


def draw_curves(path: Path, precision: np.ndarray, class_names: tuple[str, ...]) -> None:
    """Draw the curves beside the AP of each class, best first; of many classes, only the best and the worst.

    Args:
        path: a .png file; equal numbers give equal bytes.
        precision: see `write_curves`.
        class_names: K names.
    """
    bars = min(len(class_names), MAX_BARS)
    figure = Figure(figsize=(11, max(5.2, 1.2 + 0.2 * bars)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    for name, ious in CURVES.items():
        curve = mean_curve(precision, ious)
        left.plot(RECALLS, curve, color=COLOURS[name], linewidth=2, label=f"{name}: AP {curve.mean():.3f}")
    left.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    left.set_title("Precision and recall, mean of all classes", loc="left")
    left.set_box_aspect(1)
    left.set_anchor("N")
    left.legend(frameon=False, loc="lower left")
    _draw_bars(right, precision, class_names)
    _tidy(left, "both")
    _tidy(right, "x")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})


def mean_curve(precision: np.ndarray, ious: slice) -> np.ndarray:
    """Return (101,) precision at each recall, averaged over the classes with ground truth; zeros if there are none."""
    chosen = precision[ious, :, :, 0, -1]  # (IoUs, 101, K)
    known = chosen[:, :, (chosen > -1).all(axis=(0, 1))]
    return known.mean(axis=(0, 2)) if known.size else np.zeros(len(RECALLS))


def _draw_bars(axes: Axes, precision: np.ndarray, class_names: tuple[str, ...]) -> None:
    ap = precision[:, :, :, 0, -1].mean(axis=(0, 1))  # (K,)
    order = [k for k in np.argsort(-ap, kind="stable") if ap[k] > -1]
    title = "AP of each class"
    if len(order) > MAX_BARS:
        order = order[:MAX_BARS // 2] + order[-MAX_BARS // 2:]
        title = f"AP of the {MAX_BARS // 2} best and the {MAX_BARS // 2} worst classes"
    rows = range(len(order))
    axes.barh(rows, ap[order], color=COLOURS["IoU 0.50 to 0.95"], height=0.7)
    axes.set_yticks(rows, [visible(class_names[k], 40) for k in order], parse_math=False)  # a name may hold dollars
    axes.set_ylim(len(order) - 0.5, -0.5)
    for row, k in enumerate(order):
        axes.text(ap[k] + 0.01, row, f"{ap[k]:.2f}", va="center", color=GREY, fontsize=9)
    axes.set(xlim=(0, 1), xlabel="AP at IoU 0.50 to 0.95")
    axes.set_title(title, loc="left")


def _tidy(axes: Axes, grid: Literal["both", "x"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
