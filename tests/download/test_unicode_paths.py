"""Zips whose Unicode Path field replaces a name, which zipfile reads from Python 3.12 on; .ci/run tries newer Pythons."""

import os
import struct
import sys
import threading
import zipfile
import zlib
from pathlib import Path

import pytest
from tqdm import tqdm

from ssd_lib.download.archives import unpack
from ssd_lib.errors import InputError

READS_UNICODE_PATHS = sys.version_info >= (3, 12)
SET = {"Annotations/a.xml", "JPEGImages/a.jpg"}
PLAIN = "JPEGImages/c.jpg"


def make_zip(archive: Path, unicode_path: str) -> Path:
    """Write a zip with one member under the name PLAIN, whose field names another."""
    field = struct.pack("<BI", 1, zlib.crc32(PLAIN.encode())) + unicode_path.encode()
    member = zipfile.ZipInfo(PLAIN)
    member.extra = struct.pack("<HH", 0x7075, len(field)) + field
    with zipfile.ZipFile(archive, "w") as bundle:
        for name in SET:
            bundle.writestr(name, name)
        bundle.writestr(member, b"evil")
    return archive


def unpacked(archive: Path, folder: Path) -> set[str]:
    return set(unpack(archive, folder, None, tqdm(disable=True), threading.Event()))


@pytest.mark.parametrize("to", ["../evil.jpg", "JPEGImages/../../evil.jpg", "/tmp/evil.jpg", "..", "C:\\evil.jpg", "a//b.jpg",
                                "JPEGImages/A.jpg", "Annotations/a.xml"])
def test_a_unicode_path_never_leads_out_of_the_folder_or_onto_another_file(tmp_path: Path, to: str) -> None:
    archive = make_zip(tmp_path / "set.zip", to)
    if READS_UNICODE_PATHS:
        with pytest.raises(InputError):
            unpacked(archive, tmp_path / "out/deep")
    else:
        assert unpacked(archive, tmp_path / "out/deep") == {*SET, PLAIN}
    written = {path.relative_to(tmp_path / "out/deep").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == (set() if READS_UNICODE_PATHS else {*SET, PLAIN})
    assert set(os.listdir(tmp_path)) <= {"set.zip", "out"}


def test_a_harmless_unicode_path_is_the_name_where_python_reads_it(tmp_path: Path) -> None:
    names = unpacked(make_zip(tmp_path / "set.zip", "JPEGImages/ü.jpg"), tmp_path / "out")
    assert names == {*SET, "JPEGImages/ü.jpg" if READS_UNICODE_PATHS else PLAIN}
