"""Files: they are complete or absent; errors of the disk are reported."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssd_lib.errors import StateError
from ssd_lib.files import atomic_write, in_project, sha256, write_json, write_text


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with atomic_write(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert os.listdir(path.parent) == ["file"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError):
        _fail_half_way(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def _fail_half_way(path: Path) -> None:
    with atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError


def test_a_full_disk_leaves_the_old_file_and_is_reported(tmp_path: Path) -> None:
    """A limit on file sizes makes the kernel refuse the write, like a full disk."""
    path = tmp_path / "file"
    write_text(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StateError, match=r"cannot be written.*Free some disk space"):
            write_text(path, "x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_in_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    with pytest.raises(StateError, match="cannot be written"):
        write_text(tmp_path / "blocked" / "file", "x")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    code = ("import sys, os, signal; from pathlib import Path; from ssd_lib.files import atomic_write\n"
            "with atomic_write(Path(sys.argv[1])) as file:\n"
            "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)")
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_the_same_value_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_json(tmp_path / name, {"é": [1, 2.5, None]}, indent=1)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")


def test_nan_cannot_be_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a", float("nan"))
    assert not (tmp_path / "a").exists()


def test_sha256_has_the_published_value(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_names_that_are_not_valid_utf_8_can_be_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", ["bad\udcff.png"])
    assert json.loads((tmp_path / "a.json").read_text()) == ["bad\udcff.png"]


def test_a_tilde_without_a_known_user_is_an_ordinary_name() -> None:
    assert in_project("~nobody-of-this-name/a.pt").name == "a.pt"
