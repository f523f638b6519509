"""Draw the training loss of a run that is killed three times and continued, beside one that is never stopped.

    python -m benchmarks.resume_curve docs/pictures/resume.png

Both runs are the stage `train` on the demo's images in a new clone; every kill is SIGKILL in the middle of an epoch. The third
curve is what a trainer computes that begins the epoch again: drawn with the losses of the first run, which is kind to it, since
most such trainers also lose the state of the optimizer.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.clone import environment, make_clone
from benchmarks.kill_campaign import weights_hash
from ssd_lib.checkpoint.file import CHECKPOINTS, LAST, read_checkpoint
from ssd_lib.errors import InputError, StateError

EPOCHS, STEPS = 3, 75  # 1200 images in batches of 16
KILLS = (40, 110, 185)  # steps from which on the checkpoint on the disk makes us kill
SETTINGS = {"train": {"epochs": EPOCHS, "ap_every_epochs": 0, "checkpoint_minutes": 0.05},
            "runtime": {"threads": 1}}  # auto sees how busy the machine is, and the number of threads changes the rounding
TAG = "loss by step/total"
WINDOW = 9  # steps of a point


def main() -> None:
    """Train twice and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume_curve", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("png", type=Path)
    path = parser.parse_args().png.resolve()
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = (make_clone(Path(folder) / name, SETTINGS) for name in ("whole", "killed"))
        for clone in (whole, killed):
            for stage in ("download", "validate", "fix_annotations"):
                start(clone, stage).wait()
        start(whole, "train").wait()
        places = [kill_after(killed, step) for step in KILLS]
        start(killed, "train").wait()
        verdict = "equal bit for bit" if weights_hash(whole) == weights_hash(killed) else "DIFFERENT"
        draw(path, losses(whole), losses(killed), places, verdict)
    print(f"{path}: killed, and continued from steps {places}; the final weights are {verdict}")


def start(clone: Path, stage: str) -> subprocess.Popen[bytes]:
    """Start a stage."""
    return subprocess.Popen([sys.executable, "-m", f"stages.{stage}"], cwd=clone, env=environment(clone),
                            stdout=subprocess.DEVNULL)


def kill_after(clone: Path, step: int) -> int:
    """Start or continue training, and kill it when a checkpoint of this step or a later one is on the disk; return which."""
    training, at = start(clone, "train"), -1
    while at < step and training.poll() is None:
        time.sleep(0.2)
        try:
            last = read_checkpoint(clone / CHECKPOINTS / LAST)
            at = last.epoch * STEPS + last.step
        except (InputError, StateError, OSError):
            continue  # none yet
    training.send_signal(signal.SIGKILL)
    training.wait()
    return at


def losses(clone: Path) -> np.ndarray:
    """Return (N,) the mean loss of each WINDOW steps of a run.

    TensorBoard has means of up to ten steps, of fewer before a checkpoint, so that two equal runs differ in where they end.
    """
    folder, = (clone / "runs/tb").iterdir()
    ends, means = np.array([(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars(TAG)]).T
    sums = np.cumsum(means * np.diff(ends, prepend=0))
    return np.diff(np.interp(np.arange(0, EPOCHS * STEPS + 1, WINDOW), [0, *ends], [0, *sums])) / WINDOW


def draw(path: Path, whole: np.ndarray, killed: np.ndarray, kills: list[int], verdict: str) -> None:
    """Draw the three curves over the steps that were computed."""
    steps = np.arange(len(whole)) * WINDOW + WINDOW / 2
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    again, begin = [], 0
    for end in (*kills, EPOCHS * STEPS):  # a process trains from the beginning of an epoch to the kill
        again += [np.interp(np.arange(begin, end), steps, whole), [np.nan]]
        begin = end // STEPS * STEPS
    axes.plot(np.concatenate(again), color="#e07b27", linewidth=1.5,
              label="killed, begins the epoch again (same losses assumed)")
    axes.plot(steps, whole, color="#2a78c2", linewidth=2, label="never stopped")
    axes.plot(steps, killed, "o", color="#2a78c2", markersize=5, markerfacecolor="white",
              label=f"killed three times, continued: the final weights are {verdict}")
    for kill in kills:
        axes.axvline(kill, color="#5f6368", linewidth=1, linestyle=":")
        axes.annotate("kill -9", (kill, 1), xycoords=("data", "axes fraction"), xytext=(3, -10), textcoords="offset points",
                      color="#5f6368", fontsize=8)
    axes.set(xlabel="steps computed", ylabel="training loss", xlim=(0, None))
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
