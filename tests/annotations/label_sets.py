"""Small data sets made by hand, and damaged label files, for the tests of the readers of VOC, YOLO and Open Images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image as Pillow

from ssd_lib.annotations.form import Annotations
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest, Part

BITS = [b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\r", b"\n", b" ", b",", b'"', b"<", b">", b"&x;", b"</object>",
        b"<!DOCTYPE a>", b"nan", b"-inf", b"1e999", b"-", b"0", b"1_0", "٣".encode(), b"9" * 400, b"9" * 5000, b"-1"]


def add_photo(root: Path, name: str, size: tuple[int, int]) -> None:
    """Make an image file of one colour."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", size).save(root / name)


def add_text(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def manifest_of(root: Path, classes: tuple[str, ...] = (), **parts: Part) -> Manifest:
    """A manifest of the files as they are, with one part a split."""
    names = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    return Manifest(source="local", root=str(root), splits={split: (part,) for split, part in parts.items()}, classes=classes,
                    files={name: (0, "") for name in names})


def named_boxes(annotations: Annotations) -> list[tuple[str, str, list[float], bool]]:
    """Every box as (image, class, xywh, crowd), in order; the class is "?" where it is not known."""
    name_of = {category.id: category.name for category in annotations.categories}
    boxes = annotations.boxes
    return [(annotations.images.file_names[owner], name_of.get(category, "?"), xywh, crowd) for owner, category, xywh, crowd in
            zip(annotations.owners().tolist(), boxes.category_ids.tolist(), boxes.xywh.tolist(), boxes.is_crowd.tolist(),
                strict=True)]


def damaged(sound: bytes) -> st.SearchStrategy[bytes]:
    """The bytes of a sound file, cut short, or with a few places overwritten by what parsers trip over."""
    edit = st.tuples(st.integers(0, len(sound)), st.integers(0, 30), st.sampled_from(BITS) | st.binary(max_size=4))

    def apply(edits: list[tuple[int, int, bytes]], length: int) -> bytes:
        data = sound
        for at, lost, bit in edits:
            data = data[:at] + bit + data[at + lost:]
        return data[:length]
    return st.builds(apply, st.lists(edit, max_size=4), st.just(10**6) | st.integers(0, len(sound)))


def reads_or_refuses(parse: Callable[[bytes, str], Any], data: bytes) -> None:
    """Assert that a parser gives rows, or an error of ours that names the file; any other exception is a bug."""
    try:
        assert parse(data, "sets/a file") is not None
    except InputError as error:
        assert str(error).startswith("sets/a file: ")  # noqa: PT017 - either outcome is right
        assert str(error).isprintable()  # noqa: PT017
