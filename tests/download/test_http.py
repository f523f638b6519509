"""Download over HTTP, each time from a real server."""

import gzip
import hashlib
import io
import os
import random
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from support.processes import wait_until
from support.project import ROOT
from support.servers import Fault, Server, serve
from tqdm import tqdm

from ssd_lib.download.connection import RECEIVE_BYTES, RetryPolicy
from ssd_lib.download.http import fetch, fetch_lines, offered_bytes
from ssd_lib.download.part_file import forget_partial, part_path
from ssd_lib.errors import InputError, StateError
from ssd_lib.manifest import Archive

CONTENT = random.Random(1).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
OTHER = random.Random(2).randbytes(300_000)
CUT = 3 * RECEIVE_BYTES + 100  # of a chunk that breaks off nothing is kept
KEPT = 3 * RECEIVE_BYTES
QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, timeout_s=0.3)
LINES = [b"%06d,%s\n" % (number, bytes(64)) for number in range(4000)]  # 288,000 bytes
EVEN = b"".join(LINES[::2])


def get(server: Server, target: Path, expect_bytes: int | None = None, expect_md5: str | None = None,
        retry_policy: RetryPolicy = QUICK, stop: threading.Event | None = None) -> Archive:
    url, bar = f"{server.url}/a.zip", tqdm(disable=True)
    return fetch(url, target, expect_bytes, expect_md5, bar, stop=stop, retry_policy=retry_policy)


def even_lines(lines: bytes, start: int) -> bytes:
    return b"".join(line for line in lines.splitlines(keepends=True) if int(line[:6]) % 2 == 0)


def get_lines(server: Server, target: Path, retry_policy: RetryPolicy = QUICK) -> bytes:
    fetch_lines(f"{server.url}/a.csv", target, even_lines, tqdm(disable=True), retry_policy)
    return target.read_bytes()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "a.zip"


def test_a_file_arrives_whole_and_nothing_else_is_left(target: Path) -> None:
    with serve({"/a.zip": CONTENT}) as server:
        assert get(server, target, len(CONTENT), MD5) == Archive(bytes=len(CONTENT), md5=MD5)
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["a.zip"]


def test_a_file_that_is_there_costs_no_request(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    with serve({}) as server:
        assert get(server, target, len(CONTENT), MD5).md5 == MD5
        assert server.gets == []


def test_a_broken_transfer_continues_where_it_was(target: Path) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(cut_after=CUT), Fault(cut_after=RECEIVE_BYTES)]) as server:
        get(server, target, len(CONTENT), MD5)
        assert server.gets == [("/a.zip", 0), ("/a.zip", KEPT), ("/a.zip", KEPT + RECEIVE_BYTES)]
    assert target.read_bytes() == CONTENT


def test_a_transfer_that_waits_says_why(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(cut_after=CUT), Fault(status=503)]) as server:
        get(server, target)
    assert capsys.readouterr().err.splitlines() == [
        "a.zip: the connection was cut off; attempt 2 of 3 in 0 s",
        "a.zip: HTTP 503 Service Unavailable; attempt 3 of 3 in 0 s",
    ]


def test_a_stalled_transfer_continues_where_it_was(target: Path) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(stall_after=CUT)]) as server:
        get(server, target)
        assert server.gets == [("/a.zip", 0), ("/a.zip", KEPT)]
    assert target.read_bytes() == CONTENT


def test_attempts_that_bring_something_new_do_not_count_as_failures(target: Path) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(cut_after=RECEIVE_BYTES) for _ in range(4)]) as server:
        get(server, target)
        assert len(server.gets) == 5 > QUICK.attempts
    assert target.read_bytes() == CONTENT


