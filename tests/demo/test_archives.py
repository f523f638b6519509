"""The demo's archives: deterministic, laid out as COCO's are, with COCO's habits; boxes of what is visible."""

import json
import socket
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from scipy.ndimage import binary_fill_holes

from ssd_lib.demo import archives as demo
from ssd_lib.demo.archives import CATEGORIES, annotate, make_archives, outlines_of
from ssd_lib.demo.scenes import Corner, Layer, Place, Scene, Stack, lay, make_scene, project
from ssd_lib.demo.shapes import CLASSES, Look, Sprite
from ssd_lib.errors import StateError

ARCHIVES = ("zips/train2017.zip", "zips/val2017.zip", "annotations/annotations_trainval2017.zip")
SPLITS = ("train", "val")
LIGHT = np.array([0, -0.6, 0.8], np.float32)
WHITE = np.ones(3, np.float32)


class Split(NamedTuple):
    """One split, read back: its annotation document, and its files by name."""

    document: dict[str, Any]
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Split]:
    folder = tmp_path_factory.mktemp("demo")
    make_archives(folder, 48, 24)
    return {split: read_split(folder, split) for split in SPLITS}


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smallest")
    make_archives(folder, 4, 4)
    return folder


def read_split(folder: Path, split: str) -> Split:
    with zipfile.ZipFile(folder / "annotations" / "annotations_trainval2017.zip") as archive:
        document = json.loads(archive.read(f"annotations/instances_{split}2017.json"))
    with zipfile.ZipFile(folder / "zips" / f"{split}2017.zip") as archive:
        return Split(document, {name: archive.read(name) for name in archive.namelist()})


