"""Processes that die or are stopped. Three, since the sum of three gradients depends on its order, and so on DDP's buckets."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.processes import wait_until
from support.tiny_run import assert_same_weights, ended, make_workspace, run_stage, set_params, set_runtime, start_stage

from ssd_lib.checkpoint.file import LAST, read_checkpoint

LAST_PATH = Path("models/checkpoints") / LAST


def _prepare(folder: Path, **train: Any) -> Path:
    """Make a workspace of two epochs of two steps, with a checkpoint after each step."""
    make_workspace(folder)
    set_params(folder, batch_size=6, **{"checkpoint_minutes": 1e-9, **train})
    set_runtime(folder, "processes: 1", "processes: 3")
    return folder


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of three processes that nothing interrupted."""
    folder = _prepare(tmp_path_factory.mktemp("calm"))
    assert run_stage(folder).returncode == 0
    return folder


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("point", [pytest.param("after-step-3:SIGKILL:rank-0", marks=pytest.mark.slow),
                                   "in-validation-1:SIGKILL:rank-1"])
def test_the_death_of_one_restarts_all_and_changes_no_bit(tmp_path: Path, calm: Path, point: str) -> None:
    process = start_stage(_prepare(tmp_path), kill_at=point)
    done = ended(process, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("restart 1 of at most 3") == 1
    assert "restart 2" not in done.stdout
    assert "ERROR" not in done.stderr
    assert_same_weights(tmp_path, calm)
    assert process.pid is not None
    wait_until(lambda: not _is_alive(process.pid), "every loader process ends", 20)


@pytest.mark.slow
def test_a_process_that_dies_after_every_restart_ends_the_run(tmp_path: Path) -> None:
    _prepare(tmp_path)
    set_runtime(tmp_path, "max_restarts: 3", "max_restarts: 1")
    died = run_stage(tmp_path, kill_at="in-validation-1:SIGKILL:rank-1-always")
    assert died.returncode == 1
    assert "restart 1 of at most 1" in died.stdout
    assert "restart 2" not in died.stdout
    assert "died, after 1 restarts" in died.stderr  # this one, or one that lost its connection: the first one seen
    assert died.stderr.count("ERROR") == 1


@pytest.mark.slow
def test_all_killed_at_once_continue_bit_for_bit(tmp_path: Path, calm: Path) -> None:
    assert run_stage(_prepare(tmp_path), kill_at="after-saved-step-3:SIGKILL:all-of-rank-0").returncode == -signal.SIGKILL
    assert read_checkpoint(tmp_path / LAST_PATH).position < (2, 0)
    assert "continuing at" in run_stage(tmp_path).stdout
    assert_same_weights(tmp_path, calm)


@pytest.mark.parametrize("point", ["after-step-1:SIGUSR1:rank-1",
                                   "before-validation-1:SIGTERM:rank-1",
                                   pytest.param("in-validation-1:SIGTERM:rank-2", marks=pytest.mark.slow),
                                   pytest.param("after-step-2:SIGINT:all-of-rank-0", marks=pytest.mark.slow)])
def test_a_stop_signal_stops_all_processes_and_restarts_none(tmp_path: Path, point: str) -> None:
    stopped = run_stage(_prepare(tmp_path, checkpoint_minutes=60), kill_at=point)
    assert stopped.returncode == 128 + signal.Signals[point.split(":")[1]], stopped.stderr
    assert "restart" not in stopped.stdout
    assert stopped.stderr.count("saved in models/checkpoints. The same command continues from there.") == 1
    assert "Traceback" not in stopped.stderr
    assert read_checkpoint(tmp_path / LAST_PATH).position == (0, 2)


def test_a_process_that_waits_for_the_last_one_stops_both(tmp_path: Path) -> None:
    set_runtime(_prepare(tmp_path, checkpoint_minutes=60), "processes: 3", "processes: 2")
    stopped = run_stage(tmp_path, kill_at="in-barrier-3:SIGTERM:rank-1")
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    assert stopped.stderr.count("saved in models/checkpoints. The same command continues from there.") == 1
    assert read_checkpoint(tmp_path / LAST_PATH).position == (0, 2)


@pytest.mark.slow
def test_an_error_of_the_user_is_reported_once_and_not_retried(tmp_path: Path) -> None:
    diverged = run_stage(_prepare(tmp_path, lr=1e30, clip_grad_norm=0.0, warmup_epochs=0.0))
    assert diverged.returncode == 1
    assert "restart" not in diverged.stdout
    assert diverged.stderr.count("ERROR") == 1
    assert "not finite" in diverged.stderr
    assert "Traceback" not in diverged.stderr


@pytest.mark.slow
def test_an_error_in_one_process_ends_all(tmp_path: Path) -> None:
    _prepare(tmp_path)
    broken = tmp_path / "data" / "raw" / "tiny" / "train" / "5.png"
    broken.write_bytes(bytes(broken.stat().st_size))
    faulty = run_stage(tmp_path)
    assert faulty.returncode == 1
    assert "restart" not in faulty.stdout
    assert faulty.stderr.count("ERROR") == 1
    assert "5.png" in faulty.stderr
    assert "Traceback" not in faulty.stderr
