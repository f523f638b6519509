"""A file that is not all there yet: its bytes in `NAME.part`, and beside it a note of what they are a part of. Without
the note the bytes are worth nothing: they could belong to an older version of the file. Where only some lines of a file are
kept (`sieve.py`), the note says how far it was looked through, too."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ssd_lib.files import write_json


@dataclass(frozen=True)
class Partial:
    """What is there of a file.

    Attributes:
        bytes: how many have been dealt with, from the start of the file.
        version: the server's ETag or Last-Modified of the file; empty if it gave none.
        total_bytes: the size of the whole file; None if the server did not say.
        kept_bytes: size of what was kept of a file of which only some lines are; 0 for others.
    """

    bytes: int = 0
    version: str = ""
    total_bytes: int | None = None
    kept_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Nothing is missing; false where the whole size is not known."""
        return self.bytes == self.total_bytes


def part_path(target: Path) -> Path:
    """Where the bytes lie until `target` is complete."""
    return target.with_name(f"{target.name}.part")


def read_partial(target: Path) -> Partial:
    """What there is to go on from; zero bytes where it is not known which version of the file they are of."""
    part = part_path(target)
    try:
        note, size = json.loads(_note_path(target).read_bytes()), part.stat().st_size
        there = Partial(note.get("bytes", size), note["version"], note["total_bytes"], note.get("kept_bytes", 0))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return Partial()
    is_whole = there.bytes <= (there.total_bytes or 0) and there.kept_bytes <= size
    return there if there.version and is_whole else Partial()


def begin_partial(target: Path, version: str, total_bytes: int | None) -> None:
    """Make an empty part of the given version in place of an older one."""
    part_path(target).unlink(missing_ok=True)  # first: a kill must not leave old bytes under the note of a new version
    write_json(_note_path(target), {"version": version, "total_bytes": total_bytes})
    part_path(target).touch()


def append_bytes(target: Path, there: Partial, chunks: Iterable[bytes]) -> Partial:
    """Append all bytes that arrive to the part; what is there then, on the disk."""
    with part_path(target).open("ab") as part:
        for chunk in chunks:
            part.write(chunk)
        part.flush()
        os.fsync(part.fileno())
    return replace(there, bytes=part_path(target).stat().st_size)


def note_lines(target: Path, there: Partial) -> None:
    """Write down how far the lines of a file were looked through, and how many bytes of the part were kept by then."""
    write_json(_note_path(target), asdict(there))


def forget_partial(target: Path) -> None:
    """Remove part and note."""
    part_path(target).unlink(missing_ok=True)
    _note_path(target).unlink(missing_ok=True)


def _note_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")
