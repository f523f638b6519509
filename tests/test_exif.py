"""EXIF orientation: read from every format and turned as Pillow's `exif_transpose` does; boxes follow their pixels."""

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps
from support.corruptions import png_chunk
from support.folders import run
from support.four_formats import write_files
from support.project import data_params, runtime_params

from ssd_lib.annotations.fix_annotations import fix_annotations, load_report
from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.data.augment import build_transform
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.pixel_cache import CACHE_FORMATS, entry_bytes
from ssd_lib.exif import EXIF_ORIENTATION, INVERSE, read_orientation, turn_boxes, turn_pixels, turn_sizes
from ssd_lib.images import decode_image, read_sizes
from ssd_lib.params import FixParams
from ssd_lib.validation.validate import validate

LOSSY = 3  # mean difference of the decoders of JPEG
OPTIONS: dict[str, dict[str, object]] = {"JPEG": {"quality": 95}, "MPO": {"quality": 95}, "PNG": {}, "TIFF": {},
                                         "WEBP": {"lossless": True}}


def tiles() -> Pillow.Image:
    """Return an image of 128 x 80 pixels, 8 x 5 tiles of different colours."""
    colours = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    return Pillow.fromarray(colours.repeat(16, 0).repeat(16, 1))


def encode(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    tiles().save(file, kind, **OPTIONS[kind], **options)
    return file.getvalue()


def exif(orientation: int, *, order: str = "<", kind: int = 3) -> bytes:
    """Return EXIF data with one entry; `kind` is the type of its value, SHORT or LONG."""
    value = struct.pack(f"{order}H2x" if kind == 3 else f"{order}I", orientation)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 1)
    return head + struct.pack(f"{order}HHI", EXIF_ORIENTATION, kind, 1) + value + bytes(4)


def turned(kind: str, orientation: int) -> bytes:
    found = Pillow.Exif()
    found[EXIF_ORIENTATION] = orientation
    return encode(kind, exif=found)


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_and_sizes_are_upright_as_pillow_shows_them(tmp_path: Path, kind: str, orientation: int) -> None:
    data = turned(kind, orientation)
    image = Pillow.open(io.BytesIO(data))
    image.load()
    upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    pixels = decode_image(data)
    assert pixels.shape == upright.shape == ((80, 128, 3) if orientation < 5 else (128, 80, 3))
    assert np.abs(pixels - upright).mean() <= LOSSY
    (tmp_path / "a").write_bytes(data)
    assert read_sizes([tmp_path / "a"]).tolist() == [list(pixels.shape[1::-1])]
    assert read_orientation(data) == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_follows_its_pixels_and_back(orientation: int) -> None:
    mask = np.zeros((80, 128), np.uint8)
    mask[20:35, 10:40] = 1
    rows, columns = np.nonzero(turn_pixels(mask, orientation))
    boxes, sizes = np.array([[10.0, 20, 30, 15]]), np.array([[128, 80]])
    found = turn_boxes(boxes, sizes, orientation)
    assert found.tolist() == [[columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]]
    back = turn_boxes(found, turn_sizes(sizes, orientation), INVERSE.get(orientation, orientation))
    assert back.tolist() == boxes.tolist()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_both_byte_orders_and_number_types_are_read(order: str, kind: int) -> None:
    assert read_orientation(encode("JPEG", exif=b"Exif\0\0" + exif(6, order=order, kind=kind))) == 6
    assert read_orientation(encode("WEBP", exif=exif(8, order=order, kind=kind))) == 8


def test_a_png_has_its_orientation_before_or_after_its_pixels() -> None:
    data = encode("PNG")
    end = data.index(b"IEND") - 4
    for at in (33, end):
        turned_png = data[:at] + png_chunk(b"eXIf", exif(6)) + data[at:]
        assert (read_orientation(turned_png), decode_image(turned_png).shape) == (6, (128, 80, 3))


def test_the_first_of_two_exif_segments_counts() -> None:
    def segment(orientation: int) -> bytes:
        content = b"Exif\0\0" + exif(orientation)
        return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    data = encode("JPEG")
    assert read_orientation(data[:2] + segment(6) + segment(1) + data[2:]) == 6
    assert read_orientation(data[:2] + segment(1) + segment(6) + data[2:]) == 1


