"""The size of an image is read from its header, and is that of the pixels that training sees."""

import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image as Pillow
from support.label_sets import add_photo

from ssd_lib.annotations.image_size import read_size, read_sizes
from ssd_lib.images import read_image


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff", "gif", "ppm"])
def test_every_usual_form_has_a_size(tmp_path: Path, suffix: str) -> None:
    add_photo(tmp_path, f"a.{suffix}", (60, 40))
    assert read_size(tmp_path / f"a.{suffix}") == (60, 40)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_a_turned_photo_has_the_size_of_its_decoded_pixels(tmp_path: Path, suffix: str) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    Pillow.new("RGB", (60, 40)).save(tmp_path / f"a.{suffix}", exif=exif)
    assert read_size(tmp_path / f"a.{suffix}") == read_image(tmp_path / f"a.{suffix}").shape[1::-1]


def test_the_header_suffices(tmp_path: Path) -> None:
    Pillow.effect_noise((600, 400), 50).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:1000])
    assert read_size(tmp_path / "b.jpg") == (600, 400)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_what_is_no_image_has_no_size(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_size(tmp_path / "a.jpg") is None


def test_a_missing_file_a_folder_and_an_impossible_name_have_no_size(tmp_path: Path) -> None:
    assert read_sizes([tmp_path / "absent.jpg", tmp_path, tmp_path / "a\0.jpg"]) == [None, None, None]


@pytest.mark.filterwarnings("error")
def test_a_picture_of_absurd_size_is_not_decoded_and_not_warned_of(tmp_path: Path) -> None:
    for name, side in (("large.png", 10_000), ("absurd.png", 60_000)):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT")
    assert read_sizes([tmp_path / "large.png", tmp_path / "absurd.png"]) == [(10_000, 10_000), None]


def test_many_are_read_in_their_order(tmp_path: Path) -> None:
    for side in range(1, 60):
        add_photo(tmp_path, f"{side}.png", (side, 2 * side))
    assert read_sizes(tmp_path / f"{side}.png" for side in range(1, 60)) == [(side, 2 * side) for side in range(1, 60)]
