"""Several processes are one run."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from project import ROOT
from tiny_run import assert_same_weights, ended, make_workspace, run_stage, set_params, set_runtime, start_stage

from ssd_lib.checkpoint.combo import LAST, read_checkpoint
from ssd_lib.distributed import process_count
from ssd_lib.train.precision import pick_precision


def test_two_processes_train_to_the_end_and_continue(workspace: Path) -> None:
    set_runtime(workspace, "processes: 1", "processes: 2")
    done = run_stage(workspace)
    assert done.returncode == 0, done.stderr
    assert "train: 2 epochs of 12 images" in done.stdout
    checkpoint = read_checkpoint(workspace / "models" / "checkpoints" / LAST)
    assert checkpoint.position == (2, 0)
    again = run_stage(workspace)
    assert "the run is complete: 2 epochs are in its checkpoint" in again.stdout


def test_three_processes_killed_at_once_continue_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three, since a sum of three numbers depends on its order, and so on how gradients lie in buckets."""
    calm, killed = make_workspace(tmp_path / "calm"), make_workspace(tmp_path / "killed")
    for folder in (calm, killed):
        set_params(folder, batch_size=6, epochs=4, checkpoint_minutes=1e-9)
        set_runtime(folder, "processes: 1", "processes: 3")
    assert run_stage(calm).returncode == 0
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests" / "pausing"))
        process = start_stage(killed)
    last = killed / "models" / "checkpoints" / LAST
    while not (last.exists() and read_checkpoint(last).position >= (1, 0)):
        assert process.is_alive(), ended(process, killed).stderr
        time.sleep(0.02)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGKILL)
    assert ended(process, killed).returncode == -signal.SIGKILL
    assert read_checkpoint(last).position < (4, 0)
    assert "continuing at" in run_stage(killed).stdout
    assert_same_weights(calm, killed)


def test_a_batch_that_cannot_be_shared_is_refused(workspace: Path) -> None:
    set_runtime(workspace, "processes: 1", "processes: 3")
    refused = run_stage(workspace)
    assert refused.returncode == 1
    assert "train.batch_size is 4; 3 processes need a multiple of 3" in refused.stderr


def test_auto_is_one_process_on_a_cpu() -> None:
    assert process_count("auto", "cpu", batch_size=16) == 1
    assert process_count(4, "cpu", batch_size=16) == 4


@pytest.mark.parametrize(("name", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_precision_that_is_asked_for_is_taken(name: str, expected: torch.dtype) -> None:
    assert pick_precision(name, torch.device("cpu")) == expected


def test_auto_on_a_cpu_is_what_it_computes_in() -> None:
    assert pick_precision("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
