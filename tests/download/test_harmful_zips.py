"""A zoo of zip files that could do harm: each is refused by name, stays as it is, and writes nothing outside its folder."""

import copy
import os
import shutil
import stat
import struct
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import damaged, fault_of
from support.folders import run
from tqdm import tqdm

from ssd_lib.download.archives import unpack
from ssd_lib.errors import InputError

SET = ("Annotations/a.xml", "Annotations/b.xml", "JPEGImages/a.jpg", "JPEGImages/b.jpg")
Change = Callable[[Path], None]


def member(name: str, kind: int = 0, content: bytes = b"evil") -> Change:
    """Add a member."""
    def change(archive: Path) -> None:
        row = zipfile.ZipInfo(name)
        row.external_attr = (kind | 0o777) << 16 if kind else 0
        with zipfile.ZipFile(archive, "a") as bundle:
            bundle.writestr(row, content)
    return change


def flagged(offset: int, flag: int, header: bytes = b"PK\x01\x02") -> Change:
    """Set bits in the last entry of the central directory, or in another header."""
    def change(archive: Path) -> None:
        data = bytearray(archive.read_bytes())
        data[data.rindex(header) + offset] |= flag
        archive.write_bytes(data)
    return change


def claimed(size: int) -> Change:
    """Let the last member say that it unpacks to so many bytes."""
    def change(archive: Path) -> None:
        data = bytearray(archive.read_bytes())
        struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, size)
        archive.write_bytes(data)
    return change


def misnamed(at: int) -> Change:
    """Make the first or last occurrence of the last member's name invalid as the UTF-8 that it claims to be."""
    def change(archive: Path) -> None:
        flagged(9, 8)(archive)
        flagged(7, 8, b"PK\x03\x04")(archive)
        pieces = archive.read_bytes().split(b"JPEGImages/b.jpg")
        names = [b"JPEGImages/b.jpg"] * (len(pieces) - 1)
        names[at] = b"JPEGImages/\xff.jpg"
        archive.write_bytes(b"".join(piece + name for piece, name in zip(pieces, [*names, b""], strict=True)))
    return change


def spoilt(archive: Path) -> None:
    """Change one byte of a.jpg."""
    data = archive.read_bytes()
    at = data.index(b"JPEGImages/a.jpgJPEGImages/a.jpg") + 20
    archive.write_bytes(data[:at] + b"?" + data[at + 1:])


def cut(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-40])


def headless(archive: Path) -> None:
    """Keep the central directory and drop what it points to."""
    data = archive.read_bytes()
    archive.write_bytes(bytes(100) + data[100:])


def beheaded(archive: Path) -> None:
    """Drop the first byte, so that all that follows lies one byte too early."""
    archive.write_bytes(archive.read_bytes()[1:])


def bomb(archive: Path) -> None:
    """Return a zip with a thousand names for one member of 10 MB, which takes 10 kB."""
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("JPEGImages/0.jpg", bytes(10**7))
        for number in range(1, 1000):
            twin = copy.copy(bundle.filelist[-1])
            twin.filename = f"JPEGImages/{number}.jpg"
            bundle.filelist.append(twin)


@pytest.mark.parametrize(("change", "text"), [
    (member("../evil.jpg"), "member '../evil.jpg': the name leaves the folder"),
    (member("JPEGImages/../../evil.jpg"), "member 'JPEGImages/../../evil.jpg': the name leaves the folder"),
    (member("/tmp/evil.jpg"), "member '/tmp/evil.jpg': the name leaves the folder"),
    (member("C:\\evil.jpg"), "evil.jpg': the name leaves the folder"),
    (member("JPEGImages/link.jpg", stat.S_IFLNK, b"/etc/passwd"), "member 'JPEGImages/link.jpg': a link or device"),
    (member("JPEGImages/A.jpg"), "member 'JPEGImages/A.jpg': the name occurs twice"),
    (flagged(8, 1), "member 'JPEGImages/b.jpg': encrypted"),
    (flagged(10, 77), "member 'JPEGImages/b.jpg' is damaged (That compression method is not supported)"),
    (bomb, "bytes that unpack to 10.000 GB, "),
    (claimed(4_000_000_000), "bytes that unpack to 4.000 GB, "),
    (claimed(5), "member 'JPEGImages/b.jpg' is damaged (Bad CRC-32"),
    (spoilt, "member 'JPEGImages/a.jpg' is damaged (Bad CRC-32"),
    (headless, "member 'Annotations/a.xml' is damaged ("),
    (misnamed(0), "member 'JPEGImages/b.jpg' is damaged ('utf-8' codec"),
    (misnamed(-1), "not a zip archive, or incomplete ('utf-8' codec"),
    (beheaded, "member 'Annotations/a.xml': its part of the archive is missing"),
    (cut, "it is a file, but not a zip archive"),
])
def test_a_zip_that_could_do_harm_is_refused_and_writes_nothing_outside(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, text: str) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for name in SET:
            bundle.writestr(name, name)
    change(archive)
    before = archive.read_bytes()
    with pytest.raises(InputError) as caught:
        run(archive)
    assert "set.zip" in str(caught.value)
    assert text in str(caught.value)
    assert archive.read_bytes() == before
    assert set(os.listdir(tmp_path)) <= {"set.zip", "project"}
    written = {path.relative_to(tmp_path).parts[5:] for path in tmp_path.glob("project/**/*.*") if path.is_file()}
    assert written <= {tuple(name.split("/")) for name in SET}


def test_no_damage_makes_the_unpacking_itself_fail(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "sound.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        for name in SET:
            bundle.writestr(name, name * 9)
    sound = (tmp_path / "sound.zip").read_bytes()

    def unpacked(data: bytes, where: str) -> set[str]:
        (tmp_path / "set.zip").write_bytes(data)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        return set(unpack(tmp_path / "set.zip", tmp_path / "out", None, tqdm(disable=True), threading.Event()))

    @given(damaged(sound) | st.binary(max_size=60))
    def read(data: bytes) -> None:
        assert not fault_of(unpacked, data, str(tmp_path / "set.zip"))
        assert set(os.listdir(tmp_path)) <= {"sound.zip", "set.zip", "out"}

    assert unpacked(sound, "") == set(SET)
    read()
