"""The promise through real DVC: whatever is killed, the same command continues."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from support.project import ROOT
from support.repository import dvc, environment, git, make_clone

from ssd_lib.checkpoint.file import LAST, ComboCheckpoint, read_checkpoint

CHECKPOINTS = Path("models/checkpoints")
EPOCHS, EPOCH_STEPS = 4, 4
STEPS = EPOCHS * EPOCH_STEPS


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with everything before training done; a checkpoint after every step."""
    folder = make_clone(tmp_path_factory.mktemp("prepared") / "clone", images=4 * EPOCH_STEPS, epochs=EPOCHS,
                        ap_every_epochs=0, checkpoint_minutes=1e-9)
    done = dvc(folder, "repro", "fix_annotations")
    assert done.returncode == 0, done.stdout + done.stderr
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=data")
    return folder


@pytest.fixture(scope="module")
def calm(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after training that nothing stopped."""
    folder = tmp_path_factory.mktemp("calm") / "clone"
    shutil.copytree(prepared, folder, symlinks=True)
    done = dvc(folder, "repro", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def clone(prepared: Path, tmp_path: Path) -> Path:
    """A copy to do harm in."""
    shutil.copytree(prepared, tmp_path / "clone", symlinks=True)
    return tmp_path / "clone"


def _kill_in_training(folder: Path, *arguments: str, only_dvc: bool = False) -> None:
    """Start dvc, and kill it without mercy when some steps are saved; wait until nothing of it lives."""
    surroundings = environment(folder) | {"PYTHONPATH": str(ROOT / "tests" / "support" / "pausing")}
    process = subprocess.Popen([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=surroundings,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (paused := _processes(folder, state="T")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for pid in [process.pid] if only_dvc else _processes(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    if only_dvc:
        os.kill(paused[0], signal.SIGCONT)
    while _processes(folder):
        assert time.monotonic() < deadline, "something outlives it"
        time.sleep(0.05)
    assert 2 <= _steps(folder) < STEPS


def _processes(folder: Path, state: str = "") -> list[int]:
    """All that lives, or is in the given state, and was started for a repository; a queue's worker has a session of its own."""
    wanted, found = f"DVC_SITE_CACHE_DIR={environment(folder)['DVC_SITE_CACHE_DIR']}\0".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            now = (process / "stat").read_text().rpartition(") ")[2][0]
            if now != "Z" and now.startswith(state) and wanted in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _last(folder: Path) -> ComboCheckpoint | None:
    """The latest checkpoint of the journal, which experiments in temporary folders share."""
    found = [read_checkpoint(path) for path in (folder / "runs" / "resume").glob(f"*/{LAST}")]
    return max(found, key=lambda checkpoint: checkpoint.position, default=None)


def _steps(folder: Path) -> int:
    """Steps that are saved."""
    last = _last(folder)
    return 0 if last is None else EPOCH_STEPS * last.epoch + last.step


def _assert_same_end(one: Path, other: Path) -> None:
    """Both runs are complete, with the same weights, bit for bit."""
    left, right = _last(one), _last(other)
    assert left is not None
    assert right is not None
    assert left.position == right.position == (EPOCHS, 0)
    assert all(torch.equal(left.weights[key], right.weights[key]) for key in left.weights)


def _again(folder: Path, *arguments: str) -> str:
    done = dvc(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_repro_continues_after_dvc_alone_was_killed(clone: Path, calm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC runs a stage in the user's shell; where none is named (cron, containers) in sh, which may stay between the two."""
    monkeypatch.delenv("SHELL", raising=False)
    _kill_in_training(clone, "repro", "train", only_dvc=True)
    assert "continuing at epoch" in _again(clone, "repro", "train")
    _assert_same_end(clone, calm)


def test_exp_run_continues_though_it_rolls_the_checkpoints_back(clone: Path, calm: Path) -> None:
    _kill_in_training(clone, "exp", "run", "train")
    assert "continuing at epoch" in _again(clone, "exp", "run", "train")
    _assert_same_end(clone, calm)


def test_exp_run_in_a_temporary_folder_continues(clone: Path, calm: Path) -> None:
    _kill_in_training(clone, "exp", "run", "--temp", "train")
    assert "continuing at epoch" in _again(clone, "exp", "run", "--temp", "train")
    _assert_same_end(clone, calm)


def test_a_queued_experiment_continues(clone: Path, calm: Path) -> None:
    _again(clone, "exp", "run", "--queue", "--name", "first", "train")
    _kill_in_training(clone, "queue", "start")
    _again(clone, "exp", "run", "--queue", "--name", "second", "train")
    _again(clone, "queue", "start")  # its worker goes on in the background
    deadline = time.monotonic() + 300
    while _steps(clone) < STEPS or _processes(clone):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    _assert_same_end(clone, calm)


def test_a_run_pushed_cloned_and_pulled_is_extended(calm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "origin"
    shutil.copytree(calm, folder, symlinks=True)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=trained")
    _again(folder, "remote", "add", "--default", "store", str(tmp_path / "store"))
    git(folder, "commit", "--quiet", "--all", "--message=remote")
    _again(folder, "push")
    git(tmp_path, "clone", "--quiet", str(folder), "other")
    other = tmp_path / "other"
    _again(other, "pull", "train", "fix_annotations", "download")
    _again(other, "repro", "--force", "--single-item", "download")  # images are no DVC outs
    said = _again(other, "exp", "run", "--set-param", f"train.epochs={EPOCHS + 1}", "train")
    assert f"continuing at epoch {EPOCHS + 1}/{EPOCHS + 1}, step 0; extended from {EPOCHS} epochs" in said
    assert read_checkpoint(other / CHECKPOINTS / LAST).position == (EPOCHS + 1, 0)
