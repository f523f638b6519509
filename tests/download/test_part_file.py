"""What a transfer may continue from, and lines that are filtered out of a file while it streams."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.download.part_file import (
    LONGEST_LINE_BYTES,
    Partial,
    append_lines,
    begin_partial,
    forget_partial,
    part_path,
    read_partial,
)
from ssd_lib.errors import InputError


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


def test_bytes_with_a_note_are_gone_on_from(target: Path) -> None:
    begin_partial(target, '"v1"', 10)
    part_path(target).write_bytes(b"12345")
    assert read_partial(target) == Partial(5, '"v1"', 10)


@pytest.mark.parametrize(("version", "total_bytes"), [("", 10), ('"v1"', None), ('"v1"', 4)])
def test_bytes_of_an_unknown_version_or_size_are_not(target: Path, version: str, total_bytes: int | None) -> None:
    begin_partial(target, version, total_bytes)
    part_path(target).write_bytes(b"12345")
    assert read_partial(target) == Partial()


@pytest.mark.parametrize("note", ["", "{}", "[]", "null", '{"version": "v1"}'])
def test_a_damaged_note_is_no_note(target: Path, note: str) -> None:
    part_path(target).write_bytes(b"12345")
    target.with_name("a.zip.part.json").write_text(note)
    assert read_partial(target) == Partial()


def test_a_new_version_drops_the_bytes_of_the_old_one(target: Path) -> None:
    begin_partial(target, '"v1"', 10)
    part_path(target).write_bytes(b"12345")
    begin_partial(target, '"v2"', 10)
    assert read_partial(target) == Partial(0, '"v2"', 10)


def test_nothing_is_left_of_a_forgotten_part(target: Path) -> None:
    begin_partial(target, '"v1"', 10)
    forget_partial(target)
    assert list(target.parent.iterdir()) == []


def test_a_file_of_unknown_size_is_never_complete() -> None:
    assert Partial(10, "v", 10).is_complete
    assert not Partial(9, "v", 10).is_complete
    assert not Partial(0, "", None).is_complete


def keep_a(lines: bytes, start: int) -> bytes:
    return b"".join(line for line in lines.splitlines(keepends=True) if line.startswith(b"a"))


def start_part(folder: Path, total_bytes: int | None) -> Path:
    begin_partial(folder / "rows.csv", "v1", total_bytes)
    return folder / "rows.csv"


@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"a").replace(b"\r", b"a")), max_size=8),
       st.booleans(), st.data())
def test_the_pieces_in_which_a_file_comes_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool, data: st.DataObject
) -> None:
    """Nor does it matter where it broke off and went on."""
    text = b"\n".join(lines) + (b"\n" if ends else b"")
    target = start_part(tmp_path_factory.mktemp("lines"), len(text))
    there = Partial(0, "v1", len(text))
    while there.bytes < len(text):
        cuts = sorted(data.draw(st.lists(st.integers(there.bytes, len(text)), max_size=3)))
        end = data.draw(st.integers(there.bytes, len(text))) if data.draw(st.booleans()) else len(text)
        edges = [there.bytes, *(cut for cut in cuts if cut < end), end]
        append_lines(keep_a, target, there, [text[a:b] for a, b in pairwise(edges)])
        there = read_partial(target)
    assert part_path(target).read_bytes() == keep_a(text, 0)


def test_a_note_never_counts_what_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_lib.download.part_file.NOTE_BYTES", 6)
    target = start_part(tmp_path, 100)
    noted: list[tuple[int, bytes]] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"a1\nb1", b"\na2\n", b"a3\na", b"4"):
            yield chunk
            note = json.loads((tmp_path / "rows.csv.part.json").read_bytes())
            noted.append((note.get("bytes", 0), part_path(target).read_bytes()[:note.get("kept_bytes", 0)]))

    append_lines(keep_a, target, Partial(0, "v1", 100), chunks())
    assert noted == [(0, b""), (9, b"a1\na2\n"), (9, b"a1\na2\n"), (9, b"a1\na2\n")]
    assert read_partial(target) == Partial(12, "v1", 100, 9)


def test_a_transfer_that_stops_leaves_a_note_of_its_last_line(tmp_path: Path) -> None:
    target = start_part(tmp_path, 100)

    def chunks() -> Iterator[bytes]:
        yield b"a1\nb1\na2"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append_lines(keep_a, target, Partial(0, "v1", 100), chunks())
    assert read_partial(target) == Partial(6, "v1", 100, 3)


def test_kept_bytes_that_are_missing_are_no_part(tmp_path: Path) -> None:
    target = start_part(tmp_path, 100)
    append_lines(keep_a, target, Partial(0, "v1", 100), [b"a1\na2\n"])
    part_path(target).write_bytes(b"a1\n")
    assert read_partial(target) == Partial()


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    target = start_part(tmp_path, None)
    endless = iter(lambda: bytes(LONGEST_LINE_BYTES // 4), b"")
    with pytest.raises(InputError, match=r"rows\.csv: the line at byte 3 of what the server sent does not end within 1048576"):
        append_lines(keep_a, target, Partial(0, "v1", None), (chunk for chunk in [b"a1\n", *[next(endless)] * 9]))
