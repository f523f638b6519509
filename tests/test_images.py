"""Images: decoded pixels are RGB and upright; sizes are read from headers; errors name the file."""

import io
import os
import re
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from support.damage import many_scans, png, png_chunk
from support.label_sets import add_image

from ssd_lib.errors import InputError
from ssd_lib.images import FULL_RANGE, MAX_SCANS, cost_fault, decode_image, find_range, jpeg_scans, read_image, read_sizes

RED, BLUE = (255, 0, 0), (0, 0, 255)


def two_colours(mode: str = "RGB") -> Pillow.Image:
    """Return an image of 4 x 2 pixels, red on the left and blue on the right."""
    image = Pillow.new("RGB", (4, 2), RED)
    image.paste(BLUE, (2, 0, 4, 2))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_decoded_channels_are_rgb_in_every_mode(tmp_path: Path, mode: str) -> None:
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


def test_a_name_outside_ascii_is_read(tmp_path: Path) -> None:
    two_colours().save(tmp_path / "größe 图.png")
    assert read_image(tmp_path / "größe 图.png").shape == (2, 4, 3)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\xff\xd8\xff"])
def test_a_file_that_is_not_an_image_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.jpg: not an image that OpenCV reads\. .*`dvc repro .*validate` lists"):
        read_image(tmp_path / "a.jpg")


def test_a_missing_file_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read: No such file or directory"):
        read_image(tmp_path / "a.jpg")


def test_an_absurd_size_is_not_an_image() -> None:
    file = io.BytesIO()
    two_colours().save(file, "BMP")
    data = bytearray(file.getvalue())
    data[18:26] = struct.pack("<ii", 2**30, 2**30)
    assert decode_image(bytes(data)) is None


@pytest.mark.parametrize(("data", "text"), [
    (many_scans((3000, 3000), 500), f"a JPEG of more than {MAX_SCANS} scans"),
    (b"\xff\xd8" + b"\xff\xfe\0\2" * 200_000, f"a JPEG of more than {MAX_SCANS} scans"),
    (png(60_000, 60_000), "Image size (3600000000 pixels) exceeds limit"),
    (png(10_000, 10_000), "10000x10000 pixels; 89478485 are the most"),
    (b"P6 30000 30000 255\n", "Image size (900000000 pixels) exceeds limit"),
    (png(4, 4, png_chunk(b"tEXt", b"a\0b", 0x7fff_fff0)), "a PNG with a chunk that claims 2147483632 bytes"),
    (png(4, 4, png_chunk(b"tEXt", b"a\0b", 0xffff_fff0)), "a PNG with a chunk that claims 4294967280 bytes"),
    (png(4, 4, *[png_chunk(b"tEXt", b"")] * 110_000), "a PNG of more than 100000 chunks"),
], ids=["scans", "segments", "pixels", "more than Pillow's limit", "PPM", "2 GB", "4 GB", "chunks"])
def test_an_image_that_costs_too_much_is_refused_by_its_header(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    start_s = time.monotonic()
    with pytest.raises(InputError, match=re.escape(f"a.jpg: {text}")):
        read_image(tmp_path / "a.jpg")
    assert time.monotonic() - start_s < 5


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_lib.images.MAX_BYTES", 1 << 20)
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1 << 40)  # takes no disk space
    with pytest.raises(InputError, match=r"a\.jpg: more than 1 MiB"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("scans", [MAX_SCANS, MAX_SCANS + 1])
def test_scans_are_counted_without_decoding(scans: int) -> None:
    assert jpeg_scans(many_scans((8, 8), scans)) == scans


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}])
def test_usual_images_cost_little(options: dict[str, int]) -> None:
    file = io.BytesIO()
    thumbnail = many_scans((8, 8), MAX_SCANS)  # in the metadata, which is not decoded
    Pillow.effect_noise((300, 200), 90).convert("RGB").save(file, "JPEG", exif=b"Exif\0\0" + thumbnail, **options)
    after = many_scans((8, 8), MAX_SCANS)  # as phones append videos
    assert cost_fault(file.getvalue() + after) == ""
    assert 1 <= jpeg_scans(file.getvalue() + after) <= 10


@pytest.mark.timeout(20)
@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have named pipes and devices")
def test_a_pipe_and_a_device_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for path in (tmp_path / "a.jpg", Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path}: cannot be read: it is a pipe, a socket or a device"):
            read_image(path)


