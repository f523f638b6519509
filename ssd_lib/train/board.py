"""TensorBoard: losses, speed and AP of a run, its parameters, validation images, PR curves and matched priors."""

import logging
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ssd_lib.checkpoint.fingerprint import NOT_IN_FINGERPRINT
from ssd_lib.errors import visible

AP_TAGS = {"AP/0.50 to 0.95": "AP", "AP/0.50": "AP50", "AP/0.75": "AP75"}  # over epochs: tag -> column of the history
LOSS_TAGS = {f"loss/{kind}{part.replace('_', ', ')}": f"{key}_loss{part}" for key, kind in
             (("train", "training"), ("val", "validation")) for part in ("", "_classification", "_box")}
CURVES_SHOWN = 20  # classes with a PR curve; each is a chart
CURVE_OBJECTS = 1000
JPEG_QUALITY = 90
SECTIONS = ("data", "model", "train")  # of params.yaml: what a run is named by
NAME_LENGTH = 100
HPARAMS = {"model": ("net", "image_size", "priors", "backbone_weights"),
           "train": ("lr", "optimizer", "batch_size", "epochs", "seed", "augmentation", "weight_decay", "ema_decay", "freeze")}
log = logging.getLogger(__name__)


class Shown(NamedTuple):
    """What TensorBoard shows of an epoch besides its row of the history.

    Attributes:
        levels: matched priors of each level in the validation images, the finest first.
        precisions: class -> (101,) precision at the recalls 0 to 1, IoU 0.5; empty if AP was not measured.
        image: (H, W, 3) uint8, validation images with ground truth and detections.
    """

    levels: tuple[int, ...]
    precisions: Mapping[str, np.ndarray]
    image: np.ndarray


class Board:
    """The event file of a run. Training goes on without it where it cannot be written.

    Steps and epochs are two axes: groups of tags that end in "by step" have steps. What an earlier process wrote at or after
    `step` is hidden, since it is written again.

    Args:
        folder: of the run; None writes nothing.
        step: steps done.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self.writer = None if folder is None else SummaryWriter(str(folder), purge_step=step)

    def scalars(self, values: Mapping[str, float], at: int) -> None:
        """Write values at a step or an epoch."""
        def add(writer: SummaryWriter) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag, value, at)
        self._write(add)

    def parameters(self, params: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the groups of params.yaml as text, and the telling ones for the tab of hyperparameters."""
        rows = [f"| {section}.{key} | {visible(str(value), 200)} |" for section, values in params.items()
                for key, value in values.items()]
        chosen = {f"{section}.{key}": value if isinstance(value, (bool, int, float)) else str(value)
                  for section, keys in HPARAMS.items() for key in keys
                  if (value := params.get(section, {}).get(key)) is not None}

        def add(writer: SummaryWriter) -> None:
            writer.add_text("parameters", "\n".join(["| key | value |", "|---|---|", *rows]))
            for summary in hparams(chosen, dict.fromkeys(AP_TAGS, 0.0)):
                writer._get_file_writer().add_summary(summary)  # add_hparams would begin a second run
        self._write(add)

    def epoch(self, row: Mapping[str, Any], shown: Shown) -> None:
        """Write the results of an epoch; `row` is that of the history."""
        epoch = row["epoch"]
        columns = {tag: row.get(column) for tag, column in {**LOSS_TAGS, **AP_TAGS}.items()}
        self.scalars({tag: value for tag, value in columns.items() if value is not None}, epoch)

        def add(writer: SummaryWriter) -> None:
            for name, precision in list(shown.precisions.items())[:CURVES_SHOWN]:
                _add_curve(writer, f"precision and recall/{visible(name, 60)}", precision, epoch)
            _add_levels(writer, np.array(shown.levels), epoch)
            writer._get_file_writer().add_summary(_jpeg("validation images", shown.image), epoch)
        self._write(add)
        self.flush()

    def flush(self) -> None:
        """Write to the disk what was given so far."""
        self._write(lambda writer: writer.flush())

    def close(self) -> None:
        """Close the event file."""
        self._write(lambda writer: writer.close())

    def _write(self, act: Callable[[SummaryWriter], Any]) -> None:
        if self.writer is not None:
            try:
                act(self.writer)
            except OSError as error:
                log.warning("TensorBoard's files cannot be written (%s); training goes on without them", error)
                self.writer = None


def board_folder(runs: Path, net: str, fingerprint: str, params_path: Path) -> Path:
    """Return the folder of a run: named by DVC's experiment or the net, by what differs from the committed params.yaml, and by
    the first digits of the fingerprint; the folder that a run has from before stays.
    """
    digits = fingerprint[:8]
    before = sorted(runs.glob(f"*-{digits}")) if runs.is_dir() else []
    return before[0] if before else runs / f"{_run_name(net, params_path)[:NAME_LENGTH]}-{digits}"


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Return key=value of the values in SECTIONS that make another run and differ from before, such as "lr=0.003"."""
    return [f"{key}={value}" for section in SECTIONS for key, value in (now.get(section) or {}).items()
            if value != (before.get(section) or {}).get(key) and not (section == "train" and key in NOT_IN_FINGERPRINT)]


def _run_name(net: str, params_path: Path) -> str:
    try:
        committed = subprocess.run(["git", "show", f"HEAD:./{params_path.name}"], cwd=params_path.resolve().parent,
                                   capture_output=True, check=True, timeout=10).stdout
        changed = differences(yaml.safe_load(params_path.read_bytes()), yaml.safe_load(committed))
    except (OSError, subprocess.SubprocessError, yaml.YAMLError, AttributeError, UnicodeDecodeError):
        changed = []  # no git, no commit yet, or none with this file
    words = [os.environ.get("DVC_EXP_NAME") or net, *changed]
    return re.sub(r"[^\w.=+-]+", "_", " ".join(words)).strip("_.")


def _jpeg(tag: str, image: np.ndarray) -> Summary:
    """Return an image of (H, W, 3) uint8 in a fifth of the bytes that `add_image` writes, which are a PNG's."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
    height, width = image.shape[:2]
    shown = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded.tobytes())
    return Summary(value=[Summary.Value(tag=tag, image=shown)])


def _add_levels(writer: SummaryWriter, levels: np.ndarray, epoch: int) -> None:
    at = np.arange(len(levels))
    writer.add_histogram_raw("matched priors by level (0 is the finest)", min=0, max=len(levels), num=int(levels.sum()),
                             sum=float(levels @ at), sum_squares=float(levels @ at**2), bucket_limits=(at + 1.0).tolist(),
                             bucket_counts=levels.tolist(), global_step=epoch)


def _add_curve(writer: SummaryWriter, tag: str, precision: np.ndarray, epoch: int) -> None:
    """Write a PR curve with the counts of CURVE_OBJECTS objects: the plugin cuts off points whose whole counts are 0."""
    falling, recall = np.clip(precision[::-1], 0, 1), np.linspace(1, 0, len(precision))
    right, none = CURVE_OBJECTS * recall, np.zeros_like(recall)
    wrong = np.divide(right * (1 - falling), falling, out=none.copy(), where=falling > 0)
    writer.add_pr_curve_raw(tag, right, wrong, none, CURVE_OBJECTS - right, falling, recall, epoch, num_thresholds=len(recall))
