"""Zip archives to files: nothing is written outside the folder, nothing twice, and every byte is checked and hashed.
Where an archive comes from, and what is needed of it, is known elsewhere."""

import hashlib
import lzma
import os
import re
import shutil
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from ssd_lib.annotations.files import is_hidden
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import CHUNK_BYTES

# What is no plain file name on some system, be it this one or another: "..", "C:", "a\\b", "nul.txt", "a.", "".
UNSAFE_PART = re.compile(r'.*[. ]|.*[\x00-\x1f<>:"|?*\\].*|(con|prn|aux|nul|com\d|lpt\d)(\..*)?|', re.I | re.S)
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeDecodeError)
GB = 1e9
BOMB_BYTES, BOMB_GROWTH = 1e9, 100  # what unpacks to more bytes, and to more times its size, was made to fill disks

Rows = dict[str, tuple[int, str]]


def unpack(archive: Path, folder: Path, wanted: Sequence[str] | None, progress: tqdm, stop: threading.Event) -> Rows:
    """Write the wanted members of a zip archive below `folder`; their names, sizes in bytes and SHA-256.

    Guarantees: names and sizes of all members are checked before the first byte is written. A file appears whole or not at all, and
    only if its CRC is right. Files that are there already with the right size and CRC are read, not written, so that a
    second call goes on where a killed one was. On return everything has reached the disk.

    Args:
        archive: a zip file.
        folder: where members go; made if need be.
        wanted: names of members, or of folders of members; each must be there. None wants all that are not hidden, nor what
            macOS adds.
        progress: a bar of unpacked bytes.
        stop: once set, the work ends after the file in hand.

    Raises:
        InputError: not a zip, damaged, encrypted, a bomb, a member that would leave the folder, a wanted one missing.
        StateError: not enough disk space, a file that cannot be written, or `stop` was set.
    """
    with _opened(archive) as bundle:
        members = [member for member in _checked(archive, bundle.infolist()) if _is_wanted(member.filename, wanted)]
        _check_complete(archive, wanted or (), members)
        _check_growth(archive, members)
        _check_space(folder, members)
        progress.total = sum(member.file_size for member in members)
        rows: Rows = {}
        for member in members:
            rows[member.filename] = _write(archive, bundle, member, folder / member.filename)
            progress.update(member.file_size)
            if stop.is_set():
                raise StateError(f"{archive}: stopped; what is there is kept. Run the same command again.")
    if hasattr(os, "sync"):
        os.sync()  # one for all: an fsync for each of 118,287 files takes longer than the unpacking
    return rows


def require_space(folder: Path, need_bytes: int) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        StateError: the disk that `folder` is, or will be, on has less than `need_bytes` free.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    if need_bytes > free_bytes:
        raise StateError(f"{folder}: {need_bytes / GB:.3f} GB are needed, {free_bytes / GB:.3f} GB are free on this "
                         "disk. Free some space, or make this folder a link to a larger disk; nothing was started.")


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        bundle = zipfile.ZipFile(archive)
    except FileNotFoundError as error:
        raise InputError(f"{archive}: missing. Run the same command again.") from error
    except DAMAGED as error:
        raise InputError(f"{archive}: not a zip archive, or not all of it ({error}). Delete it and run the same "
                         "command again.") from error
    with bundle:
        yield bundle


def _checked(archive: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The members that are files; one that could do harm condemns the whole archive."""
    seen: set[str] = set()
    for member in members:
        fault = _fault(member) or ("the name occurs twice" if member.filename.casefold() in seen else "")
        if fault:
            raise InputError(f"{archive}: member {member.orig_filename!r}: {fault}; nothing was unpacked. "
                             "Do not use this archive: get it from another place.")
        seen.add(member.filename.casefold())
    return [member for member in members if not member.is_dir()]


def _fault(member: zipfile.ZipInfo) -> str:
    parts = member.orig_filename.removesuffix("/").split("/")
    if any(UNSAFE_PART.fullmatch(part) for part in parts):
        return "the name leaves the folder, or is no file name on some system"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or device; only files and folders are allowed"
    if member.header_offset < 0:
        return "the start of the archive, which it lies in, is lost"
    return "encrypted; only open members are allowed" if member.flag_bits & 1 else ""


def _is_wanted(name: str, wanted: Sequence[str] | None) -> bool:
    if wanted is None:
        return not any(is_hidden(part) for part in name.split("/"))
    return any(name == want or name.startswith(f"{want}/") for want in wanted)


def _check_complete(archive: Path, wanted: Sequence[str], members: list[zipfile.ZipInfo]) -> None:
    for want in wanted:
        if not any(_is_wanted(member.filename, [want]) for member in members):
            raise InputError(f"{archive}: holds no {want!r}; that is what it is needed for. Get it from another place.")


def _check_growth(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    size, total = archive.stat().st_size, sum(member.file_size for member in members)
    if total > max(BOMB_BYTES, BOMB_GROWTH * size):
        raise InputError(f"{archive}: {size} bytes that unpack to {total / GB:.3f} GB, {total // size} times as much; at most "
                         f"{BOMB_GROWTH} times are allowed. Do not use this archive: get it from another place.")


def _check_space(folder: Path, members: list[zipfile.ZipInfo]) -> None:
    missing = (member.file_size for member in members if not _has_size(folder / member.filename, member.file_size))
    require_space(folder, sum(missing))


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:  # also where a folder is a file: writing says so
        return False


def _write(archive: Path, bundle: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> tuple[int, str]:
    """Write one file unless it is there; its size and SHA-256."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if _has_size(path, member.file_size) and (digest := _sha256_if(path, member.CRC)):
            return member.file_size, digest
        path.parent.mkdir(parents=True, exist_ok=True)
        hasher = hashlib.sha256()
        with bundle.open(member) as source, temporary.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):  # zipfile checks the CRC at the end
                hasher.update(chunk)
                file.write(chunk)
        os.replace(temporary, path)
        return member.file_size, hasher.hexdigest()
    except DAMAGED as error:
        raise InputError(f"{archive}: member {member.filename!r} is damaged ({error!s:.200}). Delete the archive and run the "
                         "same command again; if it is one of your own, put a whole one in its place first.") from error
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror or error}. Free some disk space or mend the "
                         "permissions, then run the same command again.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sha256_if(path: Path, crc: int) -> str:
    """The SHA-256 of a file whose CRC-32 is `crc`; empty for any other."""
    hasher, found = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
            found = zlib.crc32(chunk, found)
    return hasher.hexdigest() if found == crc else ""
