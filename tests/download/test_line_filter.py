"""Claims about lines that are picked out of a file as it passes by."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.download.line_filter import LONGEST_LINE_BYTES, append_lines
from ssd_lib.download.part_file import Partial, begin_partial, part_path, read_partial
from ssd_lib.errors import InputError


def keep_a(lines: bytes, start: int) -> bytes:
    return b"".join(line for line in lines.splitlines(keepends=True) if line.startswith(b"a"))


def begin(folder: Path, total_bytes: int | None) -> Path:
    begin_partial(folder / "rows.csv", "v1", total_bytes)
    return folder / "rows.csv"


@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"a").replace(b"\r", b"a")), max_size=8),
       st.booleans(), st.data())
def test_the_pieces_in_which_a_file_comes_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool, data: st.DataObject
) -> None:
    """Nor does it matter where it broke off and went on."""
    text = b"\n".join(lines) + (b"\n" if ends else b"")
    target = begin(tmp_path_factory.mktemp("sieve"), len(text))
    there = Partial(0, "v1", len(text))
    while there.bytes < len(text):
        cuts = sorted(data.draw(st.lists(st.integers(there.bytes, len(text)), max_size=3)))
        end = data.draw(st.integers(there.bytes, len(text))) if data.draw(st.booleans()) else len(text)
        edges = [there.bytes, *(cut for cut in cuts if cut < end), end]
        append_lines(keep_a, target, there, [text[a:b] for a, b in pairwise(edges)])
        there = read_partial(target)
    assert part_path(target).read_bytes() == keep_a(text, 0)


def test_a_note_never_counts_what_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_lib.download.line_filter.NOTE_BYTES", 6)
    target = begin(tmp_path, 100)
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
    target = begin(tmp_path, 100)

    def chunks() -> Iterator[bytes]:
        yield b"a1\nb1\na2"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append_lines(keep_a, target, Partial(0, "v1", 100), chunks())
    assert read_partial(target) == Partial(6, "v1", 100, 3)


def test_kept_bytes_that_are_missing_are_no_part(tmp_path: Path) -> None:
    target = begin(tmp_path, 100)
    append_lines(keep_a, target, Partial(0, "v1", 100), [b"a1\na2\n"])
    part_path(target).write_bytes(b"a1\n")
    assert read_partial(target) == Partial()


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    target = begin(tmp_path, None)
    endless = iter(lambda: bytes(LONGEST_LINE_BYTES // 4), b"")
    with pytest.raises(InputError, match=r"rows\.csv: the line at byte 3 of what the server sent does not end within 1048576"):
        append_lines(keep_a, target, Partial(0, "v1", None), (chunk for chunk in [b"a1\n", *[next(endless)] * 9]))
