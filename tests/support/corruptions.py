"""How faults get into a data set: each planter changes one thing in the files of a sound one, and nothing else."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image as Pillow

from ssd_lib.validation.images import ORIENTATION
from support.four_formats import WRITERS, Row, class_names


class Plot(NamedTuple):
    """A copy of the sound data set: where, in which format, and what was written there."""

    root: Path
    form: str
    photos: dict[str, list[Row]]


Plant = Callable[[Plot], None]

LABELS = {"coco": "train.json", "voc": "train/a.xml", "yolo": "train/a.txt", "open_images": "train-annotations-bbox.csv"}
FIRST_BOX = {"coco": "annotation 1 of 'train/a.jpg'", "voc": "'train/a.xml': object 1", "yolo": "'train/a.txt': line 1",
             "open_images": "'train-annotations-bbox.csv': line 2"}


def said(text: str, plot: Plot) -> str:
    """A text with what its format calls {box}, the first one of train/a.jpg, and {labels}, the file that it stands in."""
    return text.replace("{box}", FIRST_BOX[plot.form]).replace("{labels}", LABELS[plot.form])


def all_of(*plants: Plant) -> Plant:
    """Several changes, one after the other."""
    def plant(plot: Plot) -> None:
        for one in plants:
            one(plot)
    return plant


def data(name: str, content: bytes | Callable[[bytes], bytes]) -> Plant:
    """A file with other bytes, which may be made of those that it had; or a new one."""
    def plant(plot: Plot) -> None:
        path = plot.root / said(name, plot)
        path.write_bytes(content if isinstance(content, bytes) else content(path.read_bytes()))
    return plant


def swapped(name: str, old: str | bytes, new: str | bytes) -> Plant:
    """A file in which the first `old` has become `new`."""
    before, after = (text.encode() if isinstance(text, str) else text for text in (old, new))

    def change(content: bytes) -> bytes:
        assert before in content, f"{name} has no {before!r}"
        return content.replace(before, after, 1)
    return data(name, change)


def copied(name: str, other: str) -> Plant:
    """A file once more, under another name."""
    return lambda plot: (plot.root / other).write_bytes((plot.root / name).read_bytes())


def gone(name: str) -> Plant:
    """A file that is there no more."""
    return lambda plot: (plot.root / said(name, plot)).unlink()


def tree(change: Callable[[dict[str, Any]], Any]) -> Plant:
    """A train.json whose content was changed."""
    def rewritten(content: bytes) -> bytes:
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()
    return data("train.json", rewritten)


def record(key: str, at: int, **changes: Any) -> Plant:
    """A train.json with one record changed."""
    return tree(lambda document: document[key][at].update(changes))


def more(key: str, **changes: Any) -> Plant:
    """A train.json with one record more: the first one again, with these changes."""
    return tree(lambda document: document[key].append({**document[key][0], **changes}))


def box(**changes: float) -> Plant:
    """The first box of train/a.jpg with another x, y, width or height."""
    def plant(plot: Plot) -> None:
        first, *others = plot.photos["train"]
        name, *sides, crowd = first["boxes"][0]
        values = dict(zip(("x", "y", "width", "height"), sides, strict=True)) | changes
        write(plot, "train", [{**first, "boxes": [(name, *values.values(), crowd), *first["boxes"][1:]]}, *others])
    return plant


def renamed_boxes(split: str, old: str, new: str) -> Plant:
    """All boxes of one class in a split are of another."""
    def plant(plot: Plot) -> None:
        write(plot, split, [{**row, "boxes": [(new if name == old else name, *rest) for name, *rest in row["boxes"]]}
                            for row in plot.photos[split]])
    return plant


def again(split: str, name: str) -> Plant:
    """The photograph train/a.jpg once more, under another name, with its boxes."""
    def plant(plot: Plot) -> None:
        first = plot.photos["train"][0]
        (plot.root / split / name).write_bytes((plot.root / "train/a.jpg").read_bytes())
        write(plot, split, [*plot.photos[split], {**first, "name": name}])
    return plant


def write(plot: Plot, split: str, rows: list[Row]) -> None:
    """Write the labels of a split anew; the classes stay."""
    WRITERS[plot.form](plot.root, split, rows, class_names(plot.photos))


def encoded(kind: str, **options: Any) -> Callable[[bytes], bytes]:
    """A picture in another form."""
    def change(content: bytes) -> bytes:
        file = io.BytesIO()
        Pillow.open(io.BytesIO(content)).save(file, kind, **options)
        return file.getvalue()
    return change


def turned(way: int) -> Callable[[bytes], bytes]:
    """A picture with an EXIF orientation."""
    exif = Pillow.Exif()
    exif[ORIENTATION] = way
    return encoded("JPEG", exif=exif)


def utf_16(content: bytes) -> bytes:
    return content.decode().encode("utf-16")


def marked(content: bytes) -> bytes:
    """With a byte order mark."""
    return content.decode().encode("utf-8-sig")


def of_windows(content: bytes) -> bytes:
    """Lines, of XML and JSON too, that end as on Windows."""
    return _in_lines(content).replace(b"\n", b"\r\n")


def of_old_mac(content: bytes) -> bytes:
    return _in_lines(content).replace(b"\n", b"\r")


def _in_lines(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"><", b">\n<").replace(b", ", b",\n ")


def in_xml(encoding: str) -> Callable[[bytes], bytes]:
    """XML in an encoding that it declares, with a letter that is not ASCII in a comment."""
    return lambda content: f"<?xml version='1.0' encoding='{encoding}'?>{content.decode()}<!-- ä -->".encode(encoding)


def half(content: bytes) -> bytes:
    """The first half of the bytes."""
    return content[:len(content) // 2]


def huge_png(side: int) -> bytes:
    """A few bytes that claim to be a square picture."""
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in pairwise("abcdefghi")) + "]><annotation>&i;"
HUGE_GIF = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + (
    b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02L\x01\0;")
