"""Where the tests of this folder download to."""

from pathlib import Path

import pytest


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/raw of a repository of its own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / "data" / "raw"
