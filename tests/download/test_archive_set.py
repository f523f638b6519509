"""Download and unpack archives: nothing twice, nothing lost, and one failure stops all."""

import hashlib
import io
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from support.servers import Fault, serve

from ssd_lib.download.archive_set import Remote, fetch_archives, intact_records
from ssd_lib.download.connection import RetryPolicy
from ssd_lib.errors import InputError, StateError

QUICK = RetryPolicy(attempts=2, first_wait_s=0.01, timeout_s=1.0)
A, B = Remote("zips/a.zip", ("a",)), Remote("zips/b.zip", ("b",), growth=2.0)
Usage = namedtuple("Usage", "total used free")


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"{name[0]}/{name}.jpg"), content)
    return buffer.getvalue()


ZIPS = {"/zips/a.zip": zipped(a1=b"1" * 1000, a2=b"2" * 2000), "/zips/b.zip": zipped(b1=b"3" * 400_000)}
NAMES = ["a/a1.jpg", "a/a2.jpg", "b/b1.jpg"]


def test_files_and_records_stay_and_archives_go(tmp_path: Path) -> None:
    with serve(ZIPS) as server:
        records = fetch_archives(tmp_path, [A, B], server.url, 2, QUICK)
    assert [records[path].archive.md5 for path in ("zips/a.zip", "zips/b.zip")] == [
        hashlib.md5(content).hexdigest() for content in ZIPS.values()
    ]
    assert records["zips/a.zip"].files["a/a1.jpg"] == (1000, hashlib.sha256(b"1" * 1000).hexdigest())
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [".done/a.zip.json", ".done/b.zip.json", *NAMES]
    assert intact_records(tmp_path, [A, B]) == records


