"""Real photographs, broken by hand: each fault is found, and what is sound in an unusual way is not called broken."""

import hashlib
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pillow

from ssd_lib.annotations.image_checks import CHUNK, Photo, check_photo, check_photos
from ssd_lib.errors import StateError

SIZE = (60, 40)


def encode(picture: Pillow.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def photo(folder: Path, data: bytes, name: str = "a.jpg", size: tuple[int, int] = SIZE) -> Photo:
    (folder / name).write_bytes(data)
    return Photo("train", name, folder / name, size, (len(data), hashlib.sha256(data).hexdigest()))


def kinds(checked: Photo) -> list[str]:
    return [fault.kind for fault in check_photo(checked)]


@pytest.fixture(scope="module")
def picture(photo_bytes: bytes) -> Pillow.Image:
    """A small photograph, 60 x 40 pixels, RGB."""
    return Pillow.open(io.BytesIO(photo_bytes)).convert("RGB").resize(SIZE)


@pytest.mark.parametrize(("kind", "change"), [
    ("JPEG", lambda p: p), ("JPEG", lambda p: p.convert("L")), ("JPEG", lambda p: p.convert("CMYK")),
    ("PNG", lambda p: p), ("PNG", lambda p: p.convert("L")), ("PNG", lambda p: p.convert("1")),
    ("PNG", lambda p: p.convert("P")), ("PNG", lambda p: p.convert("RGBA")), ("PNG", lambda p: p.convert("LA")),
    ("PNG", lambda p: p.convert("L").convert("I;16")), ("BMP", lambda p: p), ("WEBP", lambda p: p),
    ("GIF", lambda p: p), ("TIFF", lambda p: p), ("PPM", lambda p: p),
])
def test_every_usual_form_is_sound(
        tmp_path: Path, picture: Pillow.Image, kind: str, change: Callable[[Pillow.Image], Pillow.Image]) -> None:
    assert kinds(photo(tmp_path, encode(change(picture), kind), f"a.{kind.lower()}")) == []


def test_a_progressive_jpeg_and_one_with_bytes_after_its_end_are_sound(tmp_path: Path, picture: Pillow.Image) -> None:
    assert kinds(photo(tmp_path, encode(picture, "JPEG", progressive=True))) == []
    assert kinds(photo(tmp_path, encode(picture, "JPEG") + b"trailer")) == []


def test_a_jpeg_with_a_second_picture_is_sound(tmp_path: Path, picture: Pillow.Image) -> None:
    assert kinds(photo(tmp_path, encode(picture, "MPO", save_all=True, append_images=[picture.resize((20, 10))]))) == []


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_another_format_than_the_name_says_is_a_warning(tmp_path: Path, picture: Pillow.Image, kind: str) -> None:
    found = check_photo(photo(tmp_path, encode(picture, kind)))
    assert [(fault.kind, fault.text) for fault in found] == [("wrong_format", f"a.jpg: content is {kind}")]


def test_an_animation_counts_as_its_first_picture(tmp_path: Path, picture: Pillow.Image) -> None:
    frames = [picture.rotate(90 * turn) for turn in range(1, 3)]
    assert kinds(photo(tmp_path, encode(picture, "GIF", save_all=True, append_images=frames))) == ["wrong_format"]


def test_a_photo_that_exif_turns_is_measured_as_stored(tmp_path: Path, picture: Pillow.Image) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    data = encode(picture, "JPEG", exif=exif)
    assert kinds(photo(tmp_path, data)) == []
    fault, = check_photo(photo(tmp_path, data, size=SIZE[::-1]))
    assert fault.kind == "size_differs"
    assert "60x40; annotated as 40x60; its EXIF data turn it" in fault.text


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_photo_is_found_at_every_length(tmp_path: Path, photo_bytes: bytes, share: float) -> None:
    assert kinds(photo(tmp_path, photo_bytes[:max(4, int(len(photo_bytes) * share))])) == ["truncated"]


@pytest.mark.parametrize("lost", [1, 2, 3, 10, 100])
def test_the_last_bytes_are_missed(tmp_path: Path, photo_bytes: bytes, picture: Pillow.Image, lost: int) -> None:
    assert kinds(photo(tmp_path, photo_bytes[:-lost])) == ["truncated"]
    assert kinds(photo(tmp_path, encode(picture, "PNG")[:-lost], "a.png")) == ["truncated"]


def test_a_photo_whose_second_half_is_zeros_is_found(tmp_path: Path, photo_bytes: bytes) -> None:
    half = len(photo_bytes) // 2
    assert kinds(photo(tmp_path, photo_bytes[:half] + bytes(len(photo_bytes) - half))) == ["truncated"]


def test_an_empty_a_missing_and_a_foreign_file_are_told_apart(tmp_path: Path) -> None:
    assert kinds(photo(tmp_path, b"")) == ["empty"]
    assert kinds(photo(tmp_path, b"<!DOCTYPE html><title>404</title>")) == ["not_an_image"]
    fault, = check_photo(Photo("train", "b.jpg", tmp_path / "b.jpg", SIZE, None))
    assert fault == ("missing", ("train", "b.jpg"), "b.jpg: cannot be read: No such file or directory")
    assert kinds(Photo("train", "b\0.jpg", tmp_path / "b\0.jpg", SIZE, None)) == ["missing"]


def test_a_folder_in_place_of_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    assert kinds(Photo("train", "a.jpg", tmp_path / "a.jpg", SIZE, None)) == ["missing"]


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_a_fault_and_not_a_crash(tmp_path: Path, side: int) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    assert kinds(photo(tmp_path, b"\x89PNG\r\n\x1a\n" + body, "a.png")) == ["too_large"]


def test_other_bytes_than_were_downloaded_are_found_at_any_length(tmp_path: Path, picture: Pillow.Image) -> None:
    data = encode(picture, "JPEG")
    sound = photo(tmp_path, data)
    assert kinds(sound._replace(downloaded=(len(data), "0" * 64))) == ["changed"]
    fault, = check_photo(sound._replace(downloaded=(len(data) + 1, hashlib.sha256(data).hexdigest())))
    assert fault.text == f"a.jpg: {len(data)} bytes; the manifest says {len(data) + 1}"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_no_damage_makes_the_check_itself_fail(tmp_path: Path, picture: Pillow.Image, kind: str) -> None:
    sound, dice = encode(picture, kind), random.Random(1)
    for _ in range(60):
        data = bytearray(sound)
        for at in dice.choices(range(len(data)), k=dice.choice([1, 4, 40])):
            data[at] = dice.randrange(256)
        found = kinds(photo(tmp_path, bytes(data[:dice.choice([len(data), dice.randrange(1, len(data))])])))
        assert len(found) <= 1


def test_several_processes_find_what_one_finds_in_the_same_order(tmp_path: Path, picture: Pillow.Image) -> None:
    data = encode(picture, "JPEG")
    photos = [photo(tmp_path, data[:-(at % 3) or None], f"{at:03}.jpg") for at in range(2 * CHUNK + 5)]
    assert list(check_photos(photos, workers=2)) == list(check_photos(photos, workers=0))
    assert sum(1 for _ in check_photos(photos, workers=0)) == 2 * len(photos) // 3


class _Deadly:
    """Ends the process that receives it, as the kernel does when memory is short."""

    def __reduce__(self) -> tuple[object, ...]:
        return __import__("os")._exit, (9,)


def test_a_worker_that_dies_is_an_error_that_names_its_images(tmp_path: Path, picture: Pillow.Image) -> None:
    photos = [photo(tmp_path, encode(picture, "JPEG"), f"{at:03}.jpg") for at in range(2 * CHUNK)]
    photos[CHUNK] = photos[CHUNK]._replace(path=_Deadly())  # type: ignore[arg-type]
    with pytest.raises(StateError, match=r"a worker process died while it checked an image from '0\d\d\.jpg' to '063"):
        list(check_photos(photos, workers=2))
