"""Damaged real images: each fault is found, and unusual but valid files have none."""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import features
from support.corruptions import huge_png
from support.damage import many_scans
from support.project import ROOT

from ssd_lib import images
from ssd_lib.errors import InputError, StateError
from ssd_lib.exif import EXIF_ORIENTATION
from ssd_lib.files import write_json
from ssd_lib.images import decode_image, read_image, read_sizes
from ssd_lib.validation.images import CHUNK, ImageFile, check_image, check_images

SIZE = (60, 40)
LOSSY = 8  # largest difference of a colour after lossy compression


def encode(image: Pillow.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def image_file(folder: Path, data: bytes, name: str = "a.jpg", size: tuple[int, int] = SIZE) -> ImageFile:
    (folder / name).write_bytes(data)
    return ImageFile("train", name, folder / name, size, (len(data), hashlib.sha256(data).hexdigest()))


def kinds(checked: ImageFile) -> list[str]:
    return [fault.kind for fault in check_image(checked)]


@pytest.fixture(scope="module")
def image(image_bytes: bytes) -> Pillow.Image:
    """Return a small real image, 60 x 40 pixels, RGB."""
    return Pillow.open(io.BytesIO(image_bytes)).convert("RGB").resize(SIZE)


@pytest.fixture(scope="module")
def quarters() -> np.ndarray:
    """Return four colours, (40, 60, 3) RGB: rotations, swaps and wrong colours of an image are visible in it."""
    pixels = np.empty((40, 60, 3), np.uint8)
    for rows, columns, colour in ((0, 0, (200, 40, 30)), (0, 1, (20, 160, 60)), (1, 0, (30, 60, 210)), (1, 1, (230, 220, 90))):
        pixels[20 * rows:20 * rows + 20, 30 * columns:30 * columns + 30] = colour
    return pixels


def middles(pixels: np.ndarray) -> np.ndarray:
    """Return the colour in the middle of each quarter, (4, 3)."""
    height, width = pixels.shape[:2]
    return pixels[[height // 4, height // 4, 3 * height // 4, 3 * height // 4],
                  [width // 4, 3 * width // 4, width // 4, 3 * width // 4]].astype(int)


def trained_on(checked: ImageFile) -> np.ndarray:
    """Assert that a file has no faults; return the pixels that training reads."""
    assert check_image(checked) == []
    image = decode_image(checked.path.read_bytes())
    assert image is not None
    return image


def gray(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Pillow.fromarray(pixels).convert("L").convert("RGB"))


def sixteen_bits(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1].astype(np.uint16) * 257)[1].tobytes()


@pytest.mark.parametrize(("kind", "mode", "off"), [
    ("JPEG", "RGB", LOSSY), ("JPEG", "CMYK", LOSSY), ("PNG", "RGB", 0), ("PNG", "P", 51), ("BMP", "RGB", 0), ("PPM", "RGB", 0),
    ("GIF", "P", 51), ("WEBP", "RGB", LOSSY), ("TIFF", "RGB", 0), ("TIFF", "CMYK", 1), ("TIFF", "P", 51),
])  # a palette of the web's colours has steps of 51
def test_the_usual_forms_are_sound_and_their_colours_right(
        tmp_path: Path, quarters: np.ndarray, kind: str, mode: str, off: int) -> None:
    data = encode(Pillow.fromarray(quarters).convert(mode), kind)
    assert np.abs(middles(trained_on(image_file(tmp_path, data, f"a.{kind.lower()}"))) - middles(quarters)).max() <= off


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "LA"), ("PPM", "L"), ("TIFF", "L")])
def test_grey_is_sound_and_becomes_three_equal_channels(tmp_path: Path, quarters: np.ndarray, kind: str, mode: str) -> None:
    seen = trained_on(image_file(tmp_path, encode(Pillow.fromarray(quarters).convert(mode), kind), f"a.{kind.lower()}"))
    assert (np.ptp(seen, axis=2) == 0).all()
    assert np.abs(middles(seen) - middles(gray(quarters))).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_one_bit_is_sound_and_becomes_black_and_white(tmp_path: Path, quarters: np.ndarray, kind: str) -> None:
    image = Pillow.fromarray(quarters[..., 0] > 100)
    assert (middles(trained_on(image_file(tmp_path, encode(image, kind), f"a.{kind.lower()}"))) ==
            middles(np.where(quarters[..., :1] > 100, 255, 0).repeat(3, axis=2))).all()


