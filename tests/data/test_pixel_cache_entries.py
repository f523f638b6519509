"""Entries of the pixel cache: their sizes, and the pixels that come back."""

from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd_lib.data.pixel_cache_entries import CACHE_FORMATS, cache_name, entry_bytes, entry_sizes, short_side
from ssd_lib.errors import InputError
from ssd_lib.images import decode_image

SPOTS = np.random.default_rng(3).integers(0, 256, (3, 4, 3), dtype=np.uint8)
SMOOTH = cv2.resize(SPOTS, (90, 60), interpolation=cv2.INTER_CUBIC)
lengths = st.integers(1, 5000)


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _entry(kind: str, side: int, folder: Path, pixels: np.ndarray = SMOOTH) -> np.ndarray:
    """Pixels on their way through an entry."""
    content = entry_bytes(_png(pixels), CACHE_FORMATS[kind], side)
    assert content is not None
    (folder / "entry").write_bytes(content)
    return CACHE_FORMATS[kind].read(folder / "entry")


@given(lengths, lengths, st.integers(1, 2000))
def test_the_short_side_is_the_wanted_one_and_no_side_is_more_than_half_a_pixel_off(height: int, width: int, side: int) -> None:
    new = entry_sizes(np.array([[height, width]]), side)[0]
    scale = min(1.0, side / min(height, width))
    assert new.min() == min(side, height, width)
    assert np.abs(new - scale * np.array([height, width])).max() <= 0.5 + 1e-9


def test_small_images_keep_their_size() -> None:
    assert entry_sizes(np.array([[400, 900], [399, 200], [480, 640]]), 400).tolist() == [[400, 900], [399, 200], [400, 533]]


def test_the_short_side_is_four_thirds_of_the_net_s_input_rounded_up() -> None:
    assert [short_side(size) for size in (300, 160, 64)] == [400, 214, 86]


def test_the_name_tells_what_shapes_the_pixels() -> None:
    assert len({cache_name("jpeg", 300), cache_name("raw", 300), cache_name("raw", 320)}) == 3


def test_raw_pixels_are_those_of_the_scaled_image(tmp_path: Path) -> None:
    assert np.array_equal(_entry("raw", 40, tmp_path), cv2.resize(SMOOTH, (60, 40), interpolation=cv2.INTER_AREA))


def test_jpeg_pixels_are_nearly_those_of_the_scaled_image(tmp_path: Path) -> None:
    scaled = cv2.resize(SMOOTH, (60, 40), interpolation=cv2.INTER_AREA).astype(int)
    assert 0 < np.abs(_entry("jpeg", 40, tmp_path) - scaled).mean() < 3


@pytest.mark.parametrize("kind", CACHE_FORMATS)
@pytest.mark.parametrize("side", [60, 61, 1000])
def test_a_small_image_stays_as_it_is(tmp_path: Path, kind: str, side: int) -> None:
    assert np.array_equal(_entry(kind, side, tmp_path), SMOOTH)


def test_a_small_jpeg_is_not_encoded_again() -> None:
    data = cv2.imencode(".jpg", SMOOTH)[1].tobytes()
    assert entry_bytes(data, CACHE_FORMATS["jpeg"], 60) == data


@pytest.mark.parametrize("kind", CACHE_FORMATS)
@pytest.mark.parametrize("content", [b"", b"\1\0\0", b"no entry of any kind at all"], ids=["empty", "cut", "other"])
def test_what_is_no_entry_is_told_with_what_to_do(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / "entry").write_bytes(content)
    with pytest.raises(InputError, match=r"entry: not an entry of the pixel cache: .* Delete it"):
        CACHE_FORMATS[kind].read(tmp_path / "entry")


@pytest.mark.parametrize("kind", CACHE_FORMATS)
def test_a_missing_entry_is_told(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="No such file"):
        CACHE_FORMATS[kind].read(tmp_path / "entry")


def test_what_is_no_image_has_no_entry() -> None:
    assert entry_bytes(b"not an image", CACHE_FORMATS["raw"], 40) is None


def test_raw_and_jpeg_entries_of_photographs_differ_by_what_jpeg_costs(tmp_path: Path, shared_data: Path) -> None:
    with ZipFile(shared_data / "coco-mirror" / "zips" / "val2017.zip") as archive:
        for name in [name for name in archive.namelist() if name.endswith(".jpg")][:12]:
            data = archive.read(name)
            image = decode_image(data)
            assert image is not None
            pixels = [_entry(kind, 200, tmp_path, image).astype(int) for kind in ("raw", "jpeg")]
            assert min(pixels[0].shape[:2]) == 200
            assert np.abs(pixels[0] - pixels[1]).mean() < 4