@pytest.mark.parametrize("data", [
    b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8" + b"\xff" * 50, b"\xff\xd8" + b"\xff\xe1\0\0" * 50_000, b"\x89PNG\r\n\x1a\n",
    b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf", b"RIFF\0\0\0\0WEBPEXIF", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"BM", b"GIF89a",
    encode("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), encode("JPEG", exif=b"Exif\0\0" + exif(9)),
    encode("JPEG", exif=b"Exif\0\0" + exif(0)), encode("JPEG", xmp=b'<a tiff:Orientation="6"/>')])
def test_damaged_or_other_data_are_upright(data: bytes) -> None:
    assert read_orientation(data) == 1


def write_set(root: Path, form: str, orientations: dict[str, int], as_stored: set[str]) -> None:
    """Write a dataset of black images with one white box each; the labels of `as_stored` refer to the stored pixels."""
    stored_box, stored_size = np.array([[10.0, 20, 30, 15]]), np.array([[128, 80]])
    pixels = np.zeros((80, 128, 3), np.uint8)
    pixels[20:35, 10:40] = 255
    rows = []
    for name, orientation in orientations.items():
        seen = 1 if name in as_stored else orientation
        found = Pillow.Exif()
        found[EXIF_ORIENTATION] = orientation
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels[0, 0] = len(rows)  # no two images are the same
        Pillow.fromarray(pixels).save(root / name, "JPEG" if name.endswith("jpg") else "PNG", exif=found)
        (width, height), = turn_sizes(stored_size, seen).tolist()
        box = turn_boxes(stored_box, stored_size, seen)[0].astype(int).tolist()
        rows.append({"name": name, "width": width, "height": height, "boxes": [("white", *box, False)], "file": root / name})
    write_files(root / "set", form, {"train": rows, "validation": rows[:1]})


def fixed_set(root: Path) -> tuple[DetectionDataset, dict[str, list[str]]]:
    """Return the training images as training reads them, and the faults of `validate`, with their texts."""
    manifest = run(root / "set")
    report_path = root / "reports" / "validation.json"
    validate(manifest, data_params(max_bad_fraction=0.0), runtime_params(workers=0), report_path)
    fix_annotations(manifest, load_report(report_path), FixParams(min_box_px=1.0), root / "fixed")
    faults = {fault["kind"]: fault["first"] for fault in json.loads(report_path.read_bytes())["faults"]}
    return DetectionDataset(load_fixed("train", root / "fixed"), manifest.path, build_transform("none", 160)), faults


def assert_boxes_are_white(fixed: FixedSet, pixels_of: list[np.ndarray]) -> None:
    for index, (pixels, (left, top, right, bottom)) in enumerate(zip(pixels_of, fixed.boxes.astype(int), strict=True)):
        assert pixels.shape[:2] == tuple(fixed.sizes[index])
        assert pixels[top:bottom, left:right].min() > 128, fixed.file_name(index)
        assert (pixels > 128).all(axis=2).sum() == 30 * 15


ORIENTATIONS = {f"{number}{suffix}": number for number in range(1, 9) for suffix in (".jpg", "b.png")}


@pytest.mark.parametrize("form", ["coco", "voc", "yolo", "open_images"])
def test_boxes_on_upright_images_fit_in_training_and_in_the_cache(tmp_path: Path, form: str) -> None:
    write_set(tmp_path, form, ORIENTATIONS, set())
    dataset, faults = fixed_set(tmp_path)
    assert_boxes_are_white(dataset.fixed, [dataset.pixels_of(index) for index in range(16)])
    entries = [entry_bytes(dataset.path_of(dataset.fixed.file_name(index)).read_bytes(), CACHE_FORMATS["jpeg"], 200)
               for index in range(16)]
    assert_boxes_are_white(dataset.fixed, [pixels for entry in entries if (pixels := decode_image(entry or b"")) is not None])
    assert faults.keys() - {"train_val_leak"} == {"exif_rotated"}


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_boxes_on_stored_images_are_turned_where_the_stated_size_says_so(tmp_path: Path, form: str) -> None:
    turned_names = {f"{number}.jpg": number for number in (5, 6, 7, 8)}
    write_set(tmp_path, form, {"1.jpg": 1, **turned_names}, set(turned_names))
    dataset, faults = fixed_set(tmp_path)
    assert_boxes_are_white(dataset.fixed, [dataset.pixels_of(index) for index in range(5)])
    assert faults.keys() - {"train_val_leak"} == {"labels_as_stored"}
    assert 'x="45" y="10" width="15" height="30"' in (tmp_path / "reports" / "validation.html").read_text()


@pytest.mark.parametrize("form", ["coco", "voc"])
def test_a_mixture_of_both_is_told_and_each_is_read_as_its_labels_say(tmp_path: Path, form: str) -> None:
    write_set(tmp_path, form, {"1.jpg": 1, "5.jpg": 5, "6.jpg": 6, "8.jpg": 8}, {"6.jpg", "8.jpg"})
    dataset, faults = fixed_set(tmp_path)
    assert_boxes_are_white(dataset.fixed, [dataset.pixels_of(index) for index in range(4)])
    assert faults["mixed_orientations"][0].startswith("train: of the images that EXIF turns, the labels of 2 state the size as "
                                                      "stored (train/6.jpg), those of 1 the upright size")
