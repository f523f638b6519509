"""Download many small files: each is complete or absent, none twice, none damaged."""

import hashlib
import os
import random
import sys
import time
import tracemalloc
from collections import namedtuple
from pathlib import Path

import pytest
from support.processes import wait_until
from support.servers import Fault, Server, serve

from ssd_lib.download.connection import RetryPolicy
from ssd_lib.download.image_files import IMAGE_BYTES, JPEG, Row, download_images, fetch_images
from ssd_lib.errors import InputError, StateError

QUICK = RetryPolicy(attempts=3, first_wait_s=0.01, timeout_s=0.3)
PHOTOS = {f"{number:016x}.jpg": JPEG + random.Random(number).randbytes(2000 + number) for number in range(60)}
NAMES = list(PHOTOS)
FIRST = f"/train/{NAMES[0]}"
Usage = namedtuple("Usage", "total used free")


def on_server(images: dict[str, bytes] = PHOTOS) -> dict[str, bytes]:
    return {f"/train/{name}": content for name, content in images.items()}


def get(server: Server, folder: Path, names: list[str] = NAMES, retry_policy: RetryPolicy = QUICK) -> dict[str, Row]:
    return download_images(folder, f"{server.url}/train", names, 8, retry_policy)


def rows_of(names: list[str]) -> dict[str, Row]:
    return {name: (len(PHOTOS[name]), hashlib.sha256(PHOTOS[name]).hexdigest()) for name in names}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "train"


def test_every_photo_arrives_with_its_size_and_hash(folder: Path) -> None:
    with serve(on_server()) as server:
        rows = get(server, folder)
        assert sorted(server.gets) == [(f"/train/{name}", 0) for name in NAMES]
    assert list(rows) == NAMES
    assert rows == rows_of(NAMES)
    assert content(folder) == PHOTOS


def test_a_connection_is_used_for_many_images(folder: Path) -> None:
    with serve(on_server(), keeps_alive=True) as server:
        get(server, folder)
        assert server.connections <= 8


def test_a_second_run_asks_for_nothing_and_reads_no_image(folder: Path) -> None:
    with serve(on_server()) as server:
        first = get(server, folder)
        server.gets.clear()
        path = folder / NAMES[0]
        path.write_bytes(bytes(len(PHOTOS[NAMES[0]])))  # whoever read it would see that it is no JPEG
        assert get(server, folder) == first
        assert server.gets == []


def test_images_without_a_record_are_looked_at_and_damaged_ones_fetched(folder: Path) -> None:
    """So a kill, after which no record is written, costs no image; and a power cut that left an empty file, that one."""
    with serve(on_server()) as server:
        get(server, folder)
        (folder.parent / ".done/train.json").unlink()
        (folder / NAMES[3]).write_bytes(b"")
        (folder / NAMES[5]).unlink()
        server.gets.clear()
        assert get(server, folder) == rows_of(NAMES)
        assert sorted(path for path, _ in server.gets) == [f"/train/{NAMES[3]}", f"/train/{NAMES[5]}"]
    assert content(folder) == PHOTOS


@pytest.mark.parametrize("record", ["", "[]", '{"a": 1}', "null"])
def test_a_damaged_record_is_no_record(folder: Path, record: str) -> None:
    with serve(on_server()) as server:
        get(server, folder)
        (folder.parent / ".done/train.json").write_text(record)
        server.gets.clear()
        assert get(server, folder) == rows_of(NAMES)
        assert server.gets == []


def test_more_images_are_fetched_beside_those_that_are_there(folder: Path) -> None:
    with serve(on_server()) as server:
        assert get(server, folder, NAMES[:10]) == rows_of(NAMES[:10])
        server.gets.clear()
        assert get(server, folder, NAMES[:12]) == rows_of(NAMES[:12])
        assert sorted(path for path, _ in server.gets) == [f"/train/{name}" for name in NAMES[10:12]]
        assert get(server, folder, NAMES[:2]) == rows_of(NAMES[:2])