def test_a_killed_download_continues_where_it_was(target: Path) -> None:
    code = ("import sys; from pathlib import Path; from tqdm import tqdm; from ssd_lib.download.http import fetch; "
            "fetch(sys.argv[1], Path(sys.argv[2]), None, None, tqdm(disable=True))")
    part = target.with_name("a.zip.part")
    with serve({"/a.zip": CONTENT}, slow_bytes_per_s=400_000) as server:
        process = subprocess.Popen([sys.executable, "-c", code, f"{server.url}/a.zip", str(target)], cwd=ROOT)
        wait_until(lambda: part.exists() and part.stat().st_size > 0)
        process.kill()
        process.wait()
        there = part.stat().st_size
        assert 0 < there < len(CONTENT)
        server.slow_bytes_per_s = 0
        get(server, target, len(CONTENT), MD5)
        assert server.gets == [("/a.zip", 0), ("/a.zip", there)]
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_complete_costs_no_request(target: Path) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(cut_after=100_000)]) as server:
        with pytest.raises(StateError):
            get(server, target, retry_policy=RetryPolicy(attempts=1))
        target.with_name("a.zip.part").write_bytes(CONTENT)  # as a kill between the last byte and the check leaves it
        get(server, target, len(CONTENT), MD5)
        assert len(server.gets) == 1
    assert target.read_bytes() == CONTENT


def test_a_part_without_its_note_is_not_trusted(target: Path) -> None:
    target.parent.mkdir()
    target.with_name("a.zip.part").write_bytes(OTHER[:1000])
    with serve({"/a.zip": CONTENT}) as server:
        get(server, target)
        assert server.gets == [("/a.zip", 0)]
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again_and_that_is_said(target: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(cut_after=CUT)], knows_ranges=False) as server:
        get(server, target)
        assert len(server.gets) == 2
    assert target.read_bytes() == CONTENT
    assert "a.zip: the server sends all of it again, not the rest from byte" in capsys.readouterr().err


def test_a_server_that_states_no_length_is_believed(target: Path) -> None:
    with serve({"/a.zip": CONTENT}, states_length=False) as server:
        assert get(server, target, len(CONTENT), MD5).bytes == len(CONTENT)


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_two_versions_of_a_file_are_never_mixed(target: Path, knows_if_range: bool) -> None:
    with serve({"/a.zip": OTHER}, faults=[Fault(cut_after=CUT)], knows_if_range=knows_if_range) as server:
        with pytest.raises(StateError, match=f"{KEPT} bytes are kept"):
            get(server, target, retry_policy=RetryPolicy(attempts=1))
        server.files["/a.zip"] = CONTENT
        get(server, target)
    assert target.read_bytes() == CONTENT


def test_a_file_that_became_shorter_starts_again(target: Path) -> None:
    with serve({"/a.zip": OTHER}, faults=[Fault(cut_after=CUT)], knows_if_range=False) as server:
        with pytest.raises(StateError):
            get(server, target, retry_policy=RetryPolicy(attempts=1))
        server.files["/a.zip"] = CONTENT[:1000]  # the server answers 416
        get(server, target)
    assert target.read_bytes() == CONTENT[:1000]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(target: Path, status: int) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(status=status), Fault(status=status)]) as server:
        get(server, target)
        assert len(server.gets) == 3


def test_a_server_that_stays_away_is_given_up_with_the_reason(target: Path) -> None:
    with serve({}) as server:
        pass
    with pytest.raises(StateError, match=r"a\.zip: .*refused.*; given up after 3 attempts, 0 bytes are kept\. Run"):
        get(server, target)


@pytest.mark.parametrize("status", [403, 404])
def test_a_missing_file_is_asked_for_once(target: Path, status: int) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(status=status)]) as server:
        with pytest.raises(InputError, match=rf"a\.zip: the server answers HTTP {status} .*Check data\.base_url"):
            get(server, target)
        assert len(server.gets) == 1


def test_a_web_page_is_no_archive_and_does_not_cost_the_part(target: Path) -> None:
    page = Fault(body=b"<html>log in</html>", content_type="text/html; charset=utf-8")
    with serve({"/a.zip": CONTENT}, faults=[Fault(cut_after=CUT), page]) as server, pytest.raises(
        InputError, match=r"sent a web page .*a file of data was expected"
    ):
        get(server, target)
    assert target.with_name("a.zip.part").read_bytes() == CONTENT[:KEPT]


def test_another_size_than_the_official_one_is_refused_before_the_transfer(target: Path) -> None:
    with serve({"/a.zip": CONTENT}) as server, pytest.raises(
        InputError, match="the server has 300000 bytes; the official file has 300001"
    ):
        get(server, target, expect_bytes=300_001)
    assert not target.parent.exists()


def test_a_wrong_file_is_fetched_once_more(target: Path) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(body=OTHER)]) as server:
        get(server, target, len(CONTENT), MD5)
        assert server.gets == [("/a.zip", 0), ("/a.zip", 0)]
    assert target.read_bytes() == CONTENT


