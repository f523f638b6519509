"""The journal keeps the last runs, for a while; never does it lose one that is going on."""

import os
import time
from pathlib import Path

import pytest

from ssd_lib.checkpoint.lock import only_writer
from ssd_lib.checkpoint.pruning import DAY_S, prune


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Five runs, written 0, 1, 2, 3, 4 days ago."""
    for days in range(5):
        path = tmp_path / f"run-{days}" / "last.pt"
        path.parent.mkdir()
        path.write_text("x")
        os.utime(path, (time.time() - days * DAY_S,) * 2)
    return tmp_path


def _left(journal: Path) -> set[int]:
    return {int(folder.name[-1]) for folder in journal.iterdir()}


@pytest.mark.parametrize(("keep_runs", "keep_days", "left"), [
    (20, 30, {0, 1, 2, 3, 4}),
    (2, 30, {0, 1, 4}),  # the own one, 4, is not counted
    (20, 2.5, {0, 1, 2, 4}),
    (1, 0.5, {0, 4}),
    (0, 30, {4}),
])
def test_runs_go_by_count_and_by_age(journal: Path, keep_runs: int, keep_days: float, left: set[int]) -> None:
    lines = prune(journal, [journal / "run-4"], keep_runs, keep_days)
    assert _left(journal) == left
    assert len(lines) == 5 - len(left)
    assert all("last written" in line for line in lines)


def test_a_run_that_is_going_on_stays(journal: Path) -> None:
    with only_writer(journal / "run-3"):
        prune(journal, [journal / "run-4"], 0, 0)
    assert _left(journal) == {3, 4}


def test_there_need_be_no_journal(tmp_path: Path) -> None:
    assert prune(tmp_path / "none", [tmp_path / "none" / "own"], 20, 30) == []
