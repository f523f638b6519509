"""Keep an unfinished file: its bytes in `NAME.part`, and beside it a note of which version of the file they belong to.

Bytes without a note are worthless: they could belong to an older version. Of a text file only some lines may be kept; the note
then says how far the file was read, so that a broken transfer continues there.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from ssd_lib.errors import InputError
from ssd_lib.files import write_json

NOTE_BYTES = 16 << 20  # after a kill -9 at most this much of the file is read again
LONGEST_LINE_BYTES = 1 << 20

LineFilter = Callable[[bytes, int], bytes]  # (whole lines, their offset in the file) -> the lines to keep


@dataclass(frozen=True)
class Partial:
    """The part of a file that has arrived.

    Attributes:
        bytes: how many were received, from the start of the file.
        version: the server's ETag or Last-Modified; empty if it sent none.
        total_bytes: the size of the whole file; None if unknown.
        kept_bytes: size of the lines kept, for a file of which only some are; else 0.
    """

    bytes: int = 0
    version: str = ""
    total_bytes: int | None = None
    kept_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing; False if the whole size is unknown."""
        return self.bytes == self.total_bytes


def part_path(target: Path) -> Path:
    """Return where the bytes are kept until `target` is complete."""
    return target.with_name(f"{target.name}.part")


def read_partial(target: Path, needs_version: bool = True) -> Partial:
    """Return what a transfer can continue from: nothing if the note is damaged or says no size.

    Args:
        target: the file that the part belongs to.
        needs_version: whether bytes of an unknown version count as nothing; False where the whole file is verified.
    """
    part = part_path(target)
    try:
        note, size = json.loads(_note_path(target).read_bytes()), part.stat().st_size
        there = Partial(note.get("bytes", size), note["version"], note["total_bytes"], note.get("kept_bytes", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Partial()
    counts = (there.bytes, there.total_bytes, there.kept_bytes)
    is_sound = all(type(count) is int and count >= 0 for count in counts) and isinstance(there.version, str) and (
        there.version.isascii() and there.version.isprintable())
    if not is_sound or (needs_version and not there.version):
        return Partial()
    return there if there.bytes <= (there.total_bytes or 0) and there.kept_bytes <= size else Partial()


def begin_partial(target: Path, version: str, total_bytes: int | None) -> None:
    """Replace an older part by an empty one of the given version."""
    part_path(target).unlink(missing_ok=True)  # first: a kill must not leave old bytes under the note of a new version
    write_json(_note_path(target), {"version": version, "total_bytes": total_bytes})
    part_path(target).touch()


def append_bytes(target: Path, there: Partial, chunks: Iterable[bytes]) -> Partial:
    """Append all `chunks` to the part, and return its new state once it is on the disk."""
    with part_path(target).open("ab") as part:
        for chunk in chunks:
            part.write(chunk)
        part.flush()
        os.fsync(part.fileno())
    return replace(there, bytes=part_path(target).stat().st_size)


def append_lines(line_filter: LineFilter, target: Path, there: Partial, chunks: Iterable[bytes]) -> Partial:
    """Append what `line_filter` keeps of the lines in `chunks` to the part of `target`; return its new state.

    Guarantees: the note never counts lines whose kept bytes are not on the disk, and bytes that it does not count are dropped.
    A line is filtered when its end has arrived; the last line of the file needs no newline.

    Args:
        line_filter: returns the lines to keep.
        target: the file that the part belongs to.
        there: what has arrived already.
        chunks: the bytes of the file from `there.bytes` on.

    Raises:
        InputError: a line without an end, or what `line_filter` raises.
    """
    noted, rest = there, b""
    with part_path(target).open("r+b") as part:
        part.truncate(there.kept_bytes)
        part.seek(there.kept_bytes)
        try:
            for chunk in chunks:
                lines, newline, rest = (rest + chunk).rpartition(b"\n")
                there = _take(line_filter, lines + newline, part, there)
                if there.bytes - noted.bytes >= NOTE_BYTES:
                    noted = _note(target, part, there)
                _check_length(rest, target, there)
            if there.total_bytes in (None, there.bytes + len(rest)):
                there = _take(line_filter, rest, part, there)
        finally:
            _note(target, part, there)
    return there


def forget_partial(target: Path) -> None:
    """Remove the part and its note."""
    part_path(target).unlink(missing_ok=True)
    _note_path(target).unlink(missing_ok=True)


def _take(line_filter: LineFilter, lines: bytes, part: IO[bytes], there: Partial) -> Partial:
    if not lines:
        return there
    kept = part.write(line_filter(lines, there.bytes))
    return replace(there, bytes=there.bytes + len(lines), kept_bytes=there.kept_bytes + kept)


def _note(target: Path, part: IO[bytes], there: Partial) -> Partial:
    part.flush()
    os.fsync(part.fileno())
    write_json(_note_path(target), asdict(there))
    return there


def _check_length(rest: bytes, target: Path, there: Partial) -> None:
    if len(rest) > LONGEST_LINE_BYTES:
        raise InputError(f"{target.name}: the line at byte {there.bytes} of what the server sent does not end within "
                         f"{LONGEST_LINE_BYTES} bytes; a text file with lines was expected. Check data.base_url.")


def _note_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")
