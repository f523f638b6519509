"""Unpack zips: nothing outside the folder, nothing twice, nothing damaged."""

import hashlib
import os
import random
import stat
import threading
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from tqdm import tqdm

from ssd_lib.download import archives
from ssd_lib.download.archives import Rows, _checked, require_space, unpack
from ssd_lib.errors import InputError, StateError

FILES = {f"train2017/{number:012d}.jpg": random.Random(number).randbytes(5000 + number) for number in (3, 9, 25)}
Usage = namedtuple("Usage", "total used free")


def make(path: Path, members: dict[str, bytes] = FILES, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def run(archive: Path, folder: Path, wanted: tuple[str, ...] = ("train2017",)) -> Rows:
    return unpack(archive, folder, wanted, tqdm(disable=True), threading.Event())


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_file_comes_out_with_its_size_and_hash(tmp_path: Path) -> None:
    rows = run(make(tmp_path / "a.zip"), tmp_path / "out")
    assert rows == {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()}
    assert files_below(tmp_path / "out") == FILES


def test_compressed_members_come_out_the_same(tmp_path: Path) -> None:
    run(make(tmp_path / "a.zip", method=zipfile.ZIP_DEFLATED), tmp_path / "out")
    assert files_below(tmp_path / "out") == FILES


def test_only_what_is_wanted_is_written(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"annotations/instances.json": b"{}", "annotations/captions.json": b"[]"})
    assert list(run(archive, tmp_path / "out", ("annotations/instances.json",))) == ["annotations/instances.json"]
    assert files_below(tmp_path / "out") == {"annotations/instances.json": b"{}"}


def test_all_that_is_wanted_leaves_out_what_systems_add(tmp_path: Path) -> None:
    added = {"__MACOSX/train2017/._a.jpg": b"1", "train2017/.DS_Store": b"2", ".git/config": b"3"}
    rows = unpack(make(tmp_path / "a.zip", FILES | added), tmp_path / "out", None, tqdm(disable=True), threading.Event())
    assert set(rows) == set(FILES)
    assert files_below(tmp_path / "out") == FILES


def test_more_members_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make(tmp_path / "a.zip")
    monkeypatch.setattr(archives, "MAX_MEMBERS", len(FILES) - 1)
    with pytest.raises(InputError, match=f"{len(FILES)} members; at most {len(FILES) - 1} are allowed"):
        run(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wanted_member_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip: has no member 'val2017'"):
        run(make(tmp_path / "a.zip"), tmp_path / "out", ("val2017",))


def test_files_that_are_there_and_right_are_not_written_again(tmp_path: Path) -> None:
    archive, out = make(tmp_path / "a.zip"), tmp_path / "out"
    rows = run(archive, out)
    right, wrong, short = (out / name for name in FILES)
    wrong.write_bytes(bytes(wrong.stat().st_size))  # the size is right, the CRC is not
    short.write_bytes(b"")
    before = {path: path.stat().st_ino for path in (right, wrong, short)}
    assert run(archive, out) == rows
    assert files_below(out) == FILES
    assert [path.stat().st_ino == before[path] for path in (right, wrong, short)] == [True, False, False]


def test_unpacking_that_was_stopped_goes_on(tmp_path: Path) -> None:
    archive, out, stop = make(tmp_path / "a.zip"), tmp_path / "out", threading.Event()
    stop.set()
    with pytest.raises(StateError, match=r"a\.zip: stopped; what is unpacked is kept"):
        unpack(archive, out, ("train2017",), tqdm(disable=True), stop)
    first = out / next(iter(FILES))
    assert list(files_below(out)) == [first.relative_to(out).as_posix()]
    inode = first.stat().st_ino
    run(archive, out)
    assert files_below(out) == FILES
    assert first.stat().st_ino == inode


@pytest.mark.parametrize("name", [
    "../evil", "train2017/../../evil", "/etc/evil", "C:/evil", "C:evil", "..\\evil", "train2017\\evil", "a//evil",
    "./evil", "train2017/nul", "train2017/COM1.jpg", "train2017/evil.", "train2017/evil ", "train2017/a\nb", "a?", "",
])
def test_a_name_that_leaves_the_folder_condemns_the_archive(tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / "a.zip", FILES | {name: b"evil"})
    with pytest.raises(InputError,
                       match="the name leaves the folder, or is not a valid file name on every system; nothing was"):
        run(archive, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.zip"]


def test_two_names_that_are_one_file_on_some_systems_condemn_the_archive(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip", {"train2017/a.jpg": b"1", "train2017/A.JPG": b"2"})
    with pytest.raises(InputError, match=r"member 'train2017/A\.JPG': the name occurs twice"):
        run(archive, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_device_condemns_the_archive(tmp_path: Path, kind: int) -> None:
    link = zipfile.ZipInfo("train2017/link")
    link.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="member 'train2017/link': a link or device"):
        run(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_encrypted_member_condemns_the_archive(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip")
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag in the last entry of the central directory
    archive.write_bytes(data)
    with pytest.raises(InputError, match=r"member 'train2017/000000000025\.jpg': encrypted"):
        run(archive, tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named_and_not_written(tmp_path: Path, method: int) -> None:
    archive = make(tmp_path / "a.zip", method=method)
    data, name = bytearray(archive.read_bytes()), "train2017/000000000009.jpg"
    data[data.index(name.encode()) + len(name) + 1000] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zip: member 'train2017/000000000009\.jpg' is damaged .*Delete the"):
        run(archive, tmp_path / "out")
    assert list(files_below(tmp_path / "out")) == ["train2017/000000000003.jpg"]


@pytest.mark.parametrize("content", [b"", b"<html>not a zip</html>"])
def test_what_is_no_zip_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.zip: not a zip archive, or incomplete"):
        run(tmp_path / "a.zip", tmp_path / "out")


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip")
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(InputError, match="or incomplete"):
        run(archive, tmp_path / "out")


def test_nothing_is_started_that_the_disk_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, out = make(tmp_path / "a.zip"), tmp_path / "out"
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 15_000))
    with pytest.raises(StateError, match=r"out: 0\.000 GB are needed, 0\.000 GB are free on this disk"):
        run(archive, out)
    assert not out.exists()
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 16_000))
    run(archive, out)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 0))
    run(archive, out)  # everything is there: no space is needed


def test_the_space_that_is_needed_is_said_in_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 2_500_000_000))
    require_space(tmp_path / "not" / "there", 2_500_000_000)
    with pytest.raises(StateError, match=r"there: 40\.310 GB are needed, 2\.500 GB are free"):
        require_space(tmp_path / "not" / "there", 40_310_000_000)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    archive = make(tmp_path / "a.zip")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train2017").write_text("a file where a folder must be")
    with pytest.raises(StateError, match=r"train2017.000000000003\.jpg: cannot be written: "):
        run(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["../outside.jpg", "/tmp/outside.jpg", "train2017/../../outside.jpg", "train2017/nul.txt"])
def test_the_name_that_is_written_is_checked_too(tmp_path: Path, name: str) -> None:
    member = zipfile.ZipInfo("train2017/1.jpg")
    member.filename = name  # what Python 3.12 does with the Unicode Path extra field
    with pytest.raises(InputError, match="leaves the folder, or is not a valid"):
        _checked(tmp_path / "a.zip", [member], is_own=False)