def sizes(*paths: Path) -> list[list[int]]:
    return read_sizes(paths).tolist()


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff", "gif", "ppm"])
def test_the_size_of_every_common_format_is_read(tmp_path: Path, suffix: str) -> None:
    add_image(tmp_path, f"a.{suffix}", (60, 40))
    assert sizes(tmp_path / f"a.{suffix}") == [[60, 40]]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_an_exif_rotated_image_has_the_size_of_its_decoded_pixels(tmp_path: Path, suffix: str) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Pillow.new("RGB", (60, 40)).save(tmp_path / f"a.{suffix}", exif=exif)
    assert sizes(tmp_path / f"a.{suffix}") == [list(read_image(tmp_path / f"a.{suffix}").shape[1::-1])] == [[40, 60]]


def test_the_header_is_enough_for_the_size(tmp_path: Path) -> None:
    Pillow.effect_noise((600, 400), 50).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:1000])
    assert sizes(tmp_path / "b.jpg") == [[600, 400]]


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_a_file_that_is_not_an_image_has_no_size(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    assert sizes(tmp_path / "a.jpg") == [[0, 0]]


def test_a_missing_file_a_folder_and_an_impossible_name_have_no_size(tmp_path: Path) -> None:
    assert sizes(tmp_path / "absent.jpg", tmp_path, tmp_path / "a\0.jpg") == [[0, 0]] * 3


@pytest.mark.filterwarnings("error")
def test_an_absurd_size_gives_no_size_and_no_warning(tmp_path: Path) -> None:
    for name, side in (("large.png", 10_000), ("absurd.png", 60_000)):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT")
    assert sizes(tmp_path / "large.png", tmp_path / "absurd.png") == [[10_000, 10_000], [0, 0]]


def test_sizes_are_in_the_order_of_the_files(tmp_path: Path) -> None:
    for side in range(1, 70):  # more than HEADERS_AT_ONCE
        add_image(tmp_path, f"{side}.png", (side, 2 * side))
    assert sizes(*(tmp_path / f"{side}.png" for side in range(1, 70))) == [[side, 2 * side] for side in range(1, 70)]


DEEP = (np.arange(60, dtype=np.uint16) * 40 + 1000).reshape(6, 10)  # 1000 to 3360, as of a 12-bit camera


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled_from_their_range(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), DEEP)
    assert np.array_equal(read_image(path)[..., 0], DEEP >> 8)
    scaled = read_image(path, (1000, 3000))
    assert (scaled.dtype, scaled.shape) == (np.uint8, (6, 10, 3))
    expected = ((DEEP.astype(float) - 1000) * 255 / 2000).clip(0, 255)
    assert np.abs(scaled - expected[..., None]).max() <= 0.5


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_of_three_channels_are_scaled_alike_and_stay_rgb(tmp_path: Path, suffix: str) -> None:
    path, colour = tmp_path / f"deep{suffix}", np.zeros((4, 6, 3), np.uint16)
    colour[...] = 1000, 2000, 3000
    cv2.imwrite(str(path), colour[..., ::-1])  # OpenCV's order is BGR
    assert read_image(path, (1000, 3000))[0, 0].tolist() == [0, 128, 255]


def test_eight_bits_and_turned_images_are_as_ever_whatever_the_range_is(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.gif", "a.webp", "a.bmp"):
        two_colours().save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name, (1000, 3000)), read_image(tmp_path / name))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.fromarray(DEEP).save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", (1000, 3000)).shape == (10, 6, 3)


def test_the_range_of_a_dataset_leaves_out_single_values_and_images_of_eight_bits(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.tif", "c.png", "d.jpg", "lost.png")]
    noise = np.random.default_rng(0).integers(1000, 3000, (200, 100), dtype=np.uint16)
    for path in paths[:2]:
        cv2.imwrite(str(path), noise)
    noise[0, :5], noise[0, 5:10] = 0, 65535  # of 40,000 values: defective pixels
    cv2.imwrite(str(paths[0]), noise)
    for path in paths[2:4]:
        two_colours().save(path)
    low, high = find_range("auto", paths)
    assert 1000 <= low < 1010 < 2990 < high < 3000
    assert find_range("auto", paths[2:]) == find_range("auto", []) == find_range("full", paths) == FULL_RANGE
    assert find_range([5, 70], paths) == (5, 70)
