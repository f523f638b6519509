"""Unpack zip archives safely: nothing is written outside the folder or twice, and every byte is checked and hashed."""

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

# Not a plain file name on every system: "..", "C:", "a\\b", "nul.txt", "a.", "".
UNSAFE_PART = re.compile(r'.*[. ]|.*[\x00-\x1f<>:"|?*\\].*|(con|prn|aux|nul|com\d|lpt\d)(\..*)?|', re.I | re.S)
UNSAFE_PART_HERE = re.compile(r"[. ]*|.*[\x00-\x1f\\].*", re.S) if os.name == "posix" else UNSAFE_PART
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeDecodeError)
GB = 1e9
MAX_MEMBERS = 10_000_000  # of an archive; each takes memory, before a byte is unpacked
BOMB_BYTES, BOMB_GROWTH = 1e9, 100  # an archive beyond both limits is a zip bomb

Rows = dict[str, tuple[int, str]]


def unpack(archive: Path, folder: Path, wanted: Sequence[str] | None, progress: tqdm, stop: threading.Event, *,
           is_own: bool = False) -> Rows:
    """Write the wanted members of a zip archive below `folder`; return their names, sizes in bytes and SHA-256.

    Guarantees: names and sizes of all members are checked before the first byte is written. A file appears complete or not
    at all, and only if its CRC matches. Existing files of the right size and CRC are read, not written, so a second call
    continues where a killed one ended. On return everything is on the disk.

    Args:
        archive: a zip file.
        folder: where members go; made if missing.
        wanted: names of members or of folders of members; each must exist. None: all but hidden files and what macOS adds.
        is_own: an archive of the user; names that are valid on this system, such as with ":", are accepted.
        progress: a bar of unpacked bytes.
        stop: once set, work ends after the current file.

    Raises:
        InputError: not a zip, damaged, encrypted, a zip bomb, a member outside the folder, or a wanted one missing.
        StateError: not enough disk space, a file that cannot be written, or `stop` was set.
    """
    with _opened(archive) as bundle:
        members = [member for member in _checked(archive, bundle.infolist(), is_own) if _is_wanted(member.filename, wanted)]
        _check_complete(archive, wanted or (), members)
        _check_growth(archive, members)
        _check_space(folder, members)
        progress.total = sum(member.file_size for member in members)
        rows: Rows = {}
        for member in members:
            rows[member.filename] = _write(archive, bundle, member, folder / member.filename)
            progress.update(member.file_size)
            if stop.is_set():
                raise StateError(f"{archive}: stopped; what is unpacked is kept. Run the same command again.")
    if hasattr(os, "sync"):
        os.sync()  # once for all: an fsync for each of 118,287 files takes longer than unpacking
    return rows


def require_space(folder: Path, need_bytes: int) -> None:
    """Raise StateError if the disk has less than `need_bytes` free.

    Raises:
        StateError: the disk of `folder` (which may not exist yet) is too small.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    if need_bytes > free_bytes:
        raise StateError(f"{folder}: {need_bytes / GB:.3f} GB are needed, {free_bytes / GB:.3f} GB are free on this "
                         "disk. Nothing was started. Free some space, or make this folder a link to a larger disk.")


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of every file directly in a folder, by its name; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile]:
    try:
        bundle = zipfile.ZipFile(archive)
    except FileNotFoundError as error:
        raise InputError(f"{archive}: missing. Run the same command again.") from error
    except DAMAGED as error:
        raise InputError(f"{archive}: not a zip archive, or incomplete ({error}). Delete it and run the same "
                         "command again.") from error
    with bundle:
        yield bundle


def _checked(archive: Path, members: list[zipfile.ZipInfo], is_own: bool) -> list[zipfile.ZipInfo]:
    """Return the members that are files; refuse the archive if any member is unsafe."""
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{archive}: {len(members)} members; at most {MAX_MEMBERS} are allowed. Nothing was unpacked. Do not "
                         "use this archive, or divide it.")
    seen: set[str] = set()
    for member in members:
        fault = _fault(member, UNSAFE_PART_HERE if is_own else UNSAFE_PART)
        fault = fault or ("the name occurs twice" if member.filename.casefold() in seen else "")
        if fault:
            raise InputError(f"{archive}: member {member.orig_filename!r}: {fault}; nothing was unpacked. "
                             "Do not use this archive; get it from another source.")
        seen.add(member.filename.casefold())
    return [member for member in members if not member.is_dir()]


def _fault(member: zipfile.ZipInfo, unsafe: re.Pattern[str]) -> str:
    # From Python 3.12 on, the Unicode Path extra field replaces `filename`, which is what is written, but not `orig_filename`.
    parts = [part for name in (member.orig_filename, member.filename) for part in name.removesuffix("/").split("/")]
    if any(unsafe.fullmatch(part) for part in parts):
        return "the name leaves the folder, or is not a valid file name on every system"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or device; only files and folders are allowed"
    if member.header_offset < 0:
        return "its part of the archive is missing"
    return "encrypted; only open members are allowed" if member.flag_bits & 1 else ""


def _is_wanted(name: str, wanted: Sequence[str] | None) -> bool:
    if wanted is None:
        return not any(is_hidden(part) for part in name.split("/"))
    return any(name == want or name.startswith(f"{want}/") for want in wanted)


def _check_complete(archive: Path, wanted: Sequence[str], members: list[zipfile.ZipInfo]) -> None:
    for want in wanted:
        if not any(_is_wanted(member.filename, [want]) for member in members):
            raise InputError(f"{archive}: has no member {want!r}, which is needed. Get the archive from another source.")


def _check_growth(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    size, total = archive.stat().st_size, sum(member.file_size for member in members)
    if total > max(BOMB_BYTES, BOMB_GROWTH * size):
        raise InputError(f"{archive}: {size} bytes that unpack to {total / GB:.3f} GB, {total // size} times as much; at most "
                         f"{BOMB_GROWTH} times are allowed. Do not use this archive; get it from another source.")


def _check_space(folder: Path, members: list[zipfile.ZipInfo]) -> None:
    missing = (member.file_size for member in members if not _has_size(folder / member.filename, member.file_size))
    require_space(folder, sum(missing))


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:  # also if a parent is a file: writing reports it
        return False


def _write(archive: Path, bundle: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> tuple[int, str]:
    """Write one file unless it exists; return its size and SHA-256."""
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
                         "same command again; if it is your own, replace it by an intact one first.") from error
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror or error}. Free some disk space or correct the "
                         "permissions, then run the same command again.") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sha256_if(path: Path, crc: int) -> str:
    """Return the SHA-256 of a file if its CRC-32 is `crc`, else ""."""
    hasher, found = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
            found = zlib.crc32(chunk, found)
    return hasher.hexdigest() if found == crc else ""