@pytest.mark.parametrize("faults", [
    [Fault(cut_after=1000)],
    [Fault(stall_after=1000)],
    [Fault(status=500), Fault(status=429)],
    [Fault(status=503, headers={"Retry-After": "0"})],
    [Fault(headers={"Content-Length": "9999"})],
    [Fault(status=302, headers={"Location": f"/train/{NAMES[0]}"})],
], ids=["cut", "stall", "500 and 429", "503", "too long", "redirect"])
def test_a_photo_survives_what_passes(folder: Path, faults: list[Fault]) -> None:
    with serve(on_server(), path_faults={FIRST: faults}) as server:
        assert get(server, folder, NAMES[:10]) == rows_of(NAMES[:10])
    assert content(folder) == {name: PHOTOS[name] for name in NAMES[:10]}


@pytest.mark.parametrize(("fault", "kind", "text"), [
    (Fault(cut_after=1000), StateError, f"{NAMES[0]}: the connection was cut off; given up after 3 attempts"),
    (Fault(status=503), StateError, "HTTP 503 Service Unavailable; given up after 3 attempts"),
    (Fault(status=401), InputError, "the server answers HTTP 401 Unauthorized; this file must exist"),
    (Fault(body=b"<html>", content_type="text/html"), InputError, r"the server sent a web page .*requires a login"),
    (Fault(headers={"Content-Encoding": "br"}), InputError, r"compressed \(Content-Encoding: br\)"),
    (Fault(status=302, headers={"Location": FIRST}), InputError, "Exceeded 30 redirects"),
], ids=["cut", "503", "401", "web page", "compressed", "redirects"])
def test_what_does_not_pass_is_named_and_leaves_no_file(folder: Path, fault: Fault, kind: type[Exception], text: str) -> None:
    with serve(on_server(), path_faults={FIRST: [fault] * 50}) as server:
        with pytest.raises(kind, match=text):
            get(server, folder, NAMES[:10])
        assert not (folder / NAMES[0]).exists()
        server.path_faults.clear()
        assert get(server, folder, NAMES[:10]) == rows_of(NAMES[:10])


@pytest.mark.parametrize("fault", [Fault(status=403), Fault(status=404), Fault(body=b"GIF89a"), Fault(body=b"")])
def test_a_photo_that_is_gone_is_left_out_and_not_asked_for_again(folder: Path, fault: Fault) -> None:
    note = folder.parent / "train-missing.txt"
    with serve(on_server(), path_faults={FIRST: [fault]}) as server:
        assert get(server, folder) == rows_of(NAMES[1:])
        assert note.read_text() == f"{NAMES[0]}\n"
        server.gets.clear()
        assert get(server, folder) == rows_of(NAMES[1:])
        assert server.gets == []
        note.unlink()
        assert get(server, folder) == rows_of(NAMES)


def test_too_many_missing_images_are_a_wrong_server(folder: Path) -> None:
    with serve(on_server({name: PHOTOS[name] for name in NAMES[:54]})) as server, pytest.raises(
        InputError, match=r"/train: 6 of \d+ images do not exist .* such as '.*\.jpg'; at most 5 of 60 may be missing\. Check"
    ):
        get(server, folder)
    assert not (folder.parent / "train-missing.txt").exists()


def test_of_many_images_one_in_a_hundred_may_be_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_lib.download.image_files.MOST_MISSING", 0)
    many = {f"{number:016x}.jpg": JPEG for number in range(100)}
    with serve(on_server(dict(list(many.items())[1:]))) as server:
        assert list(get(server, folder, list(many))) == list(many)[1:]
        with pytest.raises(InputError, match="at most 0 of 99 may be missing"):
            get(server, folder.with_name("validation"), list(many)[:99])


@pytest.mark.parametrize("asked", [3, 60])
def test_a_server_that_has_none_is_found_out_at_once(folder: Path, asked: int) -> None:
    with serve({}) as server:
        with pytest.raises(InputError, match=f"images do not exist .*of {asked} may be missing"):
            get(server, folder, NAMES[:asked])
        assert len(server.gets) < 50


