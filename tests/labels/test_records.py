"""What is written about suspects, in words, on the page and for annotation tools."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from support.made_up import Found, detections
from support.trained_project import SIZES

from ssd_lib.annotations.coco import parse_file, read_annotations
from ssd_lib.evaluate.external import open_external
from ssd_lib.labels.page import _summary, _tile
from ssd_lib.labels.records import MARK, Listed, Part, coco_tree, listed, records
from ssd_lib.labels.suspects import KINDS, find_suspects
from ssd_lib.report.elements import Table, Text

IMAGES = Path("data/raw/tiny")


@pytest.fixture
def part(project: Path) -> Part:
    """Return suspects of each kind: cat 42 is confirmed, 43 is a dog, 40 is shifted, 41 is nowhere, and one is missing."""
    boxes = {40: [10, 10, 20, 20], 41: [5, 60, 9, 9], 42: [1, 1, 20, 20], 43: [50, 10, 20, 20], 44: [80, 40, 15, 15]}
    rows = [{"id": number, "image_id": 70 if number > 41 else 71, "category_id": 7, "bbox": box, "area": 9,
             "iscrowd": int(number == 44)} for number, box in boxes.items()]
    path = project / "mine.json"
    path.write_text(json.dumps({
        "images": [{"id": 70 + i, "file_name": f"val/{i}.png", "width": w, "height": h} for i, (h, w) in enumerate(SIZES)],
        "annotations": rows[::-1], "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]}))
    dataset = open_external(path, IMAGES, ("cat", "dog"))
    cat, dog = (dataset.label_of[label] for label in (1, 2))
    found = detections(Found(0.8, 0, (1, 1, 21, 21), cat), Found(0.7871, 0, (50, 10, 70, 30), dog),
                       Found(0.8, 1, (20, 10, 40, 30), cat), Found(0.7, 2, (10, 10, 30, 30), dog))
    return Part("mine", path, read_annotations(path), dataset, found, find_suspects(dataset.fixed, found, 4))


def test_a_record_says_what_is_annotated_and_what_is_seen(part: Part) -> None:
    rows = {row.kind: row for row in records(part)}
    assert rows["wrong class"]._asdict() == {
        "split": "mine", "kind": "wrong class", "score": 0.9968, "cause": "labelled cat, dog 0.79 is seen",
        "file_name": "val/0.png", "image_id": 70, "annotation_id": 43, "label": "cat", "label_box": [50, 10, 20, 20],
        "detected": "dog", "detector_score": 0.7871, "box": [50, 10, 20, 20]}
    shifted, spurious, missing = (rows[kind] for kind in ("loose or shifted box", "spurious box", "missing box"))
    assert (shifted.annotation_id, shifted.box) == (40, [20, 10, 20, 20])
    assert shifted.cause == "labelled cat, cat 0.80 is seen with another box, IoU 0.33"
    assert (spurious.annotation_id, spurious.detected, spurious.detector_score, spurious.box) == (41, None, None, None)
    assert spurious.cause == "labelled cat, nothing like it is seen"
    assert (missing.annotation_id, missing.label, missing.label_box) == (None, None, None)
    assert missing.cause == "dog 0.70 is seen where nothing is labelled"


def test_the_coco_file_has_the_annotations_of_the_images_and_a_box_for_each_suspect(part: Part, tmp_path: Path) -> None:
    rows = [row for row in records(part) if row.image_id != 70]
    tree = coco_tree(part.raw, rows)
    (tmp_path / "out.json").write_text(json.dumps(tree))
    coco = COCO(str(tmp_path / "out.json"))
    names = {number: row["name"] for number, row in coco.cats.items()}
    assert [(row["id"], row["height"], row["width"]) for row in tree["images"]] == [(71, *SIZES[1]), (72, *SIZES[2])]
    own = [row for row in tree["annotations"] if row["id"] <= 44]
    assert {row["id"] for row in own} == {40, 41}
    assert all(names[row["category_id"]] == "cat" and "score" not in row for row in own)
    marks = [row for row in tree["annotations"] if row["id"] > 44]
    assert [names[row["category_id"]] for row in marks] == [MARK + row.kind for row in rows]
    assert [(row["score"], row["attributes"]) for row in marks] == [
        (row.score, {"rank": rank, "cause": row.cause}) for rank, row in enumerate(rows, start=1)]
    assert [row["bbox"] for row in marks] == [row.box or row.label_box for row in rows]
    assert len({row["id"] for row in tree["annotations"]}) == 5
    assert all(row["area"] == row["bbox"][2] * row["bbox"][3] for row in tree["annotations"])
    crowds = replace(part.raw, boxes=replace(part.raw.boxes, is_crowd=part.raw.boxes.ids == 40))
    assert [row["id"] for row in coco_tree(crowds, rows)["annotations"] if row["iscrowd"]] == [40]
    assert [names[number] for number in sorted(names)] == ["dog", "cat", *(MARK + kind for kind in KINDS)]
    assert len(parse_file((tmp_path / "out.json").read_bytes(), "out.json").boxes) == 5


def test_of_several_annotations_of_an_id_the_first_is_named(part: Part) -> None:
    boxes = part.raw.boxes.take(np.array([*range(5), part.raw.boxes.ids.tolist().index(43)]))
    again = replace(boxes, xywh=np.concatenate([boxes.xywh[:5], [[1, 2, 3, 4]]]))
    row = next(row for row in records(part._replace(raw=replace(part.raw, boxes=again))) if row.annotation_id == 43)
    assert row.label_box == [50, 10, 20, 20]


def test_the_page_shows_a_suspect_among_the_labels_of_its_image_and_close_up(part: Part) -> None:
    found = listed([part], 9)
    tiles = {one.record.kind: _tile(rank, one) for rank, one in enumerate(found, start=1)}
    assert [tile.name.partition(",")[0] for tile in tiles.values()] == [
        f"{rank}. {one.record.kind}" for rank, one in enumerate(found, start=1)]
    marks = {kind: [[(mark.name, mark.tone, mark.is_faulty, *mark.xywh) for mark in thumbnail.marks]
                    for thumbnail in tile.thumbnails] for kind, tile in tiles.items()}
    assert marks["wrong class"] == [  # the close-up begins at (36, 0)
        [("cat", "box", True, 50, 10, 20, 20), ("cat", "box", False, 1, 1, 20, 20),
         ("cat", "crowd", False, 80, 40, 15, 15)],
        [("cat", "missed", False, 14, 10, 20, 20), ("dog", "right", False, 14, 10, 20, 20)]]
    assert marks["loose or shifted box"] == [  # at (1, 0)
        [("cat", "box", True, 10, 10, 20, 20), ("cat", "box", False, 5, 60, 9, 9)],
        [("cat", "missed", False, 9, 10, 20, 20), ("cat", "right", False, 19, 10, 20, 20)]]
    assert marks["missing box"] == [[("", "box", True, 10, 10, 20, 20)], [("dog", "right", False, 10, 10, 20, 20)]]
    other = part._replace(name="other")
    text, _, table = _summary([part, other], [*found, *listed([other], 1)]).elements
    assert isinstance(text, Text)
    assert isinstance(table, Table)
    assert text.text == "5 suspects among 8 labels of 6 images."
    assert [row[:3] for row in table.rows] == [(kind, "1", str(int(kind == found[0].record.kind))) for kind in KINDS]


def test_several_parts_are_one_list_by_score(part: Part) -> None:
    found = listed([part, part._replace(name="other")], 5)
    assert [one.record.score for one in found] == sorted((one.record.score for one in found), reverse=True)
    assert {one.record.split for one in found} == {"mine", "other"}
    assert len(found) == 5
    assert all(isinstance(one, Listed) and one.part.suspects.scores[one.at] == pytest.approx(one.record.score, abs=1e-4)
               for one in found)


def test_boxes_refer_to_the_pixels_of_the_annotation_file_where_the_image_is_turned(part: Part) -> None:
    turned = part._replace(dataset=part.dataset._replace(turns={"val/0.png": 3}))  # by half a turn
    row = next(row for row in records(turned) if row.kind == "wrong class")
    height, width = SIZES[0]
    assert row.box == [width - 70, height - 30, 20, 20]
    assert np.array_equal(row.label_box, [50, 10, 20, 20])  # as the file has it
