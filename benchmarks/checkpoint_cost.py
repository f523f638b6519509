"""The cost of a checkpoint: how long training waits for it, how long writing takes, and its share of training time.

    python -m benchmarks.checkpoint_cost

The same steps run with one checkpoint among them and with none, in turn; the cost of a checkpoint is the difference.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import torch

from ssd_lib.checkpoint.file import CHECKPOINTS, LAST
from ssd_lib.data.dataset import Batch
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.params import Params, load_params
from ssd_lib.train.checkpoint_writer import CheckpointWriter
from ssd_lib.train.epoch import train_epoch
from ssd_lib.train.state import TrainState, new_state, snapshot

NETS = [("mb2-ssd-lite", 160, 0.5, 6), ("mb2-ssd-lite", 300, 1.0, 80)]  # net, image size, width, classes
BATCH = 8
MANY_STEPS = 1_000_000


def main() -> None:
    """Measure every net and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="of a measurement")
    parser.add_argument("--pairs", type=int, default=9, help="of measurements, with and without a checkpoint")
    options = parser.parse_args()
    params = load_params("model", "train")
    minutes = params.train.checkpoint_minutes
    print(f"| net | MB | step, ms | training waits, ms | writing, ms | total cost, ms | share, at one in {minutes:g} min |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for net, size, width, classes in NETS:
            names = tuple(f"class {i}" for i in range(classes))
            spec = NetSpec(net, size, width, names, tuple(range(1, classes + 1)))
            row = measure(spec, params, options.steps, options.pairs)
            print(f"| {net}, {size} px, width {width:g} | {row['mb']:.0f} | " + " | ".join(
                f"{1000 * row[key]:.0f}" for key in ("step", "wait", "disk", "cost")) +
                f" | {row['cost'] / (60 * minutes):.2%} |", flush=True)


def measure(spec: NetSpec, params: Params, steps: int, pairs: int) -> dict[str, float]:
    """Return medians in seconds, and the size in MB; `cost` is that of one checkpoint."""
    state = new_state(spec, params.train, torch.device("cpu"), torch.float32)
    batch = Batch(torch.randint(0, 256, (BATCH, 3, spec.image_size, spec.image_size), dtype=torch.uint8),
                  torch.tensor([[[0.1, 0.1, 0.6, 0.7]]] * BATCH), torch.ones(BATCH, 1, dtype=torch.int64),
                  torch.zeros(BATCH, 0, 4), torch.arange(BATCH))
    run_spec = SimpleNamespace(net_spec=spec, params=params, params_dict={"train": {"epochs": 2}}, fingerprint="f" * 16,
                               data_digest="d" * 64,
                               resume_dir=Path("resume"))
    writer = CheckpointWriter(cast(Any, run_spec), state, cast(Any, SimpleNamespace(read=lambda: None)))
    run = train_epoch(state, state.net, iter(lambda: batch, None), MANY_STEPS, params.train, torch.float32)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(pairs + 1):
        for saves in (pair % 2 == 0, pair % 2 == 1):
            begin = time.perf_counter()
            for step in range(steps):
                if saves and step == 1:
                    writer.save()
                next(run)
            elapsed = time.perf_counter() - begin
            writer.wait()
            if pair:  # the first one warms up
                seconds[saves].append(elapsed)
    run.close()
    wait, disk = write(state, spec, writer)
    return {"mb": (CHECKPOINTS / LAST).stat().st_size / 1e6, "step": median(seconds[False]) / steps, "wait": wait, "disk": disk,
            "cost": median(a - b for a, b in zip(seconds[True], seconds[False], strict=True))}


def write(state: TrainState, spec: NetSpec, writer: CheckpointWriter) -> tuple[float, float]:
    """Return the medians of how long the copy takes, and of how long writing takes while nothing else runs."""
    waits, disks = [], []
    for _ in range(5):
        begin = time.perf_counter()
        snapshot(state, spec, "f", "d", {})
        waits.append(time.perf_counter() - begin)
        state.step += 1
        begin = time.perf_counter()
        writer.save()
        writer.wait()
        disks.append(time.perf_counter() - begin)
    return median(waits), median(disks) - median(waits)


if __name__ == "__main__":
    main()
