"""Small pictures: what is shown of an image, which boxes are on it, and that nothing under its name does harm."""

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image as Pillow

from ssd_lib.annotations.table import Box, Category, Image, from_rows
from ssd_lib.validation.report.elements import Mark
from ssd_lib.validation.report.thumbnails import FARTHEST, MOST_MARKS, SIDE_PX, can_be_drawn, find_marks, read_picture


def a_photo(folder: Path, width: int, height: int, **options: object) -> Path:
    path = folder / "a.jpg"
    Pillow.new("RGB", (width, height), (200, 40, 30)).save(path, **options)
    return path


def faulty(*xywh: float) -> tuple[Mark, ...]:
    return (Mark(xywh, "", is_faulty=True),)  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "small"), [((960, 480), (240, 120)), ((300, 600), (120, 240)), ((60, 40), (60, 40)),
                                             ((9000, 3), (240, 1))])
def test_the_longest_side_is_made_small_and_none_large(
        tmp_path: Path, size: tuple[int, int], small: tuple[int, int]) -> None:
    picture = read_picture(a_photo(tmp_path, *size), ())
    thumbnail = Pillow.open(io.BytesIO(picture.jpeg))
    assert (picture.size, thumbnail.size, thumbnail.format) == (size, small, "JPEG")
    assert max(small) <= SIDE_PX
    assert thumbnail.getpixel((0, 0)) == pytest.approx((200, 40, 30), abs=8)


def test_a_picture_is_shown_as_stored_whatever_exif_says(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    assert read_picture(a_photo(tmp_path, 60, 40, exif=exif), ()).size == (60, 40)


@pytest.mark.parametrize(("xywh", "view"), [
    ((10, 10, 20, 20), (0, 0, 100, 100)),       # within: the image alone
    ((90, 10, 20, 20), (0, 0, 115, 100)),       # 10 px over the right edge, and 5 % of air
    ((-10, -20, 50, 50), (-15, -25, 115, 125)),
    ((110, 10, -20, 20), (0, 0, 115, 100)),     # from right to left
    ((500, 10, 20, 20), (0, 0, 150, 100)),      # followed no further than half the image
    ((float("nan"), 0, 5, 5), (0, 0, 100, 100)), ((1e300, 0, 5, 5), (0, 0, 100, 100)),
])
def test_the_view_follows_a_faulty_box_out_of_the_image(
        tmp_path: Path, xywh: tuple[float, ...], view: tuple[float, ...]) -> None:
    assert read_picture(a_photo(tmp_path, 100, 100), faulty(*xywh)).view == pytest.approx(view)


def test_the_view_stays_for_a_box_that_is_not_at_fault(tmp_path: Path) -> None:
    assert read_picture(a_photo(tmp_path, 100, 100), (Mark((90, 0, 50, 50), ""),)).view == (0, 0, 100, 100)


def test_at_most_so_many_boxes_are_drawn(tmp_path: Path) -> None:
    marks = tuple(Mark((0, 0, side, side), "") for side in range(100))
    assert read_picture(a_photo(tmp_path, 100, 100), marks).marks == marks[:MOST_MARKS]


@pytest.mark.timeout(20)
def test_what_cannot_be_shown_says_why_and_never_waits(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"<!doctype html>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    said = {name: read_picture(tmp_path / name, ()).blank for name in ("page.jpg", "empty.jpg", "folder.jpg", "none.jpg", "\0")}
    assert said == {"page.jpg": "cannot be shown: 15 bytes, b'<!doctype ht'", "empty.jpg": "cannot be shown: 0 bytes",
                    "folder.jpg": "cannot be read: it is a folder", "none.jpg": "cannot be read: No such file or directory",
                    "\0": said["\0"]}
    assert said["\0"].startswith("cannot be read: ")
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe.jpg")
        assert "it is a pipe" in read_picture(tmp_path / "pipe.jpg", ()).blank


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    side = 10_000  # one bit a pixel: whole, and 12 kB
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(side * (side // 8 + 1)))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert read_picture(tmp_path / "a.png", ()).blank.startswith("cannot be shown: ")


def test_marks_are_those_of_the_wanted_images_the_largest_first() -> None:
    annotations = from_rows(
        [Image(7, "a", 60, 40), Image(8, "b", 60, 40)],
        [Box(1, 7, 1, 0, 0, 5, 5, 1, False), Box(2, 7, 2, 1, 1, 9, 9, 1, True), Box(3, 8, 1, 0, 0, 5, 5, 1, False),
         Box(4, 7, 9, 0, 0, 1, 1, 1, False), Box(5, 7, 1, 0, float("inf"), 1, 1, 1, False),
         Box(6, 99, 1, 0, 0, 1, 1, 1, False)],
        [Category(1, "cat", 1), Category(2, "dog", 2)])
    assert find_marks({"train": annotations}, [("train", "a"), ("val", "a")]) == {
        ("train", "a"): (Mark((1, 1, 9, 9), "dog (crowd)"), Mark((0, 0, 5, 5), "cat"), Mark((0, 0, 1, 1), "category 9")),
        ("val", "a"): ()}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), FARTHEST, -1e300])
def test_numbers_that_mean_no_place_are_not_drawn(value: float) -> None:
    assert can_be_drawn(Mark((0, 0, 1, 1), ""))
    assert not can_be_drawn(Mark((0, 0, value, 1), ""))
