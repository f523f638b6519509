"""Download and unpack a set of archives, several at a time: fetch, unpack, record, delete the archive."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ssd_lib.annotations.files import join
from ssd_lib.download.archives import file_sizes, require_space, unpack
from ssd_lib.download.connection import RETRY_POLICY, RetryPolicy
from ssd_lib.download.http import fetch, offered_bytes, transfer_bar, write_line
from ssd_lib.download.part_file import part_path
from ssd_lib.errors import plural
from ssd_lib.files import write_text
from ssd_lib.manifest import Archive

ARCHIVES = "archives"
RECORDS = ".done"


@dataclass(frozen=True)
class Remote:
    """An archive on a server.

    Attributes:
        path: below the base URL.
        members: the needed members, or folders of members.
        bytes: the required size; None accepts any.
        md5: the required MD5; None accepts any.
        growth: estimated size of the needed members, unpacked, for each byte of the archive.
    """

    path: str
    members: tuple[str, ...]
    bytes: int | None = None
    md5: str | None = None
    growth: float = 1.0


class Record(BaseModel):
    """An unpacked archive and its files: name -> (size in bytes, SHA-256)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    archive: Archive
    files: dict[str, tuple[int, str]]


def fetch_archives(root: Path, remotes: Sequence[Remote], base_url: str, threads: int,
            retry_policy: RetryPolicy = RETRY_POLICY) -> dict[str, Record]:
    """Provide the members of all archives below `root`; return a record for each archive, by its path.

    Guarantees: a record is written after all its files are on the disk. An archive whose record and files exist costs no
    request; any other is fetched again, and its missing files are written.

    Args:
        root: folder of the dataset; archives are kept in `root/archives` until unpacked, records in `root/.done`.
        remotes: the archives.
        base_url: the URL that their paths are relative to.
        threads: how many are processed at the same time.
        retry_policy: see `fetch`.

    Raises:
        InputError, StateError: of the first archive that fails; the others stop and continue next time.
    """
    records = intact_records(root, remotes)
    for path in records:
        (root / ARCHIVES / path).unlink(missing_ok=True)  # left by a kill between the record and the deletion
    missing = [remote for remote in remotes if remote.path not in records]
    if missing:
        require_space(root, sum(_missing_bytes(root, remote, base_url) for remote in missing))
        records |= _fetch_all(root, missing, base_url, threads, retry_policy)
    return {remote.path: records[remote.path] for remote in remotes}


def intact_records(root: Path, remotes: Sequence[Remote]) -> dict[str, Record]:
    """Return the records of the archives whose files all exist with the right size, by archive path."""
    records: dict[str, Record] = {}
    for remote in remotes:
        try:
            record = Record.model_validate_json(_record_path(root, remote).read_bytes())
        except (OSError, ValidationError):
            continue
        folders = {name.rpartition("/")[0] for name in record.files}
        sizes = {join(folder, name): size for folder in folders for name, size in file_sizes(root / folder).items()}
        if all(sizes.get(name) == size for name, (size, _) in record.files.items()):
            records[remote.path] = record
    return records


def _fetch_all(root: Path, remotes: Sequence[Remote], base_url: str, threads: int,
                retry_policy: RetryPolicy) -> dict[str, Record]:
    stop = threading.Event()
    with ThreadPoolExecutor(threads) as pool:
        jobs = {pool.submit(_fetch_and_unpack, root, remote, base_url, stop, retry_policy): remote.path for remote in remotes}
        try:
            return {jobs[job]: job.result() for job in as_completed(jobs)}
        finally:  # after a failure or Ctrl-C the others end at their next chunk and keep what they have
            stop.set()
            pool.shutdown(cancel_futures=True)


def _fetch_and_unpack(root: Path, remote: Remote, base_url: str, stop: threading.Event, retry_policy: RetryPolicy) -> Record:
    """Fetch and unpack one archive, write its record, and delete the archive."""
    archive = root / ARCHIVES / remote.path
    with transfer_bar(archive.name) as bar:
        found = fetch(f"{base_url}/{remote.path}", archive, remote.bytes, remote.md5, bar, stop=stop, retry_policy=retry_policy)
    with transfer_bar(f"{archive.name}, unpacking") as bar:
        record = Record(archive=found, files=unpack(archive, root, remote.members, bar, stop))
    write_text(_record_path(root, remote), record.model_dump_json(indent=1) + "\n")
    archive.unlink()
    write_line(f"{archive.name}: {found.bytes / 1e6:.1f} MB, {plural(len(record.files), 'file')}")
    return record


def _record_path(root: Path, remote: Remote) -> Path:
    return root / RECORDS / f"{remote.path.rpartition('/')[2]}.json"


def _missing_bytes(root: Path, remote: Remote, base_url: str) -> int:
    """Return the disk space that one archive still needs: the rest of it, and what is not unpacked yet."""
    archive = root / ARCHIVES / remote.path
    there = sum(path.stat().st_size for path in (archive, part_path(archive)) if path.exists())
    total = remote.bytes or (there if archive.exists() else offered_bytes(f"{base_url}/{remote.path}") or 0)
    unpacked = sum(_bytes_below(root / member) for member in remote.members)
    return max(0, total - there) + max(0, int(total * remote.growth) - unpacked)


def _bytes_below(path: Path) -> int:
    if path.is_dir():
        return sum(file_sizes(path).values())
    return path.stat().st_size if path.exists() else 0
