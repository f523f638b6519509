"""data/fixed from real annotations: what pycocotools reads, the same bytes every time, and a fixed point."""

import contextlib
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from support.rows import rows_of

from ssd_lib.annotations.coco import read_annotations
from ssd_lib.annotations.fix_annotations import fix_annotations, images_sha256, load_report
from ssd_lib.errors import InputError, StateError
from ssd_lib.manifest import Manifest, Part
from ssd_lib.params import FixParams

ONE_PX = FixParams(min_box_px=1.0)
SOUND: dict[str, Any] = {"unreadable": []}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_input_gives_the_same_bytes(mirror: Manifest, tmp_path: Path) -> None:
    for name in ("a", "b"):
        fix_annotations(mirror, SOUND, ONE_PX, tmp_path / name)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert sorted(bytes_of(tmp_path / "a")) == ["id_map.json", "labels.txt", "train.json", "train.npz", "val.json", "val.npz"]


def test_fixing_its_own_output_changes_no_byte(mirror: Manifest, tmp_path: Path) -> None:
    fix_annotations(mirror, SOUND, ONE_PX, tmp_path / "once")
    splits = {split: (Part(annotations=f"{split}.json"),) for split in ("train", "val")}
    again = mirror.model_copy(update={"root": str(tmp_path / "once"), "splits": splits})
    fix_annotations(again, SOUND, ONE_PX, tmp_path / "twice")
    assert bytes_of(tmp_path / "once") == bytes_of(tmp_path / "twice")


def test_pycocotools_reads_it_with_labels_from_1_to_80(mirror: Manifest, tmp_path: Path) -> None:
    fix_annotations(mirror, SOUND, ONE_PX, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "val.json"))
    assert sorted(coco.getCatIds()) == list(range(1, 81))
    assert (len(coco.imgs), len(coco.anns), len(coco.getAnnIds(iscrowd=True))) == (80, 815, 11)
    assert all((mirror.path(image["file_name"])).is_file() for image in coco.imgs.values())


def test_boxes_of_real_annotations_keep_their_class_by_name(mirror: Manifest, tmp_path: Path) -> None:
    fixed = fix_annotations(mirror, SOUND, ONE_PX, tmp_path)["train"]
    raw = read_annotations(mirror.path(mirror.splits["train"][0].annotations))
    before = {category.id: category.name for category in raw.categories}
    after = {category.id: category.name for category in fixed.categories}
    assert ({box.id: after[box.category_id] for box in rows_of(fixed).boxes}
            == {box.id: before[box.category_id] for box in rows_of(raw).boxes})


def test_labels_begin_with_the_background_and_ids_lead_both_ways(mirror: Manifest, tmp_path: Path) -> None:
    fix_annotations(mirror, SOUND, ONE_PX, tmp_path)
    lines = (tmp_path / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert (len(lines), lines[0], lines[1], lines[80]) == (81, "BACKGROUND", "person", "toothbrush")
    id_map = json.loads((tmp_path / "id_map.json").read_text(encoding="utf-8"))
    assert (id_map["to_source"]["80"], id_map["from_source"]["90"], id_map["to_source"]["12"]) == (90, 80, 13)
    assert {label: id_map["from_source"][str(source)] for label, source in id_map["to_source"].items()} == {
        str(label): label for label in range(1, 81)}


def test_unreadable_images_are_left_out_by_their_name_in_the_manifest(mirror: Manifest, tmp_path: Path) -> None:
    name = sorted(mirror.images("train"))[0]
    fixed = fix_annotations(mirror, {"unreadable": [name]}, ONE_PX, tmp_path)
    assert len(fixed["train"].images) == 79
    assert name not in fixed["train"].images.file_names


def test_new_bytes_of_any_image_change_the_fixed_annotations(mirror: Manifest, tmp_path: Path) -> None:
    fixed = fix_annotations(mirror, SOUND, ONE_PX, tmp_path)["val"]
    name = fixed.images.file_names[5]
    other = mirror.model_copy(update={"files": {**mirror.files, name: (mirror.files[name][0], "0" * 64)}})
    assert fixed.info["images_sha256"] == images_sha256(mirror, fixed) != images_sha256(other, fixed)


@pytest.mark.parametrize(("limit", "level"), [(0.5, logging.INFO), (0.001, logging.WARNING)])
def test_what_is_removed_is_said_with_its_reason(
        mirror: Manifest, tmp_path: Path, caplog: pytest.LogCaptureFixture, limit: float, level: int) -> None:
    with caplog.at_level(logging.INFO, logger="ssd_lib"):
        fix_annotations(mirror, {**SOUND, "max_bad_fraction": limit}, FixParams(min_box_px=10.0), tmp_path)
    train, val = caplog.records
    assert (train.levelno, val.levelno) == (level, level)
    assert re.fullmatch(r"train: removed \d+ of 705 boxes \(\d+\.\d%\): \d+ boxes because a side is below 10 px, or they "
                        r"are .*",
                        train.getMessage())


def test_nothing_left_is_refused_and_nothing_is_written(mirror: Manifest, tmp_path: Path) -> None:
    everything = {"unreadable": sorted(mirror.images("val"))}
    with pytest.raises(InputError, match="val: nothing is left of 80 images and 815 boxes but 0 images and no objects"):
        fix_annotations(mirror, everything, ONE_PX, tmp_path / "fixed")
    assert not (tmp_path / "fixed").exists()


def test_a_missing_or_incomplete_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"report\.json: not a report of validate"):
        load_report(tmp_path / "report.json")
    (tmp_path / "report.json").write_text('{"images": 3}', encoding="utf-8")
    with pytest.raises(StateError, match="`dvc repro --force --single-item validate` makes it"):
        load_report(tmp_path / "report.json")
