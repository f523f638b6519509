"""The promise through real DVC: whatever is killed, the same command continues."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from support.processes import wait_until
from support.project import ROOT
from support.repository import dvc, environment, git, make_clone, run

from ssd_lib.checkpoint.file import CHECKPOINTS, LAST, ComboCheckpoint, read_checkpoint

EPOCHS, EPOCH_STEPS = 4, 4
STEPS = EPOCHS * EPOCH_STEPS


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with everything before training done; a checkpoint after every step."""
    folder = _make_clone(tmp_path_factory.mktemp("prepared") / "clone")
    _run_dvc(folder, "repro", "fix_annotations")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=data")
    return folder


@pytest.fixture(scope="module")
def calm(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same repository after training that nothing stopped."""
    return _train_undisturbed(prepared, tmp_path_factory.mktemp("calm") / "clone")


@pytest.fixture
def clone(prepared: Path, tmp_path: Path) -> Path:
    """Return a copy to change."""
    shutil.copytree(prepared, tmp_path / "clone", symlinks=True)
    return tmp_path / "clone"


def _make_clone(folder: Path) -> Path:
    return make_clone(folder, images=4 * EPOCH_STEPS, epochs=EPOCHS, ap_every_epochs=0, checkpoint_minutes=1e-9)


def _train_undisturbed(source: Path, folder: Path) -> Path:
    """Copy a repository without what training made there, and train in the copy."""
    shutil.copytree(source, folder, symlinks=True, ignore=lambda path, _: {"models", "runs"} if Path(path) == source else set())
    done = run(folder, sys.executable, "-m", "stages.train")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _kill_in_training(folder: Path, *arguments: str, only_dvc: bool = False) -> None:
    """Start dvc and send SIGKILL when some steps are saved; wait until all its processes have ended."""
    variables = environment(folder) | {"PYTHONPATH": str(ROOT / "tests" / "support" / "pausing")}
    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=variables,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: _processes(folder, state="T"), "training pauses", 300)
    paused = _processes(folder, state="T")
    for pid in [process.pid] if only_dvc else _processes(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    if only_dvc:
        os.kill(paused[0], signal.SIGCONT)
    wait_until(lambda: not _processes(folder), "no process outlives it", 300)
    assert 2 <= _steps(folder) < STEPS


def _processes(folder: Path, state: str = "") -> list[int]:
    """Return the processes (in a state) that were started for a repository; a queue's worker has a session of its own."""
    wanted, found = f"DVC_SITE_CACHE_DIR={environment(folder)['DVC_SITE_CACHE_DIR']}\0".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            now = (process / "stat").read_text().rpartition(") ")[2][0]
            if now != "Z" and now.startswith(state) and wanted in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _last(folder: Path) -> ComboCheckpoint | None:
    """Return the latest checkpoint in runs/resume, which experiments in temporary folders share."""
    found = [read_checkpoint(path) for path in (folder / "runs" / "resume").glob(f"*/{LAST}")]
    return max(found, key=lambda checkpoint: checkpoint.position, default=None)


def _steps(folder: Path) -> int:
    """Return the steps that are saved."""
    last = _last(folder)
    return 0 if last is None else EPOCH_STEPS * last.epoch + last.step


def _assert_same_end(one: Path, other: Path) -> None:
    """Assert that both runs are complete, with the same weights bit for bit."""
    left, right = _last(one), _last(other)
    assert left is not None
    assert right is not None
    assert left.position == right.position == (EPOCHS, 0)
    assert all(torch.equal(left.weights[key], right.weights[key]) for key in left.weights)


def _run_dvc(folder: Path, *arguments: str) -> str:
    """Run a DVC command, which must succeed; what it prints."""
    done = dvc(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_repro_continues_after_dvc_alone_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC runs a stage in the user's shell.

    Without SHELL (cron, containers) in sh, which may stay between the two processes.
    """
    monkeypatch.delenv("SHELL", raising=False)
    folder = _make_clone(tmp_path / "clone")
    _kill_in_training(folder, "repro", "train", only_dvc=True)
    assert "continuing at epoch" in _run_dvc(folder, "repro", "train")
    _assert_same_end(folder, _train_undisturbed(folder, tmp_path / "calm"))


@pytest.mark.slow
def test_exp_run_continues_though_it_rolls_the_checkpoints_back(clone: Path, calm: Path) -> None:
    _kill_in_training(clone, "exp", "run", "train")
    assert "continuing at epoch" in _run_dvc(clone, "exp", "run", "train")
    _assert_same_end(clone, calm)


@pytest.mark.slow
def test_exp_run_in_a_temporary_folder_continues(clone: Path, calm: Path) -> None:
    _kill_in_training(clone, "exp", "run", "--temp", "train")
    assert "continuing at epoch" in _run_dvc(clone, "exp", "run", "--temp", "train")
    _assert_same_end(clone, calm)


@pytest.mark.slow
def test_a_queued_experiment_continues(clone: Path, calm: Path) -> None:
    _run_dvc(clone, "exp", "run", "--queue", "--name", "first", "train")
    _kill_in_training(clone, "queue", "start")
    _run_dvc(clone, "exp", "run", "--queue", "--name", "second", "train")
    _run_dvc(clone, "queue", "start")  # its worker goes on in the background
    wait_until(lambda: _steps(clone) == STEPS and not _processes(clone), "the queue is empty", 300)
    _assert_same_end(clone, calm)


@pytest.mark.slow
def test_a_run_pushed_cloned_and_pulled_is_extended(calm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "origin"
    shutil.copytree(calm, folder, symlinks=True)
    assert "the run is complete" in _run_dvc(folder, "repro", "train")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=trained")
    _run_dvc(folder, "remote", "add", "--default", "store", str(tmp_path / "store"))
    git(folder, "commit", "--quiet", "--all", "--message=remote")
    _run_dvc(folder, "push")
    git(tmp_path, "clone", "--quiet", str(folder), "other")
    other = tmp_path / "other"
    _run_dvc(other, "pull", "train", "fix_annotations", "download")
    _run_dvc(other, "repro", "--force", "--single-item", "download")  # images are no DVC outs
    said = _run_dvc(other, "exp", "run", "--set-param", f"train.epochs={EPOCHS + 1}", "train")
    assert f"continuing at epoch {EPOCHS + 1}/{EPOCHS + 1}, step 0; extended from {EPOCHS} epochs" in said
    assert read_checkpoint(other / CHECKPOINTS / LAST).position == (EPOCHS + 1, 0)
