"""A file that is not all there yet: its bytes in `NAME.part`, and beside it a note of what they are a part of. Without
the note the bytes are worth nothing: they could belong to an older version of the file."""

import json
from dataclasses import dataclass
from pathlib import Path

from ssd_lib.files import write_json


@dataclass(frozen=True)
class Partial:
    """What is there of a file.

    Attributes:
        bytes: how many, from the start of the file.
        version: the server's ETag or Last-Modified of the file; empty if it gave none.
        total_bytes: the size of the whole file; None if the server did not say.
    """

    bytes: int = 0
    version: str = ""
    total_bytes: int | None = None

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
        note = json.loads(_note_path(target).read_bytes())
        there = Partial(part.stat().st_size, note["version"], note["total_bytes"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Partial()
    return there if there.version and there.bytes <= (there.total_bytes or 0) else Partial()


def begin_partial(target: Path, version: str, total_bytes: int | None) -> None:
    """Make an empty part of the given version in place of an older one."""
    part_path(target).unlink(missing_ok=True)  # first: a kill must not leave old bytes under the note of a new version
    write_json(_note_path(target), {"version": version, "total_bytes": total_bytes})
    part_path(target).touch()


def forget_partial(target: Path) -> None:
    """Remove part and note."""
    part_path(target).unlink(missing_ok=True)
    _note_path(target).unlink(missing_ok=True)


def _note_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.part.json")