def test_a_file_that_stays_wrong_says_found_and_expected(target: Path) -> None:
    found = hashlib.md5(OTHER).hexdigest()
    with serve({"/a.zip": OTHER}) as server, pytest.raises(
        StateError, match=f"a wrong file, twice: 300000 bytes with MD5 {found}; expected 300000 bytes with MD5 {MD5}"
    ):
        get(server, target, len(CONTENT), MD5)
    assert not target.exists()
    assert not target.with_name("a.zip.part").exists()


def test_a_stopped_transfer_keeps_its_part(target: Path) -> None:
    stop = threading.Event()
    with serve({"/a.zip": CONTENT}, slow_bytes_per_s=400_000) as server:
        threading.Timer(0.4, stop.set).start()
        with pytest.raises(StateError, match="stopped; what has arrived is kept"):
            get(server, target, stop=stop)
    assert 0 < target.with_name("a.zip.part").stat().st_size < len(CONTENT)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(target: Path) -> None:
    code = ("import resource, sys; from pathlib import Path; from tqdm import tqdm\n"
            "from ssd_lib.download.http import fetch\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "try: fetch(sys.argv[1], Path(sys.argv[2]), None, None, tqdm(disable=True))\n"
            "except RuntimeError as error: print(type(error).__name__, error)")
    with serve({"/a.zip": CONTENT}) as server:
        command = [sys.executable, "-c", code, f"{server.url}/a.zip", str(target)]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert output.startswith("StateError")
        assert "a.zip.part: cannot be written: File too large; what has arrived is kept. Free some disk space" in output
        there = target.with_name("a.zip.part").stat().st_size
        assert 0 < there <= 100_000
        get(server, target)
        assert server.gets[-1] == ("/a.zip", there)
    assert target.read_bytes() == CONTENT


def test_a_server_tells_the_size_beforehand(target: Path) -> None:
    with serve({"/a.zip": CONTENT}) as server:
        assert offered_bytes(f"{server.url}/a.zip") == len(CONTENT)
        assert offered_bytes(f"{server.url}/b.zip") is None
    assert offered_bytes(f"{server.url}/a.zip", QUICK) is None


