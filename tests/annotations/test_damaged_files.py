"""Every file that the search for a dataset reads, damaged: a dataset is found, or an error of ours names the place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.damage import damaged, fault_of
from support.folders import plant
from support.project import data_params

from ssd_lib.annotations import coco_files, open_images_files, voc_files, yolo_files
from ssd_lib.annotations.listing import DatasetListing

DATA = data_params()
PAIRS = ("train/a.jpg", "train/a.txt", "val/b.jpg", "val/b.txt")
VOC = ("JPEGImages/a.jpg", "Annotations/a.xml", "JPEGImages/b.jpg", "Annotations/b.xml")
LISTED = ("set/a.jpg", "set/a.txt", "set/b.jpg", "set/b.txt", "val.txt", "classes.txt")
TABLES = ("train-annotations-bbox.csv", "validation-annotations-bbox.csv")


TEXTS = {"val.json": '{"images": [{"file_name": "b.jpg"}]}', "val.txt": "set/b.jpg", "classes.txt": "cat\n",
          TABLES[1]: "ImageID,ClassName"}


class Case(NamedTuple):
    """A file: its name and its sound content, the others around it, and who reads it."""

    file: str
    content: bytes
    others: tuple[str, ...]
    find: Callable[[Path, frozenset[str], Any], DatasetListing]


def add_class_names(root: Path, names: frozenset[str], data: Any) -> DatasetListing:
    return voc_files.add_class_names(root, names, "", DatasetListing({}))


CASES = [
    Case("data.yaml", b"path: ../set\ntrain: train\nval: [val, ./val]\nnc: 2\nnames: {0: cat, 1: 'dog'}\n",
         PAIRS, yolo_files.find),
    Case("data.yaml", b"names: [cat, dog]\ntrain: train/\nval: ../val\nday: 2020-01-01 10:00:00 +01:00\ntags: !!set {a, b}\n",
         PAIRS, yolo_files.find),
    Case("classes.txt", b"cat\r\ndog\nteddy bear\n", PAIRS, yolo_files.find),
    Case("train.txt", b"set/a.jpg\n./set/a.jpg\nC:\\data\\set\\a.jpg\n", LISTED, yolo_files.find),
    Case("ImageSets/Main/train.txt", b"a 1\n/data/JPEGImages/b.jpg  1\n", VOC, voc_files.find),
    Case("labels.txt", b"cat,dog,teddy bear\n", (), add_class_names),
    Case("labelmap.txt", b"# label:colour:parts:actions\ncat:1,2,3::\nbackground:0,0,0::\n", (), add_class_names),
    Case("train.json", b'{"images": [{"file_name": "\xc3\xa4.jpg", "id": 1}, {"file_name": "a.jpg"}], "annotations": []}',
         ("train/a.jpg", "val/b.jpg", "val.json"), coco_files.find),
    Case("class-descriptions-boxable.csv", b'/m/01,Cat\n/m/02,"Dog, wild"\n', (*TABLES, "train/a.jpg", "validation/b.jpg"),
         open_images_files.find),
    Case(TABLES[0], b"ImageID,ClassName,XMin,XMax,YMin,YMax\na,Cat,0.1,0.2,0.3,0.4\n", (
        TABLES[1], "train/a.jpg", "validation/b.jpg"), open_images_files.find),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_no_damage_makes_the_search_itself_fail(tmp_path_factory: pytest.TempPathFactory, case: Case) -> None:
    root = plant(tmp_path_factory.mktemp("damage"), *set(case.others).difference(TEXTS), texts=TEXTS)
    names = frozenset((case.file, *case.others))

    def search(data: bytes, where: str) -> DatasetListing:
        plant(root, texts={case.file: data})
        return case.find(root, names, DATA)

    @given(damaged(case.content) | st.binary(max_size=40))
    def read(data: bytes) -> None:
        assert not fault_of(search, data, str(root))

    assert search(case.content, "")
    read()
