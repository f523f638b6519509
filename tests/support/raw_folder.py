"""Download folder for tests."""

from pathlib import Path

import pytest


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return data/raw of an empty repository."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / "data" / "raw"
