"""Several processes are one run."""

from pathlib import Path

import pytest
import torch
from support.tiny_run import run_stage, set_runtime

from ssd_lib.checkpoint.file import LAST, read_checkpoint
from ssd_lib.device import pick_precision
from ssd_lib.distributed.group import process_count


def test_two_processes_train_to_the_end_and_continue(workspace: Path) -> None:
    set_runtime(workspace, "processes: 1", "processes: 2")
    done = run_stage(workspace, start_method="spawn")
    assert done.returncode == 0, done.stderr
    assert "train: 2 epochs of 12 images" in done.stdout
    checkpoint = read_checkpoint(workspace / "models" / "checkpoints" / LAST)
    assert checkpoint.position == (2, 0)
    again = run_stage(workspace)
    assert "the run is complete: 2 epochs are in its checkpoint" in again.stdout


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