def decode(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def empty_stack() -> Stack:
    return Stack(np.zeros((120, 160, 3), np.float32), LIGHT)


def lay_thing(stack: Stack, name: str, place: Place, angle: float = 0.4) -> None:
    look = Look(WHITE, WHITE, LIGHT, np.random.default_rng(3))
    patch, corner = project(CLASSES[name](150, look), place, angle, 0.9)
    lay(stack, Sprite(np.ones_like(patch.colour), patch.alpha), corner, name, shadow=0.0)


def annotations(stack: Stack) -> list[dict[str, Any]]:
    return annotate(Scene(stack.canvas, stack.layers, []), image_id=5)


def block(height: int, width: int) -> Sprite:
    return Sprite(np.ones((height, width, 3), np.float32), np.ones((height, width), np.float32))


def test_the_same_numbers_give_the_same_bytes(smallest: Path, tmp_path: Path) -> None:
    make_archives(tmp_path, 4, 4)
    for name in ARCHIVES:
        assert (tmp_path / name).read_bytes() == (smallest / name).read_bytes()


def test_images_drawn_by_many_processes_are_those_of_one(splits: dict[str, Split], tmp_path: Path) -> None:
    make_archives(tmp_path, 2 * demo.WORTH_A_PROCESS, 4)
    drawn, alone = read_split(tmp_path, "train"), splits["train"]
    assert list(drawn.files)[:len(alone.files)] == list(alone.files)
    assert drawn.files.items() >= alone.files.items()
    assert drawn.document["annotations"][:len(alone.document["annotations"])] == alone.document["annotations"]


def test_a_image_does_not_depend_on_how_many_there_are(smallest: Path, splits: dict[str, Split]) -> None:
    for split in SPLITS:
        few, many = read_split(smallest, split), splits[split]
        assert few.files.items() < many.files.items()
        assert few.document["images"] == many.document["images"][:4]


def test_nothing_is_left_beside_the_archives(smallest: Path) -> None:
    found = {path.relative_to(smallest).as_posix() for path in smallest.rglob("*") if path.is_file()}
    assert found == set(ARCHIVES)


def test_no_network_is_touched(smallest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    make_archives(tmp_path, 1, 1)
    assert len(read_split(tmp_path, "train").files) == 1


def test_a_missing_photograph_is_named_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.PHOTOGRAPHS, "train", ("absent.png",))
    with pytest.raises(StateError, match=r"absent\.png: .*pip install --force-reinstall scikit-image"):
        make_archives(tmp_path, 4, 4)
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("split", SPLITS)
def test_every_image_is_a_jpeg_of_the_size_that_is_written_down(splits: dict[str, Split], split: str) -> None:
    document, files = splits[split]
    assert list(files) == [f"{split}2017/{image['file_name']}" for image in document["images"]]
    for image in document["images"]:
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        data = files[f"{split}2017/{image['file_name']}"]
        assert data[:2] == b"\xff\xd8"
        assert decode(data).shape[:2] == (image["height"], image["width"])


@pytest.mark.parametrize("split", SPLITS)
def test_four_images_already_show_every_habit_of_coco(smallest: Path, split: str) -> None:
    document, files = read_split(smallest, split)
    annotated = {annotation["image_id"] for annotation in document["annotations"]}
    assert [image["id"] in annotated for image in document["images"]] == [True, False, True, True]
    assert sum(annotation["iscrowd"] for annotation in document["annotations"]) == 1
    assert [decode(data).ndim for data in files.values()] == [3, 3, 3, 2]


def test_images_are_tall_and_wide(splits: dict[str, Split]) -> None:
    shapes = [(image["height"], image["width"]) for image in splits["train"].document["images"]]
    assert sum(height > width for height, width in shapes) >= 10
    assert sum(height < width for height, width in shapes) >= 10


def test_category_ids_have_holes(splits: dict[str, Split]) -> None:
    train, val = (splits[split].document["categories"] for split in SPLITS)
    ids = [category["id"] for category in train]
    assert train == val
    assert all(1 <= number <= 90 for number in ids)
    assert max(ids) > len(set(ids)) == len(ids) == 6
    assert all(category["name"] and category["supercategory"] for category in train)


def test_ids_are_unique_over_both_splits_and_have_holes(splits: dict[str, Split]) -> None:
    for kind in ("images", "annotations"):
        ids = [one["id"] for split in SPLITS for one in splits[split].document[kind]]
        assert len(set(ids)) == len(ids)
        assert max(ids) > 10 * len(ids)
    numbers = [one["id"] for one in splits["train"].document["annotations"]]
    assert numbers != sorted(numbers)


def test_every_annotation_belongs_to_an_image_and_a_category(splits: dict[str, Split]) -> None:
    for document, _ in splits.values():
        images = {image["id"] for image in document["images"]}
        categories = {category["id"] for category in document["categories"]}
        assert {annotation["image_id"] for annotation in document["annotations"]} < images
        assert {annotation["category_id"] for annotation in document["annotations"]} <= categories


def test_boxes_lie_inside_the_image_and_have_two_decimals(splits: dict[str, Split]) -> None:
    for document, _ in splits.values():
        sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
        for annotation in document["annotations"]:
            left, top, width, height = annotation["bbox"]
            assert min(left, top) >= 0
            assert min(width, height) > 4
            assert left + width <= sizes[annotation["image_id"]][0] + 0.005
            assert top + height <= sizes[annotation["image_id"]][1] + 0.005
            assert annotation["bbox"] == [round(float(side), 2) for side in annotation["bbox"]]


def test_pycocotools_reads_the_annotations(splits: dict[str, Split], tmp_path: Path) -> None:
    for split in SPLITS:
        path = tmp_path / f"{split}.json"
        path.write_text(json.dumps(splits[split].document), encoding="utf-8")
        coco = COCO(str(path))
        counts = Counter(one["iscrowd"] for one in coco.loadAnns(coco.getAnnIds()))
        assert min(counts[0], counts[1]) >= 2
        assert all(0 < one["area"] <= one["bbox"][2] * one["bbox"][3] for one in coco.loadAnns(coco.getAnnIds()))



def test_train_and_val_share_no_image_and_no_background(splits: dict[str, Split]) -> None:
    assert not set(splits["train"].files.values()) & set(splits["val"].files.values())
    assert not set(demo.PHOTOGRAPHS["train"]) & set(demo.PHOTOGRAPHS["val"])


def test_every_class_occurs_about_equally_often(splits: dict[str, Split]) -> None:
    annotations = [one for split in SPLITS for one in splits[split].document["annotations"] if not one["iscrowd"]]
    counts = Counter(one["category_id"] for one in annotations)
    assert len(counts) == 6
    assert max(counts.values()) < 2.5 * min(counts.values())


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("place", [Place(70.3, 60.8, 90.0), Place(8.0, 100.0, 60.0), Place(80.0, 60.0, 30.0)])
def test_a_box_is_tight_around_the_pixels_that_differ(name: str, place: Place) -> None:
    stack = empty_stack()
    lay_thing(stack, name, place)
    differs = stack.canvas[..., 0] > 0.5
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    left, top, width, height = annotations(stack)[0]["bbox"]
    drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose([left, top, left + width, top + height], drawn, atol=1.0)


def test_a_block_has_the_box_that_it_covers() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(40, 50), "star", shadow=0.0)
    (annotation,) = annotations(stack)
    assert annotation["bbox"] == [40.0, 50.0, 20.0, 30.0]
    assert annotation["area"] == 599.5  # 20 * 30, less an eighth of a pixel at each corner
    assert annotation["category_id"] == CATEGORIES["star"][0]


