"""A run of two processes, for comparison."""

from pathlib import Path

import pytest
from support.tiny_run import make_workspace, run_stage, set_runtime


@pytest.fixture(scope="session")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that two processes of one machine have finished: two epochs of three steps."""
    folder = make_workspace(tmp_path_factory.mktemp("two_processes"))
    set_runtime(folder, "processes: 1", "processes: 2")
    done = run_stage(folder, start_method="spawn")  # as users do
    assert done.returncode == 0, done.stderr
    return folder
