"""Pixel cache: entries are made once per content and are complete or absent; their sizes and pixels."""

import os
import pickle
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.processes import wait_until
from support.project import write_params

from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.data import pixel_cache as cache
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.pixel_cache import CACHE_FORMATS, CacheKind, cache_name, entry_bytes, entry_sizes, short_side
from ssd_lib.errors import InputError, StateError
from ssd_lib.files import sha256
from ssd_lib.images import decode_image
from ssd_lib.manifest import Manifest, Part

SIZE = 64  # of the net's input: entries have a short side of 86 px, the images of 80 to 120 px


@pytest.fixture
def project(small_set: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the small dataset, which is the current folder."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(small_set)
    return small_set


def _manifest(folder: Path) -> Manifest:
    files = {path.name: (path.stat().st_size, sha256(path)) for path in sorted(folder.glob("*.png"))}
    return Manifest(source="local", root=str(folder), splits={"train": (Part(),)}, files=files)


def _fixed() -> FixedSet:
    return load_fixed("train", Path("fixed"))


def _open(kind: CacheKind, folder: Path) -> Callable[[int], np.ndarray] | None:
    return cache.open_cache(kind, SIZE, _fixed(), _manifest(folder))


def _entries() -> list[Path]:
    return sorted(Path("data/cache").glob("*/[!.]*"))


@pytest.mark.parametrize("kind", CACHE_FORMATS)
def test_the_cache_returns_the_pixels_of_every_entry(project: Path, kind: CacheKind) -> None:
    pixels_of = _open(kind, project)
    assert pixels_of is not None
    for index in range(6):
        entry = entry_bytes((project / f"{index}.png").read_bytes(), CACHE_FORMATS[kind], short_side(SIZE))
        assert entry is not None
        (project / "expected").write_bytes(entry)
        assert np.array_equal(pixels_of(index), CACHE_FORMATS[kind].read(project / "expected"))


@pytest.mark.parametrize("kind", CACHE_FORMATS)
def test_sixteen_bits_of_another_range_are_other_entries(project: Path, kind: CacheKind) -> None:
    for index, side in enumerate((80, 200)):  # one that is kept as it is, and one that is made smaller
        cv2.imwrite(f"{index}.png", np.full((side, side), 2000, np.uint16))
    full = _open(kind, project)
    scaled = cache.open_cache(kind, SIZE, _fixed(), _manifest(project), (1000, 3000))
    assert full is not None
    assert scaled is not None
    for index in range(2):
        assert (full(index) == 2000 >> 8).all()
        assert (scaled(index) == 128).all()
    plain = DetectionDataset(_fixed(), project.joinpath, build_transform("none", SIZE), deep_range=(1000, 3000))
    assert (plain[0, 0].image == 128).all()


def test_a_sample_has_the_pixels_of_pixels_of(project: Path) -> None:
    dataset = DetectionDataset(_fixed(), project.joinpath, build_transform("none", SIZE), 1,
                               lambda index: np.full((30, 40, 3), index, dtype=np.uint8))
    assert [(dataset[0, index].image == index).all() for index in range(6)] == [True] * 6


def test_without_a_cache_nothing_is_written(project: Path) -> None:
    assert _open("none", project) is None
    assert not (project / "data").exists()


@pytest.mark.parametrize("preset", ["ssd", "ssdlite", "light", "none"])
def test_samples_from_the_cache_have_the_same_boxes(project: Path, preset: str) -> None:
    """Compared without crops, which are rounded to whole pixels of images of different sizes."""
    sets = [DetectionDataset(_fixed(), project.joinpath, build_transform(preset, SIZE), 1, pixels_of)
            for pixels_of in (None, _open("raw", project))]
    for index in range(6):
        original, cached = (dataset[0, index] for dataset in sets)
        assert cached.image.shape == original.image.shape
        if preset in ("light", "none"):
            np.testing.assert_allclose(cached.boxes, original.boxes, atol=1e-6)
            assert np.array_equal(cached.labels, original.labels)


@pytest.mark.parametrize("kind", CACHE_FORMATS)
def test_existing_entries_are_not_made_again_and_originals_are_not_read(project: Path, kind: CacheKind) -> None:
    manifest = _manifest(project)
    cache.open_cache(kind, SIZE, _fixed(), manifest)
    before = [(path, path.stat().st_mtime_ns) for path in _entries()]
    assert len(before) == 6
    for path in project.glob("*.png"):
        path.unlink()
    pixels_of = cache.open_cache(kind, SIZE, _fixed(), manifest)
    assert pixels_of is not None
    assert pixels_of(5).shape == (93, 86, 3)
    assert [(path, path.stat().st_mtime_ns) for path in _entries()] == before


def test_a_deleted_entry_is_made_again(project: Path) -> None:
    _open("jpeg", project)
    lost = _entries()[2]
    content = lost.read_bytes()
    lost.unlink()
    _open("jpeg", project)
    assert lost.read_bytes() == content


def test_a_changed_image_gets_a_new_entry(project: Path) -> None:
    _open("raw", project)
    cv2.imwrite("3.png", np.full((100, 120, 3), 77, dtype=np.uint8))
    pixels_of = _open("raw", project)
    assert pixels_of is not None
    assert (pixels_of(3) == 77).all()
    assert len(_entries()) == 7


def test_images_of_the_same_bytes_share_an_entry(project: Path) -> None:
    for index in (1, 2, 3):
        (project / f"{index}.png").write_bytes((project / "4.png").read_bytes())
    pixels_of = _open("raw", project)
    assert len(_entries()) == 3
    assert pixels_of is not None
    assert np.array_equal(pixels_of(1), pixels_of(4))


def test_the_main_repository_s_cache_is_used(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "copy").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(project / "copy"))
    _open("jpeg", project)
    assert len(list((project / "copy" / "data" / "cache" / cache_name("jpeg", SIZE)).iterdir())) == 6


