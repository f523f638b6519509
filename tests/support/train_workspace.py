"""A workspace for the train stage."""

from pathlib import Path

import pytest

from support.tiny_run import make_workspace, run_stage


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a tiny workspace the current folder."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(make_workspace(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two epochs of three steps that nothing interrupts."""
    folder = make_workspace(tmp_path_factory.mktemp("never_stopped"))
    assert run_stage(folder).returncode == 0
    return folder
