"""One way to read pixels: RGB, as stored, whatever the file; and errors that name it."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from ssd_lib.errors import InputError
from ssd_lib.images import decode_image, read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_colours(mode: str = "RGB") -> Pillow.Image:
    """Red on the left, blue on the right; 4 wide, 2 high."""
    picture = Pillow.new("RGB", (4, 2), RED)
    picture.paste(BLUE, (2, 0, 4, 2))
    return picture.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_come_out_red_first_in_every_mode(tmp_path: Path, mode: str) -> None:
    two_colours(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((2, 4, 3), np.uint8)
    assert (tuple(image[0, 0]), tuple(image[1, 3])) == (RED, BLUE)


def test_grayscale_becomes_three_equal_channels(tmp_path: Path) -> None:
    Pillow.new("L", (4, 2), 77).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 77).all()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    Pillow.fromarray(np.full((2, 4), 0x4D00, np.uint16)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 0x4D).all()


def test_an_exif_rotation_is_not_applied(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    two_colours().save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (2, 4, 3)


def test_a_name_outside_ascii_is_read(tmp_path: Path) -> None:
    two_colours().save(tmp_path / "größe 图.png")
    assert read_image(tmp_path / "größe 图.png").shape == (2, 4, 3)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xd8\xff"])
def test_what_is_no_image_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.jpg: not an image that OpenCV reads\. .*`dvc repro .*validate` lists"):
        read_image(tmp_path / "a.jpg")


def test_a_missing_file_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read: No such file or directory"):
        read_image(tmp_path / "a.jpg")


def test_an_absurd_size_is_no_image_and_no_crash() -> None:
    file = io.BytesIO()
    two_colours().save(file, "BMP")
    data = bytearray(file.getvalue())
    data[18:26] = struct.pack("<ii", 2**30, 2**30)
    assert decode_image(bytes(data)) is None