def test_an_image_that_differs_from_the_manifest_is_refused(project: Path) -> None:
    manifest = _manifest(project)
    (project / "2.png").write_bytes((project / "1.png").read_bytes())
    with pytest.raises(StateError, match=r"2\.png: differs from the manifest.*dvc repro --force"):
        cache.open_cache("raw", SIZE, _fixed(), manifest)
    assert not _entries()


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"not an image"), Path.unlink], ids=["no image", "missing"])
def test_an_image_that_cannot_be_read_is_named(project: Path, spoil: Callable[[Path], object]) -> None:
    path = project / "4.png"
    files = _manifest(project).files
    spoil(path)
    manifest = _manifest(project)
    manifest = manifest.model_copy(update={"files": files | manifest.files})
    with pytest.raises(InputError, match=r"4\.png: (not an image|cannot be read)"):
        cache.open_cache("raw", SIZE, _fixed(), manifest)


def test_a_cache_larger_than_the_free_space_is_refused_at_the_start(project: Path) -> None:
    fixed = replace(_fixed(), sizes=np.full((6, 2), [80, 2_000_000_000], dtype=np.int64))
    with pytest.raises(StateError, match=r"raw-86-\d: 2880\.000 GB are needed for 6 images, .* GB are free.* set data\.cache"):
        cache.open_cache("raw", SIZE, fixed, _manifest(project))
    assert not _entries()


def test_a_disk_that_becomes_full_is_reported(project: Path) -> None:
    import resource
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StateError, match=r"cannot be written: File too large; existing entries are kept"):
            _open("raw", project)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


def test_the_expected_size_of_raw_entries_is_exact(project: Path) -> None:
    fixed, manifest = _fixed(), _manifest(project)
    file_bytes = np.array([manifest.files[fixed.file_name(index)][0] for index in range(6)])
    _open("raw", project)
    expected = cache.expected_bytes(CACHE_FORMATS["raw"], fixed.sizes, file_bytes, short_side(SIZE))
    assert expected == sum(path.stat().st_size for path in _entries())


def test_a_killed_process_leaves_complete_entries_and_the_next_one_keeps_them(project: Path,
                                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BATCH", 1)
    for index in range(6):  # large, so that the process is killed while it works
        cv2.imwrite(f"{index}.png", np.random.default_rng(index).integers(0, 256, (1500, 2000, 3), dtype=np.uint8))
    process = get_context("fork").Process(target=_open, args=("raw", project))
    process.start()
    wait_until(lambda: len(_entries()) >= 2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kept = {path: path.stat().st_mtime_ns for path in _entries()}
    assert 2 <= len(kept) < 6
    pixels_of = _open("raw", project)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert pixels_of is not None
    assert [pixels_of(index).shape for index in range(6)] == [(86, 115, 3)] * 6


def test_temporary_files_of_a_killed_process_are_deleted_later(project: Path) -> None:
    _open("raw", project)
    old, young = (_entries()[0].with_name(f".{name}.1.tmp") for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * cache.ABANDONED_S,) * 2)
    _open("raw", project)
    assert not old.exists()
    assert young.exists(), "another process may still write it"


def test_a_dataset_with_a_cache_can_be_pickled(project: Path) -> None:
    dataset = DetectionDataset(_fixed(), project.joinpath, build_transform("none", SIZE), 1, _open("raw", project))
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))[0, 3].image, dataset[0, 3].image)
    plain = DetectionDataset(_fixed(), project.joinpath, build_transform("none", SIZE), 1)
    assert np.array_equal(pickle.loads(pickle.dumps(plain))[0, 3].image, plain[0, 3].image)


def test_show_cache_describes_each_cache(project: Path) -> None:
    assert cache.show_cache(prune=False) == ["data/cache: empty; training fills it if data.cache is jpeg or raw"]
    _open("raw", project)
    _open("jpeg", project)
    jpeg, raw = cache.show_cache(prune=False)
    assert jpeg.startswith("data/cache/jpeg-86-2: 6 images, 0.000 GB")
    assert raw.startswith("data/cache/raw-86-2: 6 images, 0.000 GB")