def test_what_lies_outside_the_image_is_in_no_box() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(-5, 100), "star", shadow=0.0)
    assert annotations(stack)[0]["bbox"] == [0.0, 100.0, 15.0, 20.0]
    assert stack.layers[0].visible_share == 0.5


def test_what_is_covered_is_in_no_box() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(40, 50), "star", shadow=0.0)
    lay(stack, block(10, 60), Corner(30, 50), "", shadow=0.0)
    assert annotations(Stack(stack.canvas, LIGHT, stack.layers[:1]))[0]["bbox"] == [40.0, 60.0, 20.0, 20.0]
    assert stack.layers[0].visible_share == pytest.approx(2 / 3)


def test_an_object_in_two_pieces_has_one_box_and_the_area_of_both() -> None:
    stack = empty_stack()
    lay(stack, block(30, 20), Corner(40, 50), "star", shadow=0.0)
    lay(stack, block(10, 60), Corner(30, 60), "", shadow=0.0)
    annotation = annotations(Stack(stack.canvas, LIGHT, stack.layers[:1]))[0]
    assert annotation["bbox"] == [40.0, 50.0, 20.0, 30.0]
    assert annotation["area"] == 399.0  # two blocks of 10 * 20, each less an eighth of a pixel at each corner


def test_a_hole_has_no_outline() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[5:35, 5:35] = 1
    alpha[15:25, 15:25] = 0
    (outline,) = outlines_of(alpha)
    assert outline.min() == 5
    assert outline.max() == 35


def test_a_crowd_is_one_box_around_all_visible_pixels() -> None:
    visible = np.zeros((4, 3), np.float32)
    visible[1:3, 0] = 1
    visible[0, 2] = 1
    crowd = [Layer("mug", visible, 3.0)]
    (annotation,) = annotate(Scene(np.zeros((4, 3, 3), np.uint8), [], crowd), image_id=7)
    assert annotation["bbox"] == [0.0, 0.0, 3.0, 3.0]
    assert annotation["id"] == 904400000007
    assert (annotation["area"], annotation["iscrowd"]) == (3, 1)


def test_boxes_and_areas_are_those_of_the_visible_pixels() -> None:
    kinds = Counter()
    background = np.full((400, 400, 3), 90, np.uint8)
    for seed in range(16):
        scene = make_scene([background], "crowd" if seed % 2 else "objects", np.random.default_rng(seed))
        masks = [binary_fill_holes(layer.visible > 0.5) for layer in scene.objects]
        if scene.crowd:
            masks.append(np.maximum.reduce([layer.visible for layer in scene.crowd]) > 0.5)
        for annotation, mask in zip(annotate(scene, 5), masks, strict=True):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            left, top, width, height = annotation["bbox"]
            visible = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            np.testing.assert_allclose([left, top, left + width, top + height], visible, atol=1.5)
            assert mask.sum() == pytest.approx(annotation["area"], rel=0.1, abs=20)
            kinds[annotation["iscrowd"]] += 1
    assert kinds[0] > 20
    assert kinds[1] == 8