@pytest.mark.parametrize("asked", ["1", "3600"])
def test_a_server_that_names_a_time_is_asked_after_it_or_after_the_longest_wait(
    target: Path, asked: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssd_lib.download.connection.LONGEST_ASKED_S", 1.0)
    start_s = time.monotonic()
    with serve({"/a.zip": CONTENT}, faults=[Fault(status=503, headers={"Retry-After": asked})]) as server:
        get(server, target)
    assert 1.0 <= time.monotonic() - start_s < 30
    assert "a.zip: HTTP 503 Service Unavailable; attempt 2 of 3 in 1 s" in capsys.readouterr().err


def test_a_time_that_is_no_number_does_not_stop_the_waiting(target: Path) -> None:
    late = {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}
    with serve({"/a.zip": CONTENT}, faults=[Fault(status=503, headers=late)]) as server:
        assert get(server, target).md5 == MD5


def test_a_redirect_is_followed(target: Path) -> None:
    with serve({"/b.zip": CONTENT}, faults=[Fault(status=302, headers={"Location": "/b.zip"})]) as server:
        assert get(server, target).md5 == MD5
        assert server.gets == [("/a.zip", 0), ("/b.zip", 0)]


def test_redirects_without_end_are_an_error(target: Path) -> None:
    loop = [Fault(status=302, headers={"Location": "/a.zip"}) for _ in range(40)]
    with serve({"/a.zip": CONTENT}, faults=loop) as server, pytest.raises(
        InputError, match=r"a\.zip: Exceeded 30 redirects; a plain http address is needed\. Check data\.base_url"
    ):
        get(server, target)
    assert not target.exists()


def test_a_length_that_is_too_long_is_never_reached_and_said(target: Path) -> None:
    longer = [Fault(headers={"Content-Length": "300010"}) for _ in range(9)]
    with serve({"/a.zip": CONTENT}, faults=longer, knows_ranges=False) as server, pytest.raises(
        StateError, match=r"a\.zip: the connection was cut off; given up after 3 attempts"
    ):
        get(server, target)
    assert not target.exists()


def test_a_length_that_is_too_short_leaves_another_file_than_the_known_one(target: Path) -> None:
    shorter = [Fault(headers={"Content-Length": "299990"}) for _ in range(2)]
    with serve({"/a.zip": CONTENT}, faults=shorter) as server, pytest.raises(StateError, match="a wrong file, twice: 299990"):
        get(server, target, None, MD5)
    assert not target.exists()


def test_a_compressed_transfer_is_refused_by_name(target: Path) -> None:
    squeezed = Fault(body=gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"})
    with serve({"/a.zip": CONTENT}, faults=[squeezed]) as server, pytest.raises(
        InputError, match=r"a\.zip: the server sent it compressed \(Content-Encoding: gzip\); .* proxy"
    ):
        get(server, target)
    assert not target.parent.exists()


def zipped(content: bytes) -> bytes:
    """Return a zip archive of one stored member, so that equal sizes give equal sizes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a.bin"), content)
    return file.getvalue()


@pytest.mark.parametrize("has_md5", [True, False], ids=["MD5", "CRCs"])
def test_a_server_that_names_no_version_is_continued_where_the_whole_file_is_verified(target: Path, has_md5: bool) -> None:
    content = CONTENT if has_md5 else zipped(CONTENT)
    md5 = hashlib.md5(content).hexdigest() if has_md5 else None
    with serve({"/a.zip": content}, faults=[Fault(cut_after=CUT)] * 3, names_version=False) as server:
        with pytest.raises(StateError, match=f"given up after 1 attempts, {KEPT} bytes are kept"):
            get(server, target, None, md5, RetryPolicy(attempts=1))
        server.faults.clear()
        get(server, target, None, md5)
        assert server.gets == [("/a.zip", 0), ("/a.zip", KEPT)]
    assert target.read_bytes() == content


@pytest.mark.parametrize("has_md5", [True, False], ids=["MD5", "CRCs"])
def test_two_versions_of_equal_size_that_no_server_tells_apart_are_found_and_fetched_anew(target: Path, has_md5: bool) -> None:
    old, new = (OTHER, CONTENT) if has_md5 else (zipped(OTHER), zipped(CONTENT))
    with serve({"/a.zip": old}, faults=[Fault(cut_after=CUT)], names_version=False) as server:
        with pytest.raises(StateError):
            get(server, target, retry_policy=RetryPolicy(attempts=1))
        server.files["/a.zip"] = new
        get(server, target, None, hashlib.md5(new).hexdigest() if has_md5 else None)
        assert server.gets == [("/a.zip", 0), ("/a.zip", KEPT), ("/a.zip", 0)]
    assert target.read_bytes() == new


def test_a_zip_that_stays_damaged_on_a_server_without_versions_is_an_error(target: Path) -> None:
    damaged = bytearray(zipped(CONTENT))
    damaged[1000] ^= 1
    with serve({"/a.zip": bytes(damaged)}, names_version=False) as server, pytest.raises(
        StateError, match=r"a\.zip: a wrong file, twice: its member 'a\.bin' is damaged"
    ):
        get(server, target)
    assert not target.exists()


def test_a_text_of_an_unknown_version_is_not_continued_and_nothing_is_said_to_be_kept(target: Path) -> None:
    cut = Fault(cut_after=CUT)
    with serve({"/a.csv": b"".join(LINES)}, faults=[cut], names_version=False) as server:
        with pytest.raises(StateError, match="0 bytes are kept"):
            get_lines(server, target, RetryPolicy(attempts=1))
        assert get_lines(server, target) == EVEN
        assert server.gets == [("/a.csv", 0), ("/a.csv", 0)]


@pytest.mark.parametrize("states_length", [True, False])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_an_endless_body_ends_at_the_expected_size(target: Path, states_length: bool, knows_ranges: bool) -> None:
    faults = [Fault(cut_after=CUT), Fault(is_endless=True)]
    with serve({"/a.zip": CONTENT}, faults=faults, states_length=states_length, knows_ranges=knows_ranges) as server:
        get(server, target, len(CONTENT), MD5)
    assert target.read_bytes() == CONTENT


def test_more_than_the_expected_size_is_not_taken(target: Path) -> None:
    with serve({"/a.zip": CONTENT + OTHER}, states_length=False) as server:
        assert get(server, target, len(CONTENT), MD5).bytes == len(CONTENT)
    assert target.read_bytes() == CONTENT


def test_an_endless_body_of_unknown_size_ends_at_the_limit(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_lib.download.http.LARGEST_BYTES", 1_000_000)
    written: list[int] = []

    def measure_and_forget(target: Path) -> None:
        written.append(part_path(target).stat().st_size)
        forget_partial(target)

    monkeypatch.setattr("ssd_lib.download.http.forget_partial", measure_and_forget)
    endless = [Fault(is_endless=True) for _ in range(2)]
    with serve({"/a.zip": CONTENT, "/a.csv": b"".join(LINES)}, faults=endless, states_length=False) as server:
        with pytest.raises(InputError, match=r"a\.zip: the server sent 1000000 bytes, the most that are read, and no end"):
            get(server, target)
        with pytest.raises(InputError, match=r"a\.csv: the server sent 1000000 bytes"):
            get_lines(server, target)
    assert not target.exists()
    assert not part_path(target).exists()
    assert 0 < min(written) <= max(written) <= 1_000_000


def test_a_large_table_is_never_whole_in_memory(target: Path) -> None:
    lines = b"".join(b"%06d,%s\n" % (number, b"x" * 200) for number in range(100_000))
    with serve({"/a.csv": lines}) as server:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        fetch_lines(f"{server.url}/a.csv", target, even_lines, tqdm(disable=True), retry_policy=QUICK)
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    assert target.stat().st_size == len(lines) / 2
    assert peak < 3_000_000


def test_a_stated_size_beyond_the_limit_is_refused_before_the_transfer(target: Path) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(headers={"Content-Length": "9" * 15})]) as server, pytest.raises(
        InputError, match=r"a\.zip: the server says that it has 9{15} bytes; at most 100000000000 are allowed"
    ):
        get(server, target)


@pytest.mark.parametrize("drip", [Fault(drips=True), Fault(drips=True, headers={"X": "headers at once"}),
                                  Fault(drips=True, headers={"Content-Length": ""})], ids=["headers", "body", "no length"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(target: Path, drip: Fault) -> None:
    impatient = RetryPolicy(attempts=2, first_wait_s=0.01, slowest_s=0.2)
    start_s = time.monotonic()
    with serve({"/a.zip": CONTENT}, faults=[drip] * 2) as server:
        with pytest.raises(StateError, match=r"a\.zip: less than 65536 bytes in 0\.2 s, which is too slow; given up after 2"):
            get(server, target, retry_policy=impatient)
        assert time.monotonic() - start_s < 30
        assert get(server, target, retry_policy=impatient).md5 == MD5
        server.faults.append(drip)
        assert get(server, target.with_name("b.zip"), len(CONTENT), MD5, impatient).md5 == MD5


def test_a_size_is_not_waited_for_longer_than_for_a_file() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            for byte in b"HTTP/1.0 200 OK\r\n" * 30:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
    sender = threading.Thread(target=drip)
    sender.start()
    start_s = time.monotonic()
    with listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.zip"
        assert offered_bytes(url, RetryPolicy(slowest_s=0.2)) is None
        assert time.monotonic() - start_s < 10  # of 25
        sender.join()


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1_0", "+5", "0x10", "\xb2", "1.0", ""])
def test_a_length_of_odd_digits_counts_as_not_stated(target: Path, length: str) -> None:
    with serve({"/a.zip": CONTENT}, faults=[Fault(headers={"Content-Length": length})]) as server:
        assert get(server, target, len(CONTENT), MD5).md5 == MD5


@pytest.mark.parametrize("note", [
    '{"version": 5, "total_bytes": 300000}', '{"version": "v\\nX: y", "total_bytes": 300000}', "[" * 99_999, "\0", "",
    '{"version": "v", "total_bytes": "300000"}', '{"version": "v", "total_bytes": 3e5}', '{"version": "v"', '"v"',
    '{"version": "v", "total_bytes": 300000, "bytes": -7}', '{"version": "v", "total_bytes": 300000, "kept_bytes": "1"}',
])
def test_a_damaged_note_heals_by_starting_anew(target: Path, note: str) -> None:
    target.parent.mkdir()
    target.with_name("a.zip.part").write_bytes(OTHER[:1000])
    path = target.with_name("a.zip.part.json")
    path.write_text(note)
    with serve({"/a.zip": CONTENT}) as server:
        get(server, target)
        assert server.gets == [("/a.zip", 0)]
    assert os.listdir(target.parent) == ["a.zip"]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["a.zip", "a.zip.part", "a.zip.part.json"])
def test_a_folder_in_place_of_a_file_is_one_line(target: Path, name: str) -> None:
    target.with_name(name).mkdir(parents=True)
    (target.with_name(name) / "kept").touch()
    with serve({"/a.zip": CONTENT, "/a.csv": b"".join(LINES)}) as server:
        for attempt in (lambda: get(server, target), lambda: get_lines(server, target)):
            with pytest.raises(StateError, match=rf"{name}: (a folder is in the place|cannot be written: Is a)") as caught:
                attempt()
            assert "\n" not in str(caught.value)
    assert (target.with_name(name) / "kept").exists()


def test_only_the_lines_that_are_wanted_arrive_and_nothing_else_is_left(target: Path) -> None:
    with serve({"/a.csv": b"".join(LINES)}) as server:
        assert get_lines(server, target) == EVEN
        server.gets.clear()
        assert get_lines(server, target) == EVEN
        assert server.gets == []
    assert os.listdir(target.parent) == [target.name]


GOOD = b"".join(LINES)
LAST_LINE = len(GOOD[:KEPT].rpartition(b"\n")[0]) + 1  # of a line that breaks off nothing is kept


@pytest.mark.parametrize(("faults", "manners", "second_start"), [
    ([Fault(cut_after=CUT)], {}, LAST_LINE),
    ([Fault(stall_after=CUT)], {}, LAST_LINE),
    ([Fault(cut_after=CUT), Fault(status=500)], {}, LAST_LINE),
    ([Fault(cut_after=CUT), Fault(status=503, headers={"Retry-After": "0"})], {}, LAST_LINE),
    ([Fault(cut_after=CUT)], {"knows_ranges": False}, LAST_LINE),  # and is sent all of it
    ([Fault(body=b"000000,older\n" * 30_000, cut_after=CUT)], {}, KEPT - KEPT % 13),
    ([Fault(body=b"000000,older\n" * 30_000, cut_after=CUT)], {"knows_if_range": False}, None),
    ([Fault(status=302, headers={"Location": "/a.csv"})], {}, 0),
    ([Fault(headers={"Content-Length": str(len(GOOD) + 9)})], {}, None),
], ids=["cut", "stall", "500", "503", "no ranges", "other version", "other version, no If-Range", "redirect", "long"])
def test_lines_survive_every_fault(target: Path, faults: list[Fault], manners: dict[str, bool],
                                   second_start: int | None) -> None:
    with serve({"/a.csv": GOOD}, faults=faults, **manners) as server:
        assert get_lines(server, target) == EVEN
        assert second_start in (None, server.gets[1][1])


def test_lines_after_a_kill_go_on_where_the_note_says(target: Path) -> None:
    with serve({"/a.csv": GOOD}, faults=[Fault(cut_after=CUT)]) as server:
        with pytest.raises(StateError):
            get_lines(server, target, RetryPolicy(attempts=1))
        with target.with_name("a.zip.part").open("ab") as part:
            part.write(b"what a killed process wrote after its last note\n" * 9000)
        assert get_lines(server, target) == EVEN
        assert server.gets == [("/a.csv", 0), ("/a.csv", LAST_LINE)]


def test_a_web_page_costs_none_of_the_lines_that_are_there(target: Path) -> None:
    page = Fault(body=b"<html>log in</html>", content_type="text/html")
    with serve({"/a.csv": GOOD}, faults=[Fault(cut_after=CUT), page]) as server:
        with pytest.raises(InputError, match=r"a\.csv: the server sent a web page"):
            get_lines(server, target)
        assert get_lines(server, target) == EVEN
        assert server.gets[-1] == ("/a.csv", LAST_LINE)


@pytest.mark.parametrize("status", [403, 404])
def test_missing_lines_are_asked_for_once(target: Path, status: int) -> None:
    with serve({"/a.csv": GOOD}, faults=[Fault(status=status)]) as server:
        with pytest.raises(InputError, match=rf"a\.csv: the server answers HTTP {status}"):
            get_lines(server, target)
        assert len(server.gets) == 1
