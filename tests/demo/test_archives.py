"""The demo's archives: deterministic, laid out as COCO's are, with COCO's habits."""

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

from ssd_lib.demo import archives as demo
from ssd_lib.demo.archives import make_archives
from ssd_lib.errors import StateError

ARCHIVES = ("zips/train2017.zip", "zips/val2017.zip", "annotations/annotations_trainval2017.zip")
SPLITS = ("train", "val")


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


def test_the_same_numbers_give_the_same_bytes(smallest: Path, tmp_path: Path) -> None:
    make_archives(tmp_path, 4, 4)
    for name in ARCHIVES:
        assert (tmp_path / name).read_bytes() == (smallest / name).read_bytes()


def test_pictures_drawn_by_many_processes_are_those_of_one(splits: dict[str, Split], tmp_path: Path) -> None:
    make_archives(tmp_path, 2 * demo.WORTH_A_PROCESS, 4)
    drawn, alone = read_split(tmp_path, "train"), splits["train"]
    assert list(drawn.files)[:len(alone.files)] == list(alone.files)
    assert drawn.files.items() >= alone.files.items()
    assert drawn.document["annotations"][:len(alone.document["annotations"])] == alone.document["annotations"]


def test_a_picture_does_not_depend_on_how_many_there_are(smallest: Path, splits: dict[str, Split]) -> None:
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
def test_four_pictures_already_show_every_habit_of_coco(smallest: Path, split: str) -> None:
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


@pytest.mark.parametrize("split", SPLITS)
def test_pycocotools_draws_masks_that_fill_the_boxes(splits: dict[str, Split], split: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(splits[split].document), encoding="utf-8")
    coco = COCO(str(path))
    kinds = Counter()
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top, width, height = annotation["bbox"]
        drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(drawn, [left, top, left + width, top + height], atol=1.5)
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.1, abs=20)
        kinds[annotation["iscrowd"]] += 1
    assert min(kinds[0], kinds[1]) >= 2


def test_train_and_val_share_no_picture_and_no_background(splits: dict[str, Split]) -> None:
    assert not set(splits["train"].files.values()) & set(splits["val"].files.values())
    assert not set(demo.PHOTOGRAPHS["train"]) & set(demo.PHOTOGRAPHS["val"])


def test_every_class_occurs_about_equally_often(splits: dict[str, Split]) -> None:
    annotations = [one for split in SPLITS for one in splits[split].document["annotations"] if not one["iscrowd"]]
    counts = Counter(one["category_id"] for one in annotations)
    assert len(counts) == 6
    assert max(counts.values()) < 2.5 * min(counts.values())


def test_a_crowd_is_one_annotation_of_several_objects(splits: dict[str, Split]) -> None:
    for document, _ in splits.values():
        sizes = {image["id"]: [image["height"], image["width"]] for image in document["images"]}
        for crowd in (one for one in document["annotations"] if one["iscrowd"]):
            runs = crowd["segmentation"]
            assert runs["size"] == sizes[crowd["image_id"]]
            assert sum(runs["counts"]) == runs["size"][0] * runs["size"][1]
            assert sum(runs["counts"][1::2]) == crowd["area"]