def test_space_is_checked_before_the_first_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(0, 0, 10 * IMAGE_BYTES - 1))
    with serve(on_server()) as server:
        with pytest.raises(StateError, match=r"train: 0\.003 GB are needed"):
            get(server, folder, NAMES[:10])
        assert server.gets == []
        get(server, folder, NAMES[:9])
        get(server, folder, NAMES[:10])  # one is new


def test_an_endless_image_ends_at_the_limit_and_leaves_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_lib.download.image_files.LARGEST_IMAGE_BYTES", 500_000)
    endless = {FIRST: [Fault(is_endless=True, headers={"Content-Length": ""})]}
    with serve(on_server(), path_faults=endless) as server, pytest.raises(
        InputError, match=rf"{NAMES[0]}: the server sends more than 500000 bytes, the most for an image"
    ):
        get(server, folder, NAMES[:1])
    assert list(folder.iterdir()) == []


def test_a_photo_that_drips_is_asked_for_again_and_then_given_up(folder: Path) -> None:
    impatient = RetryPolicy(attempts=2, first_wait_s=0.01, slowest_s=0.2)
    drip = Fault(drips=True, headers={"Content-Length": ""})
    with serve(on_server(), path_faults={FIRST: [drip] * 3}) as server:
        with pytest.raises(StateError, match=f"{NAMES[0]}: less than 65536 bytes in 0.2 s, which is too slow"):
            get(server, folder, NAMES[:3], impatient)
        assert not (folder / NAMES[0]).exists()
        assert get(server, folder, NAMES[:3], impatient) == rows_of(NAMES[:3])


def test_a_large_photo_is_never_whole_in_memory(folder: Path) -> None:
    large = JPEG + random.Random(1).randbytes(30_000_000)
    with serve(on_server({NAMES[0]: large})) as server:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        (name, row), = fetch_images(folder, f"{server.url}/train", NAMES[:1], 1, lambda text: None, QUICK)
        peak = tracemalloc.get_traced_memory()[1] - before
        tracemalloc.stop()
    assert (name, row) == (NAMES[0], (len(large), hashlib.sha256(large).hexdigest()))
    assert peak < 10_000_000


def test_folders_in_place_of_images_and_records_are_one_line(folder: Path) -> None:
    (folder.parent / ".done/train.json").mkdir(parents=True)
    (folder / NAMES[0]).mkdir(parents=True)
    with serve(on_server()) as server, pytest.raises(StateError, match=rf"{NAMES[0]}: cannot be written: Is a directory"):
        get(server, folder, NAMES[:2])


def test_the_end_does_not_wait_for_a_silent_server(folder: Path) -> None:
    """Ctrl-C closes the iterator."""
    silent = {f"/train/{name}": [Fault(stall_after=10)] for name in NAMES[1:]}
    with serve(on_server(), path_faults=silent) as server:
        images = fetch_images(folder, f"{server.url}/train", NAMES, 8, lambda text: None, RetryPolicy(timeout_s=60))
        assert next(images)[0] == NAMES[0]
        start_s = time.monotonic()
        images.close()
        assert time.monotonic() - start_s < 5  # the silence lasts for 60 s
    # the threads end with the server, and delete what they began
    wait_until(lambda: content(folder) == {NAMES[0]: PHOTOS[NAMES[0]]}, "only the complete image stays")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing is forbidden here")
def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    with serve(on_server()) as server, pytest.raises(StateError, match=r"\.jpg: cannot be written: Permission denied"):
        get(server, folder)


def test_a_file_in_place_of_the_folder_is_named(folder: Path) -> None:
    folder.write_text("a file")
    with serve(on_server()) as server, pytest.raises(StateError, match=r"\.jpg: cannot be written: .*what has arrived is kept"):
        get(server, folder)