def test_a_log_file_gets_a_line_for_each_archive_and_no_bars(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(ZIPS, slow_bytes_per_s=800_000) as server:  # b is under way when a is done
        fetch_archives(tmp_path, [A, B], server.url, 2, QUICK)
    assert sorted(capfd.readouterr().err.splitlines()) == ["a.zip: 0.0 MB, 2 files", "b.zip: 0.4 MB, 1 file"]


def test_a_second_run_makes_no_request(tmp_path: Path) -> None:
    with serve(ZIPS) as server:
        first = fetch_archives(tmp_path, [A, B], server.url, 2, QUICK)
        server.gets.clear()
        server.heads.clear()
        assert fetch_archives(tmp_path, [A, B], server.url, 2, QUICK) == first
        assert (server.gets, server.heads) == ([], [])


@pytest.mark.parametrize("content", [None, b"short"])
def test_a_missing_or_short_file_brings_back_its_archive_alone(tmp_path: Path, content: bytes | None) -> None:
    with serve(ZIPS) as server:
        first = fetch_archives(tmp_path, [A, B], server.url, 2, QUICK)
        (tmp_path / "a/a1.jpg").unlink()
        if content is not None:
            (tmp_path / "a/a1.jpg").write_bytes(content)
        inode = (tmp_path / "a/a2.jpg").stat().st_ino
        server.gets.clear()
        assert fetch_archives(tmp_path, [A, B], server.url, 2, QUICK) == first
        assert server.gets == [("/zips/a.zip", 0)]
    assert (tmp_path / "a/a1.jpg").read_bytes() == b"1" * 1000
    assert (tmp_path / "a/a2.jpg").stat().st_ino == inode


@pytest.mark.parametrize("record", ["", "{}", '{"archive": {"bytes": 1}}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, record: str) -> None:
    with serve(ZIPS) as server:
        first = fetch_archives(tmp_path, [A], server.url, 1, QUICK)
        (tmp_path / ".done/a.zip.json").write_text(record)
        assert intact_records(tmp_path, [A]) == {}
        assert fetch_archives(tmp_path, [A], server.url, 1, QUICK) == first


def test_an_archive_that_a_kill_left_behind_its_record_is_removed(tmp_path: Path) -> None:
    with serve(ZIPS) as server:
        fetch_archives(tmp_path, [A], server.url, 1, QUICK)
        archive = tmp_path / "archives/zips/a.zip"
        archive.write_bytes(ZIPS["/zips/a.zip"])
        fetch_archives(tmp_path, [A], server.url, 1, QUICK)
        assert not archive.exists()


def test_an_archive_that_is_there_is_unpacked_without_a_request(tmp_path: Path) -> None:
    archive = tmp_path / "archives/zips/a.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(ZIPS["/zips/a.zip"])
    assert list(fetch_archives(tmp_path, [A], "", 1, QUICK)["zips/a.zip"].files) == NAMES[:2]


def test_one_failure_names_its_file_and_stops_the_others(tmp_path: Path) -> None:
    slow = {"/zips/b.zip": ZIPS["/zips/b.zip"]}  # 400 kB: 40 s
    start_s = time.monotonic()
    with serve(slow, slow_bytes_per_s=10_000) as server, pytest.raises(
        InputError, match=r"/zips/a\.zip: the server answers HTTP 404 Not Found"
    ):
        fetch_archives(tmp_path, [B, A], server.url, 2, QUICK)
    assert time.monotonic() - start_s < 20
    assert not (tmp_path / "b").exists()
    with serve(ZIPS) as server:
        fetch_archives(tmp_path, [A, B], server.url, 2, QUICK)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("[ab]/*")) == NAMES


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    damaged = bytearray(ZIPS["/zips/a.zip"])
    damaged[damaged.index(b"1" * 10)] ^= 0xFF
    with serve({"/zips/a.zip": bytes(damaged)}) as server, pytest.raises(
        InputError, match=r"a\.zip: member 'a/a1\.jpg' is damaged .*Delete the archive and run"
    ):
        fetch_archives(tmp_path, [A], server.url, 1, QUICK)
    assert not (tmp_path / ".done").exists()


def test_space_is_checked_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(ZIPS["/zips/b.zip"])  # the archive, and twice as much unpacked
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 3 * size - 1))
    with serve(ZIPS) as server:
        with pytest.raises(StateError, match=r"0\.001 GB are needed, 0\.001 GB are free on this disk.*Nothing was"):
            fetch_archives(tmp_path / "root", [B], server.url, 1, QUICK)
        assert server.gets == []
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 3 * size))
        fetch_archives(tmp_path / "root", [B], server.url, 1, QUICK)


def test_what_is_there_needs_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(ZIPS["/zips/b.zip"])
    with serve(ZIPS, faults=[Fault(cut_after=200_000)]) as server:
        with pytest.raises(StateError, match="given up after 1 attempts"):
            fetch_archives(tmp_path, [B], server.url, 1, RetryPolicy(attempts=1))
        there = (tmp_path / "archives/zips/b.zip.part").stat().st_size
        assert there > 0
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 3 * size - there - 1))
        with pytest.raises(StateError, match="are needed"):
            fetch_archives(tmp_path, [B], server.url, 1, QUICK)
        monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 3 * size - there))
        fetch_archives(tmp_path, [B], server.url, 1, QUICK)


@pytest.mark.parametrize("fault", [
    Fault(headers={"Content-Length": str(len(ZIPS["/zips/a.zip"]) - 10)}),  # a length that lies: the end never comes
    Fault(body=b"<html>log in first</html>"),  # a web page that calls itself a zip
    Fault(body=b""),
], ids=["too short", "web page", "empty"])
def test_what_is_no_whole_archive_never_becomes_files(tmp_path: Path, fault: Fault) -> None:
    with serve(ZIPS, faults=[fault]) as server:
        with pytest.raises(InputError, match=r"a\.zip: not a zip archive, or incomplete .*Delete it and run"):
            fetch_archives(tmp_path, [A], server.url, 1, QUICK)
        assert not (tmp_path / "a").exists()
        (tmp_path / "archives/zips/a.zip").unlink()
        assert list(fetch_archives(tmp_path, [A], server.url, 1, QUICK)["zips/a.zip"].files) == NAMES[:2]
