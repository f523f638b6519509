"""Thumbnails: what is shown of an image, which boxes are drawn where, and that no file content does harm."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image as Pillow
from support.corruptions import huge_png

from ssd_lib.report.elements import Mark
from ssd_lib.report.thumbnails import MAX_COORDINATE, MAX_MARKS, SIDE_PX, can_be_drawn, read_thumbnail, svg_box


def write_image(folder: Path, width: int, height: int, **options: object) -> Path:
    path = folder / "a.jpg"
    Pillow.new("RGB", (width, height), (200, 40, 30)).save(path, **options)
    return path


def faulty(*xywh: float) -> tuple[Mark, ...]:
    return (Mark(xywh, "", is_faulty=True),)  # type: ignore[arg-type]


def test_a_part_of_an_image_is_cut_out_with_its_boxes(tmp_path: Path) -> None:
    path, marks = write_image(tmp_path, 100, 80), (Mark((30, 20, 10, 10), "a"),)
    part = read_thumbnail(path, marks, (25, 10, 40, 30))
    assert (part.size, part.marks[0].xywh) == ((40, 30), (5, 10, 10, 10))
    assert Pillow.open(io.BytesIO(part.jpeg)).size == (40, 30)
    assert read_thumbnail(path, marks, (-5, -5, 20, 20)).size == (15, 15)
    assert read_thumbnail(path, marks, (200, 10, 40, 30)).reason == "the image file ends before this place"


@pytest.mark.parametrize(("size", "small"), [((960, 480), (240, 120)), ((300, 600), (120, 240)), ((60, 40), (60, 40)),
                                             ((9000, 3), (240, 1))])
def test_large_images_are_reduced_and_small_ones_keep_their_size(
        tmp_path: Path, size: tuple[int, int], small: tuple[int, int]) -> None:
    thumbnail = read_thumbnail(write_image(tmp_path, *size), ())
    image = Pillow.open(io.BytesIO(thumbnail.jpeg))
    assert (thumbnail.size, image.size, image.format) == (size, small, "JPEG")
    assert max(small) <= SIDE_PX
    assert image.getpixel((0, 0)) == pytest.approx((200, 40, 30), abs=8)


def test_an_image_that_exif_turns_is_shown_upright(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    assert read_thumbnail(write_image(tmp_path, 60, 40, exif=exif), ()).size == (40, 60)


@pytest.mark.parametrize(("xywh", "view"), [
    ((10, 10, 20, 20), (0, 0, 100, 100)),       # inside: only the image
    ((90, 10, 20, 20), (0, 0, 115, 100)),       # 10 px over the right edge, and a margin of 5 %
    ((-10, -20, 50, 50), (-15, -25, 115, 125)),
    ((110, 10, -20, 20), (0, 0, 115, 100)),     # from right to left
    ((500, 10, 20, 20), (0, 0, 150, 100)),      # followed no further than half the image
    ((float("nan"), 0, 5, 5), (0, 0, 100, 100)), ((1e300, 0, 5, 5), (0, 0, 100, 100)),
])
def test_the_view_follows_a_faulty_box_out_of_the_image(
        tmp_path: Path, xywh: tuple[float, ...], view: tuple[float, ...]) -> None:
    assert read_thumbnail(write_image(tmp_path, 100, 100), faulty(*xywh)).view == pytest.approx(view)


def test_the_view_does_not_follow_a_box_without_a_fault(tmp_path: Path) -> None:
    assert read_thumbnail(write_image(tmp_path, 100, 100), (Mark((90, 0, 50, 50), ""),)).view == (0, 0, 100, 100)


def test_a_limited_number_of_boxes_is_drawn(tmp_path: Path) -> None:
    marks = tuple(Mark((0, 0, side, side), "") for side in range(100))
    assert read_thumbnail(write_image(tmp_path, 100, 100), marks).marks == marks[:MAX_MARKS]


@pytest.mark.timeout(20)
def test_a_file_that_cannot_be_shown_gives_the_reason_without_blocking(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"<!doctype html>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    names = ("page.jpg", "empty.jpg", "folder.jpg", "none.jpg", "\0")
    reasons = {name: read_thumbnail(tmp_path / name, ()).reason for name in names}
    assert reasons == {"page.jpg": "cannot be shown: 15 bytes, b'<!doctype ht'", "empty.jpg": "cannot be shown: 0 bytes",
                    "folder.jpg": "cannot be read: it is a folder", "none.jpg": "cannot be read: No such file or directory",
                    "\0": reasons["\0"]}
    assert reasons["\0"].startswith("cannot be read: ")
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe.jpg")
        assert "it is a pipe" in read_thumbnail(tmp_path / "pipe.jpg", ()).reason


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path) -> None:
    side = 10_000  # one bit a pixel: whole, and 12 kB
    (tmp_path / "a.png").write_bytes(huge_png(side, 1, 0, bytes(side * (side // 8 + 1))))
    assert read_thumbnail(tmp_path / "a.png", ()).reason.startswith("cannot be shown: ")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), MAX_COORDINATE, -1e300])
def test_coordinates_that_are_not_finite_or_too_large_are_not_drawn(value: float) -> None:
    assert can_be_drawn(Mark((0, 0, 1, 1), ""))
    assert not can_be_drawn(Mark((0, 0, value, 1), ""))


VIEW = (0.0, 0.0, 100.0, 50.0)


@pytest.mark.parametrize(("xywh", "shown"), [((10, 20, 40, 8), (10, 20, 40, 8)),
                                             ((50, 30, -20, -10), (30, 20, 20, 10)),
                                             ((0, 0, 1e8, 5), (0, 0, 200, 5)),
                                             ((-1e8, 0, 2e8, 5), (-100, 0, 300, 5))])
def test_a_drawn_box_has_positive_sides_that_end_near_the_view(xywh: tuple[float, ...], shown: tuple[float, ...]) -> None:
    assert svg_box(*faulty(*xywh), VIEW)[:4] == shown


def test_a_faulty_box_without_a_side_is_visible_and_a_small_one_has_a_ring() -> None:
    assert svg_box(*faulty(10, 10, 0, 30), VIEW).width > 0
    assert svg_box(*faulty(10, 10, 0, 30), VIEW).ring == 0
    assert svg_box(*faulty(10, 10, 0, 2), VIEW).ring > 0
    assert svg_box(Mark((10, 10, 0, 2), ""), VIEW).ring == 0


def test_only_a_wide_box_shows_its_name() -> None:
    assert svg_box(Mark((10, 20, 40, 8), "cat"), VIEW).letter > 0
    assert svg_box(Mark((10, 20, 20, 8), "cat"), VIEW).letter == 0
    assert svg_box(Mark((10, 20, 40, 8), ""), VIEW).letter == 0