def test_sixteen_bits_are_sound_and_become_eight(tmp_path: Path, quarters: np.ndarray) -> None:
    assert (trained_on(image_file(tmp_path, sixteen_bits(quarters), "a.png")) == quarters).all()
    grey = Pillow.fromarray(gray(quarters)[..., 0].astype(np.uint16) * 257)
    assert (trained_on(image_file(tmp_path, encode(grey, "PNG"), "b.png")) == gray(quarters)).all()


def test_transparency_is_dropped_and_the_colour_under_it_stays(tmp_path: Path, quarters: np.ndarray) -> None:
    clear = np.dstack([quarters, np.zeros((40, 60), np.uint8)])
    assert (trained_on(image_file(tmp_path, encode(Pillow.fromarray(clear), "PNG"), "a.png")) == quarters).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_of_an_animation_training_sees_the_first_frame(tmp_path: Path, quarters: np.ndarray, kind: str) -> None:
    frames = [Pillow.fromarray(np.roll(quarters, 15 * turn, axis=1)) for turn in range(3)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(middles(trained_on(image_file(tmp_path, data, f"a.{kind.lower()}"))) - middles(quarters)).max() <= LOSSY


def test_damage_after_the_first_frame_of_an_animation_is_ignored(tmp_path: Path, quarters: np.ndarray) -> None:
    data = encode(Pillow.fromarray(quarters), "PNG", save_all=True, append_images=[Pillow.fromarray(quarters[::-1].copy())])
    assert (trained_on(image_file(tmp_path, data[:-40], "a.png")) == quarters).all()


def test_progressive_jpegs_and_bytes_after_the_end_give_the_right_colours(
        tmp_path: Path, quarters: np.ndarray) -> None:
    image = Pillow.fromarray(quarters)
    for data in (encode(image, "JPEG", progressive=True), encode(image, "JPEG") + bytes(500) + b"trailer"):
        assert np.abs(middles(trained_on(image_file(tmp_path, data))) - middles(quarters)).max() <= LOSSY


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP"])
def test_another_format_than_the_name_says_is_a_warning(tmp_path: Path, image: Pillow.Image, kind: str) -> None:
    found = check_image(image_file(tmp_path, encode(image, kind)))
    assert [(fault.kind, fault.text) for fault in found] == [("wrong_format", f"a.jpg: content is {kind}")]


def turned_by_exif(pixels: np.ndarray, kind: str, turn: int = 6) -> bytes:
    exif = Pillow.Exif()
    exif[EXIF_ORIENTATION] = turn
    return encode(Pillow.fromarray(pixels), kind, exif=exif, quality=95)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_that_exif_rotates_is_read_upright_and_reported(tmp_path: Path, quarters: np.ndarray, kind: str) -> None:
    checked = image_file(tmp_path, turned_by_exif(quarters, kind), f"a.{kind.lower()}", size=SIZE[::-1])
    fault, = check_image(checked)
    assert (fault.kind, fault.image, fault.orientation) == ("exif_rotated", checked.name, 1)
    assert "its EXIF orientation is 6, so it is read upright, 40x60, as viewers show it" in fault.text
    assert np.abs(middles(decode_image(checked.path.read_bytes())) - middles(np.rot90(quarters, -1))).max() <= LOSSY


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_labels_of_the_size_as_stored_are_told_with_the_turn_of_their_boxes(
        tmp_path: Path, quarters: np.ndarray, kind: str, turn: int) -> None:
    fault, = check_image(image_file(tmp_path, turned_by_exif(quarters, kind, turn), f"a.{kind.lower()}"))
    assert (fault.kind, fault.orientation) == ("labels_as_stored", turn)
    assert f"its labels state 60x40, as it is stored; its EXIF orientation is {turn}, so it is read as 40x60" in fault.text


def test_another_size_than_the_stored_and_the_upright_one_differs(tmp_path: Path, quarters: np.ndarray) -> None:
    fault, = check_image(image_file(tmp_path, turned_by_exif(quarters, "JPEG"), size=(41, 60)))
    assert fault.kind == "size_differs"
    assert "40x60 after EXIF turns it from 60x40; annotated as 41x60" in fault.text


def test_a_swapped_size_of_an_image_that_exif_does_not_turn_differs(tmp_path: Path, quarters: np.ndarray) -> None:
    assert kinds(image_file(tmp_path, turned_by_exif(quarters, "JPEG", 3), size=SIZE[::-1])) == ["size_differs"]


@pytest.mark.parametrize("turn", range(2, 9))
def test_a_square_image_is_told_for_every_rotation_and_reflection(tmp_path: Path, quarters: np.ndarray, turn: int) -> None:
    assert kinds(image_file(tmp_path, turned_by_exif(quarters[:, :40].copy(), "JPEG", turn), size=(40, 40))) == ["exif_rotated"]


@pytest.mark.parametrize("turn", [0, 1, 9])
def test_an_orientation_that_viewers_ignore_gives_no_hint(tmp_path: Path, quarters: np.ndarray, turn: int) -> None:
    assert kinds(image_file(tmp_path, turned_by_exif(quarters, "JPEG", turn))) == []


@pytest.mark.parametrize(("suffix", "channels"), [("png", 1), ("png", 3), ("tiff", 1), ("tiff", 3), ("pgm", 1), ("ppm", 3)])
@pytest.mark.parametrize(("low", "high", "levels"), [(7000, 9000, 9), (280, 330, 1), (60_100, 64_200, 17), (20_000, 29_000, 0),
                                                     (0, 65_535, 0)])
def test_sixteen_bits_of_which_eight_leave_hardly_any_contrast_are_reported(
        tmp_path: Path, suffix: str, channels: int, low: int, high: int, levels: int) -> None:
    values = np.linspace(low, high, SIZE[0] * SIZE[1]).round().astype(np.uint16).reshape(SIZE[1], SIZE[0], 1)
    values[0, 0], values[-1, -1] = 0, 65_535  # defective pixels
    data = cv2.imencode(f".{suffix}", values.repeat(channels, 2))[1].tobytes()
    found = [fault.text for fault in check_image(image_file(tmp_path, data, f"a.{suffix}")) if fault.kind == "low_contrast"]
    assert len(found) == bool(levels)
    assert all(f"its values span {levels} of 256 grey levels" in text for text in found)


def test_a_dark_image_of_eight_bits_is_no_fault(tmp_path: Path) -> None:
    data = encode(Pillow.fromarray(np.full((SIZE[1], SIZE[0], 3), 7, np.uint8)), "PNG")
    assert kinds(image_file(tmp_path, data, "a.png")) == []


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08"])
def test_broken_exif_data_leave_an_image_valid(tmp_path: Path, quarters: np.ndarray, exif: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert kinds(image_file(tmp_path, encode(Pillow.fromarray(quarters), kind, exif=exif), f"a.{kind.lower()}")) == []


@pytest.mark.parametrize("cuts", [5, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("WEBP", {"lossless": True}),
    ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("PPM", {})])
def test_an_image_cut_anywhere_is_found_or_has_lost_no_pixel(
        tmp_path: Path, image: Pillow.Image, kind: str, options: dict[str, object], cuts: int) -> None:
    data, name = encode(image, kind, **options), f"a.{kind.lower()}"
    whole = decode_image(data)
    for length in range(1, len(data), len(data) // cuts):
        if not kinds(image_file(tmp_path, data[:length], name)):
            assert (decode_image(data[:length]) == whole).all()


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_image_is_found_at_every_length(tmp_path: Path, image_bytes: bytes, share: float) -> None:
    assert kinds(image_file(tmp_path, image_bytes[:max(4, int(len(image_bytes) * share))])) == ["truncated"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_half_an_image_is_called_truncated(tmp_path: Path, image: Pillow.Image, kind: str) -> None:
    data = encode(image, kind)
    assert kinds(image_file(tmp_path, data[:len(data) // 2], f"a.{kind.lower()}")) == ["truncated"]


def test_missing_bytes_are_found_by_pillow_whatever_opencv_makes_of_them(tmp_path: Path, image_bytes: bytes) -> None:
    fault, = check_image(image_file(tmp_path, image_bytes[:len(image_bytes) // 2]))
    assert "cut short or damaged: " in fault.text


@pytest.mark.parametrize("lost", [1, 2, 3, 10, 100])
def test_missing_last_bytes_are_found(tmp_path: Path, image_bytes: bytes, image: Pillow.Image, lost: int) -> None:
    assert kinds(image_file(tmp_path, image_bytes[:-lost])) == ["truncated"]
    assert kinds(image_file(tmp_path, encode(image, "PNG")[:-lost], "a.png")) == ["truncated"]


def test_an_image_whose_second_half_is_zeros_is_found(tmp_path: Path, image_bytes: bytes) -> None:
    half = len(image_bytes) // 2
    assert kinds(image_file(tmp_path, image_bytes[:half] + bytes(len(image_bytes) - half))) == ["truncated"]


SHORT_OF_MEMORY = """
import re, resource, sys
from pathlib import Path
from ssd_lib.images import read_sizes
from ssd_lib.validation.images import ImageFile, check_image
path = Path(sys.argv[1])
sound = ImageFile("train", path.name, path, (5000, 4000), None)
read_sizes([path])
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), resource.RLIM_INFINITY))
print(check_image(sound))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the size of the process in /proc")
def test_a_sound_image_is_not_called_damaged_where_memory_runs_out(tmp_path: Path) -> None:
    Pillow.new("L", (5000, 4000), 7).save(tmp_path / "large.png")
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY, tmp_path / "large.png"], cwd=ROOT, text=True, check=False,
                          capture_output=True, timeout=60)
    assert "StateError" in done.stderr, done.stdout
    assert "large.png: while it was decoded, memory ran out" in done.stderr


def test_empty_missing_and_foreign_files_are_distinguished(tmp_path: Path) -> None:
    assert kinds(image_file(tmp_path, b"")) == ["empty"]
    assert kinds(image_file(tmp_path, b"<!DOCTYPE html><title>404</title>")) == ["not_an_image"]
    fault, = check_image(ImageFile("train", "b.jpg", tmp_path / "b.jpg", SIZE, None))
    assert fault == ("missing", ("train", "b.jpg"), "b.jpg: cannot be read: No such file or directory", "b.jpg", None, 1)
    assert kinds(ImageFile("train", "b\0.jpg", tmp_path / "b\0.jpg", SIZE, None)) == ["missing"]


@pytest.mark.parametrize(("data", "what"), [
    (b"\n<html><head>", "a web page, not an image"), (b'<?xml version="1.0"?>\n<svg>', "SVG; convert it to PNG"),
    (b"\xff\x0a\0\0", "JPEG XL; convert it to JPEG or PNG"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL; convert it to JPEG or PNG"),
    (b"\0\0\0\x0cjP  \r\n", "JPEG 2000; convert it to JPEG or PNG"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; `git lfs pull` fetches the image"),
])
def test_other_content_under_an_image_s_name_is_identified(tmp_path: Path, data: bytes, what: str) -> None:
    fault, = check_image(image_file(tmp_path, data))
    assert (fault.kind, fault.text) == ("not_an_image", f"a.jpg: {len(data)} bytes of {what}")


@pytest.mark.skipif("avif" not in features.modules or not features.check("avif"), reason="this Pillow writes no AVIF")
def test_avif_is_read_whole_upright_and_told_when_damaged(tmp_path: Path, image: Pillow.Image) -> None:
    data = encode(image, "AVIF")
    assert kinds(image_file(tmp_path, data, "a.avif")) == []
    assert kinds(image_file(tmp_path, data)) == ["wrong_format"]
    assert kinds(image_file(tmp_path, data[:len(data) // 2], "a.avif")) == ["not_an_image"]
    exif = Pillow.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.avif", quality=95, exif=exif)
    assert read_sizes([tmp_path / "turned.avif"]).tolist() == [[image.height, image.width]]
    pixels = read_image(tmp_path / "turned.avif")
    assert pixels.shape[:2] == (image.width, image.height)
    assert np.abs(pixels.astype(int) - np.array(image.rotate(-90, expand=True))).mean() < 10


@pytest.mark.parametrize(("brand", "name", "command"), [(b"heic", "HEIF", "pip install pillow-heif"),
                                                        (b"avif", "AVIF", "pip install --upgrade Pillow")])
def test_an_image_that_only_a_plugin_reads_is_told_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                    brand: bytes, name: str, command: str) -> None:
    monkeypatch.setattr(images, "pillow_formats", lambda: ("JPEG", "PNG"))
    data = b"\0\0\0\x18ftyp" + brand
    fault, = check_image(image_file(tmp_path, data, "a.heic"))
    assert fault.kind == "not_an_image"
    assert f"a.heic: 12 bytes of {name}, which cannot be read here: `{command}`, or convert it to JPEG or PNG" in fault.text
    with pytest.raises(InputError, match=f"a.heic: {name}, which cannot be read here: `{command}`"):
        read_image(tmp_path / "a.heic")


def test_a_float_tiff_is_reported(tmp_path: Path, image: Pillow.Image) -> None:
    fault, = check_image(image_file(tmp_path, encode(image.convert("F"), "TIFF"), "a.tif"))
    assert (fault.kind, "of a kind that OpenCV cannot read" in fault.text) == ("truncated", True)


@pytest.mark.parametrize("name", ["../a.jpg", "train/../../a.jpg", "{folder}/a.jpg"])
def test_a_name_that_leads_out_of_the_folder_is_missing_even_if_the_file_exists(
        tmp_path: Path, image_bytes: bytes, name: str) -> None:
    sound = image_file(tmp_path, image_bytes)
    fault, = check_image(sound._replace(name=name.format(folder=tmp_path), recorded=None))
    assert (fault.kind, "leads out of the folder of the dataset" in fault.text) == ("missing", True)


def test_a_folder_in_place_of_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    fault, = check_image(ImageFile("train", "a.jpg", tmp_path / "a.jpg", SIZE, None))
    assert (fault.kind, fault.text) == ("missing", "a.jpg: cannot be read: it is a folder")


@pytest.mark.timeout(20)
@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have named pipes and devices")
def test_a_pipe_and_a_device_are_reported_without_waiting_for_their_bytes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("/dev/zero")
    for name in ("a.jpg", "b.jpg"):
        fault, = check_image(ImageFile("train", name, tmp_path / name, SIZE, None))
        assert (fault.kind, fault.text) == ("missing", f"{name}: cannot be read: it is a pipe, a socket or a device")


@pytest.mark.skipif(os.name != "posix", reason="Windows lets few users make links")
def test_links_that_lead_in_a_circle_or_nowhere_are_missing(tmp_path: Path) -> None:
    for name, target in (("a.jpg", "b.jpg"), ("b.jpg", "a.jpg"), ("c.jpg", "nowhere.jpg")):
        (tmp_path / name).symlink_to(tmp_path / target)
    assert [kinds(ImageFile("train", name, tmp_path / name, SIZE, None)) for name in ("a.jpg", "c.jpg")] == [["missing"]] * 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_missing_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch(mode=0)
    fault, = check_image(ImageFile("train", "a.jpg", tmp_path / "a.jpg", SIZE, None))
    assert fault.text == "a.jpg: cannot be read: Permission denied"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_of_other_bytes_than_utf_8_is_read_and_can_be_reported(tmp_path: Path, image: Pillow.Image) -> None:
    name = os.fsdecode(b"gr\xfc\xdfe.jpg")
    assert kinds(image_file(tmp_path, encode(image, "JPEG"), name)) == []
    fault, = check_image(image_file(tmp_path, b"", name))
    write_json(tmp_path / "report.json", fault.text)
    assert json.loads((tmp_path / "report.json").read_bytes()) == f"{name}: 0 bytes"


@pytest.mark.parametrize("side", [10_000, 60_000, 100_000])
def test_a_decompression_bomb_is_a_fault_and_not_a_crash(tmp_path: Path, side: int) -> None:
    assert kinds(image_file(tmp_path, huge_png(side), "a.png")) == ["too_large"]


def test_a_jpeg_of_many_scans_is_too_large_before_it_is_decoded(tmp_path: Path) -> None:
    data = many_scans((6000, 6000), 500)
    start_s = time.monotonic()
    assert kinds(image_file(tmp_path, data)) == ["too_large"]
    assert time.monotonic() - start_s < 10  # decoded, it would take minutes


def test_changed_bytes_are_found_at_equal_and_different_length(tmp_path: Path, image: Pillow.Image) -> None:
    data = encode(image, "JPEG")
    sound = image_file(tmp_path, data)
    assert kinds(sound._replace(recorded=(len(data), "0" * 64))) == ["changed"]
    fault, = check_image(sound._replace(recorded=(len(data) + 1, hashlib.sha256(data).hexdigest())))
    assert fault.text == f"a.jpg: {len(data)} bytes; the manifest says {len(data) + 1}"


@pytest.mark.parametrize("damages", [5, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_no_damage_makes_the_check_itself_fail(tmp_path: Path, image: Pillow.Image, kind: str, damages: int) -> None:
    sound, generator = encode(image, kind), random.Random(1)
    for _ in range(damages):
        data = bytearray(sound)
        for at in generator.choices(range(len(data)), k=generator.choice([1, 4, 40])):
            data[at] = generator.randrange(256)
        found = kinds(image_file(tmp_path, bytes(data[:generator.choice([len(data), generator.randrange(1, len(data))])])))
        assert len(found) <= 1


def test_several_processes_find_what_one_finds_in_the_same_order(tmp_path: Path, image: Pillow.Image) -> None:
    data = encode(image, "JPEG")
    files = [image_file(tmp_path, data[:-(at % 3) or None], f"{at:03}.jpg") for at in range(2 * CHUNK + 5)]
    assert list(check_images(files, workers=2)) == list(check_images(files, workers=0))
    assert sum(1 for _ in check_images(files, workers=0)) == 2 * len(files) // 3


class _Deadly:
    """Ends the process that receives it, as the kernel does when memory is short."""

    def __reduce__(self) -> tuple[object, ...]:
        return __import__("os")._exit, (9,)


def test_a_worker_that_dies_is_an_error_that_names_its_images(tmp_path: Path, image: Pillow.Image) -> None:
    files = [image_file(tmp_path, encode(image, "JPEG"), f"{at:03}.jpg") for at in range(2 * CHUNK)]
    files[CHUNK] = files[CHUNK]._replace(path=_Deadly())  # type: ignore[arg-type]
    with pytest.raises(StateError, match=r"a worker process died while it checked an image from '0\d\d\.jpg' to '063"):
        list(check_images(files, workers=2))
