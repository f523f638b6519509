"""Files that are either whole or absent: atomic writes and content hashes. What the files mean is known elsewhere."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ssd_lib.errors import StateError

CHUNK_BYTES = 1 << 20


def in_project(path: str | Path) -> Path:
    """A path that the user gave, or a place of ours: a relative one begins at the root of the main repository, which DVC_ROOT
    names in the copies of it that `dvc exp run --temp` and queued experiments work in."""
    with suppress(RuntimeError):  # there is no such user's home
        path = Path(path).expanduser()
    return Path(os.environ.get("DVC_ROOT", ".")) / path


def why_unreadable(path: Path) -> str:
    """Why a file cannot be opened, "" where it can."""
    try:
        with path.open("rb"):
            return ""
    except FileNotFoundError:
        return "there is no such file"
    except IsADirectoryError:
        return "it is a folder"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file, to write and to read back, that appears under `path` complete and on disk, or not at all.

    Guarantees: a reader of `path` sees the old bytes or the new bytes, whatever stops the writer and whenever.
    The folder is made if need be. The temporary file lies in the same folder, so that the rename cannot cross devices.

    Raises:
        StateError: the disk is full, or the folder cannot be written; `path` is as it was.
    """
    with _replacing(path) as temporary, _Disk(io.FileIO(temporary, "w+")) as file:
        try:
            yield file
        except RuntimeError:  # torch.save's
            if file.fault is not None:
                raise file.fault from None
            raise
        file.flush()
        os.fsync(file.fileno())


class _Disk(io.BufferedRandom):
    """A file that remembers that it could not be written, for torch.save hides that behind a fault of its own."""

    fault: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.fault = error
            raise


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, atomically: a hard link where the file system has them, else a copy.

    Raises:
        StateError: as of `atomic_write`.
    """
    if target.exists() and target.samefile(source):
        return
    with _replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            with source.open("rb") as old, temporary.open("wb") as new:
                shutil.copyfileobj(old, new, CHUNK_BYTES)
                new.flush()
                os.fsync(new.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # names of files need not be whole characters


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Write `value` as JSON, atomically; the same value gives the same bytes. NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Hash the content of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the folder of `path`; what is made there takes the place of `path` in the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        yield temporary
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror or error}; what was there is untouched. "
                         "Free some disk space or mend the permissions, then run the same command again.") from error
    finally:
        with suppress(OSError):  # renamed by now, or its folder was never there
            temporary.unlink()


def _fsync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows cannot open a folder, and its rename is durable enough
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
