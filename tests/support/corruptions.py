"""Corruptions of a sound dataset: each function returns one that changes one thing in its files, and nothing else."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image as Pillow

from ssd_lib.exif import EXIF_ORIENTATION
from support.four_formats import WRITERS, Row, class_names


class DatasetCopy(NamedTuple):
    """A copy of the sound dataset: its folder, its format, and the rows that were written."""

    root: Path
    form: str
    images: dict[str, list[Row]]


Corruption = Callable[[DatasetCopy], None]

LABELS = {"coco": "train.json", "voc": "train/a.xml", "yolo": "train/a.txt", "open_images": "train-annotations-bbox.csv"}
FIRST_BOX = {"coco": "annotation 1 of 'train/a.jpg'", "voc": "'train/a.xml': object 1", "yolo": "'train/a.txt': line 1",
             "open_images": "'train-annotations-bbox.csv': line 2"}


def fill_in(text: str, dataset: DatasetCopy) -> str:
    """Replace {box} by the format's name of the first box of train/a.jpg, and {labels} by the file that has it."""
    return text.replace("{box}", FIRST_BOX[dataset.form]).replace("{labels}", LABELS[dataset.form])


def all_of(*corruptions: Corruption) -> Corruption:
    """Apply several changes in order."""
    def corrupt(dataset: DatasetCopy) -> None:
        for one in corruptions:
            one(dataset)
    return corrupt


def data(name: str, content: bytes | Callable[[bytes], bytes]) -> Corruption:
    """Write a file with these bytes, or change its bytes by a function."""
    def corrupt(dataset: DatasetCopy) -> None:
        path = dataset.root / fill_in(name, dataset)
        path.write_bytes(content if isinstance(content, bytes) else content(path.read_bytes()))
    return corrupt


def replaced(name: str, old: str | bytes, new: str | bytes) -> Corruption:
    """Replace the first `old` in a file by `new`."""
    before, after = (text.encode() if isinstance(text, str) else text for text in (old, new))

    def change(content: bytes) -> bytes:
        assert before in content, f"{name} has no {before!r}"
        return content.replace(before, after, 1)
    return data(name, change)


def copied(name: str, other: str) -> Corruption:
    """Copy a file."""
    return lambda dataset: (dataset.root / other).write_bytes((dataset.root / name).read_bytes())


def deleted(name: str) -> Corruption:
    """Delete a file."""
    return lambda dataset: (dataset.root / fill_in(name, dataset)).unlink()


def coco_document(change: Callable[[dict[str, Any]], Any]) -> Corruption:
    """Change the content of train.json."""
    def rewritten(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()
    return data("train.json", rewritten)


def record(key: str, at: int, **changes: Any) -> Corruption:
    """Change one record of train.json."""
    return coco_document(lambda document: document[key][at].update(changes))


def appended(key: str, **changes: Any) -> Corruption:
    """Append a copy of the first record of train.json with these changes."""
    return coco_document(lambda document: document[key].append({**document[key][0], **changes}))


def box(**changes: float) -> Corruption:
    """Change x, y, width or height of the first box of train/a.jpg."""
    def corrupt(dataset: DatasetCopy) -> None:
        first, *others = dataset.images["train"]
        name, *sides, crowd = first["boxes"][0]
        values = dict(zip(("x", "y", "width", "height"), sides, strict=True)) | changes
        write(dataset, "train", [{**first, "boxes": [(name, *values.values(), crowd), *first["boxes"][1:]]}, *others])
    return corrupt


def as_fractions(split: str) -> Corruption:
    """Write the boxes of a split as fractions of the image."""
    def corrupt(dataset: DatasetCopy) -> None:
        write(dataset, split,
              [{**row, "boxes": [(name, x / row["width"], y / row["height"], w / row["width"], h / row["height"], crowd)
                                                 for name, x, y, w, h, crowd in row["boxes"]]}
                                                 for row in dataset.images[split]])
    return corrupt


def renamed_boxes(split: str, old: str, new: str) -> Corruption:
    """Change the class of all boxes of a class in a split."""
    def corrupt(dataset: DatasetCopy) -> None:
        write(dataset, split, [{**row, "boxes": [(new if name == old else name, *rest) for name, *rest in row["boxes"]]}
                            for row in dataset.images[split]])
    return corrupt


def duplicated(split: str, name: str) -> Corruption:
    """Add the image train/a.jpg under another name, with its boxes."""
    def corrupt(dataset: DatasetCopy) -> None:
        first = dataset.images["train"][0]
        (dataset.root / split / name).write_bytes((dataset.root / "train/a.jpg").read_bytes())
        write(dataset, split, [*dataset.images[split], {**first, "name": name}])
    return corrupt


def write(dataset: DatasetCopy, split: str, rows: list[Row]) -> None:
    """Rewrite the annotations of a split; the classes do not change."""
    WRITERS[dataset.form](dataset.root, split, rows, class_names(dataset.images))


def encoded(kind: str, **options: Any) -> Callable[[bytes], bytes]:
    """Return a function that encodes an image in another format."""
    def change(content: bytes) -> bytes:
        file = io.BytesIO()
        Pillow.open(io.BytesIO(content)).save(file, kind, **options)
        return file.getvalue()
    return change


def exif_oriented(way: int) -> Callable[[bytes], bytes]:
    """Return a function that adds an EXIF orientation."""
    exif = Pillow.Exif()
    exif[EXIF_ORIENTATION] = way
    return encoded("JPEG", exif=exif)


def utf_16(content: bytes) -> bytes:
    return content.decode().encode("utf-16")


def with_byte_order_mark(content: bytes) -> bytes:
    """Add a byte order mark."""
    return content.decode().encode("utf-8-sig")


def with_windows_lines(content: bytes) -> bytes:
    """Let all lines, those of XML and JSON too, end as on Windows."""
    return _in_lines(content).replace(b"\n", b"\r\n")


def with_mac_lines(content: bytes) -> bytes:
    return _in_lines(content).replace(b"\n", b"\r")


def _in_lines(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"><", b">\n<").replace(b", ", b",\n ")


def in_encoding(encoding: str) -> Callable[[bytes], bytes]:
    """Return a function that encodes XML, declares the encoding and adds a letter that is not ASCII."""
    return lambda content: f"<?xml version='1.0' encoding='{encoding}'?>{content.decode()}<!-- ä -->".encode(encoding)


def half(content: bytes) -> bytes:
    """Return the first half of the bytes."""
    return content[:len(content) // 2]


def huge_png(side: int, bits: int = 8, colour_type: int = 2, pixels: bytes = bytes(9999)) -> bytes:
    """Return a few bytes that claim to be a square image."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a part of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in pairwise("abcdefghi")) + "]><annotation>&i;"
HUGE_GIF = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + (
    b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02L\x01\0;")
