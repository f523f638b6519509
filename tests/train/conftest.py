"""A workspace for the train stage."""

from pathlib import Path

import pytest
from tiny_run import make_workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny workspace, and the current folder."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(make_workspace(tmp_path))
    return tmp_path
