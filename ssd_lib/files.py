"""Atomic writes and content hashes: a file is either complete or absent."""

import errno
import hashlib
import io
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ssd_lib.errors import StateError

CHUNK_BYTES = 1 << 20


def in_project(path: str | Path) -> Path:
    """Return `path` relative to the root of the main repository.

    `dvc exp run --temp` and queued experiments work in a copy; DVC_ROOT names the main repository there.
    """
    with suppress(RuntimeError):  # this user has no home folder
        path = Path(path).expanduser()
    return Path(os.environ.get("DVC_ROOT", ".")) / path


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a file of the user for reading; reading a pipe or a device might never end.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: the name is not valid for a file.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a folder" if stat.S_ISDIR(mode) else "it is a pipe, a socket or a device")
    return open(path, "rb")


def read_regular(path: str | Path) -> bytes:
    """Return the bytes of a file of the user; see `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def why_unreadable(path: Path) -> str:
    """Return why a file cannot be opened; "" if it can."""
    try:
        with open_regular(path):
            return ""
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"it cannot be read: {error.strerror}" if error.errno != errno.EINVAL else str(error.strerror)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file for writing and reading that appears as `path` complete and on disk, or not at all.

    Guarantees: a reader of `path` sees the old bytes or the new bytes, whatever stops the writer and whenever.
    Missing folders are made. The temporary file lies in the same folder, so that the rename never crosses devices.

    Raises:
        StateError: the disk is full, or the folder is not writable; `path` is unchanged.
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
    """A file that remembers a failed write: torch.save hides it behind an error of its own."""

    fault: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.fault = error
            raise


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, atomically: a hard link if the file system has them, else a copy.

    Raises:
        StateError: see `atomic_write`.
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
        file.write(text.encode(errors="backslashreplace"))  # file names may hold bytes that are not Unicode


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """Write `value` as JSON, atomically. The same value gives the same bytes; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return sha256_of_rest(file)


def sha256_of_rest(file: IO[bytes]) -> str:
    """Return the SHA-256 of an open file from its position on; hashlib.file_digest is missing in Python 3.10."""
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`; the file made there replaces `path` at the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        yield temporary
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror or error}; what was there is unchanged. "
                         "Free some disk space or correct the permissions, then run the same command again.") from error
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
