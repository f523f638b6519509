"""A text file that passes by on its way from a server: some of its lines go to the part file, and a note says how far it was
looked through, so that the rest is enough next time. Which lines are worth keeping is known elsewhere."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO

from ssd_lib.download.part_file import Partial, note_lines, part_path
from ssd_lib.errors import InputError

NOTE_BYTES = 16 << 20  # a kill -9 costs at most so much of the file to be looked through again
LONGEST_LINE_BYTES = 1 << 20

LineFilter = Callable[[bytes, int], bytes]  # whole lines, and where in the file they begin -> what is kept of them


def append_lines(sift: LineFilter, target: Path, there: Partial, chunks: Iterable[bytes]) -> Partial:
    """Append what `sift` keeps of the lines in `chunks` to the part of `target`; how far it is then.

    Guarantees: the note never counts lines whose kept bytes are not on the disk, and bytes that it does not count are dropped. A line
    is sifted when its end has arrived; the last one of the file needs no newline.

    Args:
        sift: what is kept of some lines.
        target: what the part is a part of.
        there: what is there already.
        chunks: the bytes of the file from `there.bytes` on.

    Raises:
        InputError: a line without an end; and what `sift` raises.
    """
    noted, rest = there, b""
    with part_path(target).open("r+b") as part:
        part.truncate(there.kept_bytes)
        part.seek(there.kept_bytes)
        try:
            for chunk in chunks:
                lines, newline, rest = (rest + chunk).rpartition(b"\n")
                there = _take(sift, lines + newline, part, there)
                if there.bytes - noted.bytes >= NOTE_BYTES:
                    noted = _note(target, part, there)
                _check_length(rest, target, there)
            if there.total_bytes in (None, there.bytes + len(rest)):
                there = _take(sift, rest, part, there)
        finally:
            _note(target, part, there)
    return there


def _take(sift: LineFilter, lines: bytes, part: IO[bytes], there: Partial) -> Partial:
    if not lines:
        return there
    kept = part.write(sift(lines, there.bytes))
    return replace(there, bytes=there.bytes + len(lines), kept_bytes=there.kept_bytes + kept)


def _note(target: Path, part: IO[bytes], there: Partial) -> Partial:
    part.flush()
    os.fsync(part.fileno())
    note_lines(target, there)
    return there


def _check_length(rest: bytes, target: Path, there: Partial) -> None:
    if len(rest) > LONGEST_LINE_BYTES:
        raise InputError(f"{target.name}: the line at byte {there.bytes} of what the server sent does not end within "
                         f"{LONGEST_LINE_BYTES} bytes; a text file with lines was expected. Check data.base_url.")