def test_pruning_removes_entries_that_are_not_needed(project: Path) -> None:
    _open("jpeg", project)
    kept = _entries()
    cv2.imwrite("0.png", np.zeros((300, 300, 3), dtype=np.uint8))
    _open("raw", project)
    _open("jpeg", project)
    write_params(Path("params.yaml"), data__cache="jpeg", model__image_size=SIZE)
    _manifest(project).save()
    Path("fixed").rename("data/fixed")
    cache.show_cache(prune=True)
    assert len(_entries()) == 6
    assert len({*_entries()} & {*kept}) == 5, "the first image has changed"
    assert not Path("data/cache/raw-86-2").exists()
    write_params(Path("params.yaml"), data__cache="none", model__image_size=SIZE)
    cache.show_cache(prune=True)
    assert not list(Path("data/cache").iterdir())


def test_pruning_removes_nothing_without_params(project: Path) -> None:
    _open("raw", project)
    with pytest.raises(InputError, match=r"params\.yaml: missing"):
        cache.show_cache(prune=True)
    assert len(_entries()) == 6


SPOTS = np.random.default_rng(3).integers(0, 256, (3, 4, 3), dtype=np.uint8)
SMOOTH = cv2.resize(SPOTS, (90, 60), interpolation=cv2.INTER_CUBIC)
lengths = st.integers(1, 5000)


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _entry(kind: str, side: int, folder: Path, pixels: np.ndarray = SMOOTH) -> np.ndarray:
    """Return pixels after packing them into an entry and reading it."""
    content = entry_bytes(_png(pixels), CACHE_FORMATS[kind], side)
    assert content is not None
    (folder / "entry").write_bytes(content)
    return CACHE_FORMATS[kind].read(folder / "entry")


@given(lengths, lengths, st.integers(1, 2000))
def test_the_short_side_is_exact_and_the_long_side_is_rounded(height: int, width: int, side: int) -> None:
    new = entry_sizes(np.array([[height, width]]), side)[0]
    scale = min(1.0, side / min(height, width))
    assert new.min() == min(side, height, width)
    assert np.abs(new - scale * np.array([height, width])).max() <= 0.5 + 1e-9


def test_small_images_keep_their_size() -> None:
    assert entry_sizes(np.array([[400, 900], [399, 200], [480, 640]]), 400).tolist() == [[400, 900], [399, 200], [400, 533]]


def test_the_short_side_is_four_thirds_of_the_input_size_rounded_up() -> None:
    assert [short_side(size) for size in (300, 160, 64)] == [400, 214, 86]


def test_the_name_depends_on_everything_that_changes_the_pixels() -> None:
    assert len({cache_name("jpeg", 300), cache_name("raw", 300), cache_name("raw", 320)}) == 3


def test_raw_pixels_are_those_of_the_scaled_image(tmp_path: Path) -> None:
    assert np.array_equal(_entry("raw", 40, tmp_path), cv2.resize(SMOOTH, (60, 40), interpolation=cv2.INTER_AREA))


def test_jpeg_pixels_are_nearly_those_of_the_scaled_image(tmp_path: Path) -> None:
    scaled = cv2.resize(SMOOTH, (60, 40), interpolation=cv2.INTER_AREA).astype(int)
    assert 0 < np.abs(_entry("jpeg", 40, tmp_path) - scaled).mean() < 3


@pytest.mark.parametrize("kind", CACHE_FORMATS)
@pytest.mark.parametrize("side", [60, 61, 1000])
def test_a_small_image_is_not_changed(tmp_path: Path, kind: str, side: int) -> None:
    assert np.array_equal(_entry(kind, side, tmp_path), SMOOTH)


def test_a_small_jpeg_is_not_encoded_again() -> None:
    data = cv2.imencode(".jpg", SMOOTH)[1].tobytes()
    assert entry_bytes(data, CACHE_FORMATS["jpeg"], 60) == data


@pytest.mark.parametrize("kind", CACHE_FORMATS)
@pytest.mark.parametrize("content", [b"", b"\1\0\0", b"not an entry of any kind..."], ids=["empty", "cut", "other"])
def test_an_invalid_entry_is_reported_with_what_to_do(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / "entry").write_bytes(content)
    with pytest.raises(InputError, match=r"entry: not an entry of the pixel cache: .* Delete it"):
        CACHE_FORMATS[kind].read(tmp_path / "entry")


@pytest.mark.parametrize("kind", CACHE_FORMATS)
def test_a_missing_entry_is_reported(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="No such file"):
        CACHE_FORMATS[kind].read(tmp_path / "entry")


def test_a_file_that_is_not_an_image_has_no_entry() -> None:
    assert entry_bytes(b"not an image", CACHE_FORMATS["raw"], 40) is None


def test_raw_and_jpeg_entries_of_real_images_differ_by_the_jpeg_error(tmp_path: Path, shared_data: Path) -> None:
    with ZipFile(shared_data / "coco-mirror" / "zips" / "val2017.zip") as archive:
        for name in [name for name in archive.namelist() if name.endswith(".jpg")][:12]:
            data = archive.read(name)
            image = decode_image(data)
            assert image is not None
            pixels = [_entry(kind, 200, tmp_path, image).astype(int) for kind in ("raw", "jpeg")]
            assert min(pixels[0].shape[:2]) == 200
            assert np.abs(pixels[0] - pixels[1]).mean() < 4
