"""Damaged files for tests of parsers: a few bytes removed, changed, repeated or inserted; and costly images."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from PIL import Image as Pillow

from ssd_lib.errors import InputError

BITS = [b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\r", b"\n", b" ", b",", b'"', b"<", b">", b"&x;", b"</object>",
        b"<!DOCTYPE a>", b"nan", b"-inf", b"1e999", b"-", b"0", b"1_0", "٣".encode(), b"9" * 400, b"9" * 5000, b"-1",
        b"[", b"]", b"{", b"}", b":", b"'", b"&a ", b"*a", b"!!int ", b"!!timestamp ", b"!!python/name:os.system ", b"<<: ",
        b'"\\ud800"', b"\\u0000", "\u2028".encode(), b"null", b"NaN", b"Infinity", b"../"]


def damaged(sound: bytes) -> st.SearchStrategy[bytes]:
    """Draw the bytes of a valid file, truncated, or with parts replaced by bytes that are difficult for parsers."""
    place = st.integers(0, len(sound))
    put_in = st.sampled_from(BITS) | st.binary(max_size=4) | st.builds(lambda at, length: sound[at:at + length], place, place)
    edit = st.tuples(place, st.integers(0, 30), put_in)

    def apply(edits: list[tuple[int, int, bytes]], length: int) -> bytes:
        data = sound
        for at, lost, bit in edits:
            data = data[:at] + bit + data[at + lost:]
        return data[:length]
    return st.builds(apply, st.lists(edit, max_size=4), st.just(10**6) | place)


def fault_of(parse: Callable[[bytes, str], Any], data: bytes, where: str = "sets/a file") -> str:
    """Return what a parser does wrong with some bytes; "" if it returns a value or raises a short InputError with the file's
    name.

    Any other exception is a bug and is not caught.
    """
    try:
        return "" if parse(data, where) is not None else "it gives nothing"
    except InputError as error:
        text = str(error)
        return "" if text.startswith(where) and text.isprintable() and len(text) < 1000 else f"it says {text!r}"


def many_scans(size: tuple[int, int], scans: int) -> bytes:
    """Return a progressive JPEG, gray, that repeats its last scan: a few bytes each, and a pass over all pixels to decode."""
    file = io.BytesIO()
    Pillow.new("L", size, 128).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda"):-2]
    return data[:-2] + (scans - data.count(b"\xff\xda")) * last + data[-2:]


def png_chunk(name: bytes, body: bytes, claimed: int | None = None) -> bytes:
    """Return a chunk of a PNG, which may claim another length than it has."""
    length = len(body) if claimed is None else claimed
    return struct.pack(">I", length) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Return a PNG with this size in its header, 99 kB of pixels, and further chunks before these."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(99_999)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + pixels + png_chunk(b"IEND", b"")
