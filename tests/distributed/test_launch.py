"""Processes that the stage starts on one machine, and how many."""

import shutil
from pathlib import Path

from support.tiny_run import run_stage, set_runtime

from ssd_lib.checkpoint.file import LAST, read_checkpoint
from ssd_lib.distributed.group import process_count


def test_two_processes_train_to_the_end_and_continue(two_processes: Path, tmp_path: Path) -> None:
    assert "train: 2 epochs of 12 images" in (two_processes / "stdout").read_text()
    checkpoint = read_checkpoint(two_processes / "models" / "checkpoints" / LAST)
    assert checkpoint.position == (2, 0)
    again = run_stage(Path(shutil.copytree(two_processes, tmp_path / "copy")))
    assert "the run is complete: its checkpoint has 2 epochs" in again.stdout


def test_a_batch_that_is_not_divisible_is_refused(workspace: Path) -> None:
    set_runtime(workspace, "processes: 1", "processes: 3")
    refused = run_stage(workspace)
    assert refused.returncode == 1
    assert "train.batch_size is 4; 3 processes need a multiple of 3" in refused.stderr


def test_auto_is_one_process_on_a_cpu() -> None:
    assert process_count("auto", "cpu", batch_size=16) == 1
    assert process_count(4, "cpu", batch_size=16) == 4
