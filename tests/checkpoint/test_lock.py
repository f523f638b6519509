"""One writer a folder."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.project import ROOT

from ssd_lib.checkpoint.lock import make_ready, only_writer
from ssd_lib.errors import StateError

HOLDER = """
import sys, time
from pathlib import Path
from ssd_lib.checkpoint.lock import only_writer
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


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be locked: Not a directory"), only_writer(tmp_path / "file" / "folder"):
        pass


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".last.pt.123.tmp", "last.pt"):
        (tmp_path / name).write_text("x")
    make_ready(tmp_path)
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
