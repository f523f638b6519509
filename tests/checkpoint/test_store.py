"""One writer per folder; runs/resume keeps the last runs for a while, and always one that is active."""

import logging
import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.project import ROOT

from ssd_lib.checkpoint.store import DAY_S, only_writer, prepare_folder, prune
from ssd_lib.errors import StateError

HOLDER = """
import sys, time
from pathlib import Path
from ssd_lib.checkpoint.store import only_writer
with only_writer(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        message = f"another trainer works on this run .process {holder.pid}."
        with pytest.raises(StateError, match=message), only_writer(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with only_writer(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be locked: Not a directory"), only_writer(tmp_path / "file" / "folder"):
        pass


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".last.pt.123.tmp", "last.pt"):
        (tmp_path / name).write_text("x")
    prepare_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_fork_that_outlives_the_holder_does_not_hold_the_lock(tmp_path: Path) -> None:
    """Loader processes are forks of the trainer."""
    fork = get_context("fork")
    lives = fork.Event()

    def live() -> None:
        lives.set()
        time.sleep(60)
    with only_writer(tmp_path):
        child = fork.Process(target=live)
        child.start()
        assert lives.wait(60)
    with only_writer(tmp_path):
        assert child.is_alive()
    child.kill()
    child.join()


@pytest.fixture
def resume_root(tmp_path: Path) -> Path:
    """Return five runs, written 0, 1, 2, 3, 4 days ago."""
    for days in range(5):
        path = tmp_path / f"run-{days}" / "last.pt"
        path.parent.mkdir()
        path.write_text("x")
        os.utime(path, (time.time() - days * DAY_S,) * 2)
    return tmp_path


def _left(resume_root: Path) -> set[int]:
    return {int(folder.name[-1]) for folder in resume_root.iterdir()}


@pytest.mark.parametrize(("keep_runs", "keep_days", "left"), [
    (20, 30, {0, 1, 2, 3, 4}),
    (2, 30, {0, 1, 4}),  # the own one, 4, is not counted
    (20, 2.5, {0, 1, 2, 4}),
    (1, 0.5, {0, 4}),
    (0, 30, {4}),
])
def test_runs_are_deleted_by_count_and_by_age(resume_root: Path, keep_runs: int, keep_days: float, left: set[int],
                                              caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        prune(resume_root, [resume_root / "run-4"], keep_runs, keep_days)
    assert _left(resume_root) == left
    assert len(caplog.messages) == 5 - len(left)
    assert all("last written" in line for line in caplog.messages)
    assert all(f"(runtime.keep_runs: {keep_runs}, runtime.keep_days: {keep_days:g})" in line for line in caplog.messages)


def test_a_run_that_is_going_on_stays(resume_root: Path) -> None:
    with only_writer(resume_root / "run-3"):
        prune(resume_root, [resume_root / "run-4"], 0, 0)
    assert _left(resume_root) == {3, 4}


def test_pruning_without_a_folder_does_nothing(tmp_path: Path) -> None:
    prune(tmp_path / "none", [tmp_path / "none" / "own"], 20, 30)
    assert not list(tmp_path.iterdir())
