"""One dataset in four formats is one dataset; several are one by the names of their classes."""

import json
import re
from pathlib import Path

import pytest
from support.folders import plant, run
from support.four_formats import WRITERS, Row, image_rows_of_val, write_files
from support.project import data_params
from support.rows import Rows, flat, rows_of

from ssd_lib.annotations.fix_annotations import fix_annotations
from ssd_lib.annotations.read import join_parts, only_classes, read_splits
from ssd_lib.annotations.table import Annotations, Box, Category, Image
from ssd_lib.download.local import local
from ssd_lib.errors import InputError
from ssd_lib.manifest import Manifest
from ssd_lib.params import FixParams, RuntimeParams
from ssd_lib.validation.validate import validate

COUNTS = {"train": 16, "validation": 8}  # 24 images
RUNTIME = RuntimeParams.model_construct(workers=0)


@pytest.fixture(scope="session")
def images(mirror: Manifest) -> dict[str, list[Row]]:
    """Return real images in two splits."""
    rows = sorted(image_rows_of_val(mirror), key=lambda row: -sum(box[5] for box in row["boxes"]))  # some crowds are among them
    parts = (rows[:16], rows[16:24])
    return {split: sorted(part, key=lambda row: row["name"]) for split, part in zip(COUNTS, parts, strict=True)}


def write_set(root: Path, form: str, images: dict[str, list[Row]], crowds: bool = True) -> Manifest:
    """Write the images in a format, with or without their crowds; return their manifest."""
    write_files(root, form, {split: [{**row, "boxes": [box for box in row["boxes"] if crowds or not box[5]]} for row in rows]
                             for split, rows in images.items()})
    return local(data_params(source="local", paths=[str(root)]), RUNTIME)


def fixed_bytes(manifest: Manifest, folder: Path) -> dict[str, bytes]:
    """Return what validate and fix_annotations make of it."""
    report = validate(manifest, data_params(max_bad_fraction=0), RUNTIME, folder / "report.json")
    assert report["bad_images"] == report["bad_boxes"] == 0
    fix_annotations(manifest, report, FixParams(min_box_px=1.0), folder / "fixed")
    return {path.name: path.read_bytes() for path in (folder / "fixed").iterdir()}


@pytest.mark.parametrize("form", ["voc", "open_images"])
def test_the_same_images_give_the_same_bytes_in_every_format(
        images: dict[str, list[Row]], tmp_path: Path, form: str) -> None:
    coco = write_set(tmp_path / "a", "coco", images)
    other = write_set(tmp_path / "b", form, images)
    assert other.splits["train"][0].format == form
    assert fixed_bytes(coco, tmp_path / "a_out") == fixed_bytes(other, tmp_path / "b_out")


def test_yolo_gives_the_same_bytes_but_for_crowds_which_it_cannot_say_and_classes_that_it_counts_from_0(
        images: dict[str, list[Row]], tmp_path: Path) -> None:
    coco = fixed_bytes(write_set(tmp_path / "a", "coco", images, crowds=False), tmp_path / "a_out")
    yolo = fixed_bytes(write_set(tmp_path / "b", "yolo", images, crowds=False), tmp_path / "b_out")
    assert coco["labels.txt"] == yolo["labels.txt"]
    for name in ("train.json", "val.json"):
        counted_from_0 = re.sub(r'(?<="source_id":)\d+', lambda number: str(int(number[0]) - 1), coco[name].decode())
        assert counted_from_0 == yolo[name].decode()


def test_sets_of_several_formats_become_one_by_class_name(images: dict[str, list[Row]], tmp_path: Path) -> None:
    for form in WRITERS:
        write_set(tmp_path / form, form, images, crowds=False)
    paths = [str(tmp_path / form) for form in WRITERS]
    joined = join_parts(read_splits(local(data_params(source="local", paths=paths), RUNTIME)))
    one = join_parts(read_splits(local(data_params(source="local", paths=paths[:1]), RUNTIME)))
    for split in ("train", "val"):
        single, whole = rows_of(one[split]), rows_of(joined[split])
        assert len(whole.images) == len({image.id for image in whole.images}) == 4 * len(single.images)
        assert [category.name for category in whole.categories] == [category.name for category in single.categories]
        assert [box[2:7] for box in whole.boxes] == [box[2:7] for box in single.boxes] * 4
        assert len({box.id for box in whole.boxes}) == len(whole.boxes)


PETS = Rows(
    (Image(1, "a.jpg", 9, 9), Image(2, "b.jpg", 9, 9), Image(3, "c.jpg", 9, 9)),
    (Box(1, 1, 3, 0, 0, 2, 2, 4, False), Box(2, 1, 5, 0, 0, 3, 3, 9, False), Box(3, 2, 5, 0, 0, 4, 4, 16, False)),
    (Category(3, "cat", 3), Category(5, "dog", 5)), {})


def pets(names: list[str]) -> Annotations:
    return only_classes(flat(PETS), names)


def test_with_some_classes_alone_images_of_others_go_and_images_of_nothing_stay() -> None:
    cats = rows_of(pets(["cat"]))
    assert cats == PETS._replace(images=(PETS.images[0], PETS.images[2]), boxes=PETS.boxes[:1], categories=PETS.categories[:1])
    assert rows_of(pets(["cat", "dog"])) == PETS


@pytest.mark.parametrize("form", WRITERS)
def test_with_some_classes_alone_the_same_images_stay_in_every_format(
        images: dict[str, list[Row]], tmp_path: Path, form: str) -> None:
    whole = write_set(tmp_path, form, images, crowds=False)
    seen = validate(whole.model_copy(update={"classes": ("person",)}), data_params(max_bad_fraction=0), RUNTIME,
                    tmp_path / "out" / "report.json")
    classes = [{box[0] for box in row["boxes"] if not box[5]} for rows in images.values() for row in rows]
    expected = sum(not names or "person" in names for names in classes)
    assert (seen["images"], seen["warnings"]) == (expected, 0)
    assert expected < 24


def test_an_unknown_class_lists_the_known_ones_and_the_nearest(images: dict[str, list[Row]], tmp_path: Path) -> None:
    manifest = write_set(tmp_path, "voc", images)
    assert read_splits(manifest.model_copy(update={"classes": ("person",)}))["val"][0].annotations.categories == (
        *(category for category in read_splits(manifest)["val"][0].annotations.categories if category.name == "person"),)
    with pytest.raises(InputError, match=r"no class 'Person' \(did you mean 'person'\?\), 'Qx'\. It has "):
        read_splits(manifest.model_copy(update={"classes": ("Person", "person", "Qx")}))


def test_too_many_classes_are_refused_by_the_file_that_has_them(tmp_path: Path) -> None:
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 30_001)]
    rows = {"images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}], "annotations": [], "categories": categories}
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.jpg").touch()
        (tmp_path / split / "boxes.json").write_text(json.dumps(rows))
    manifest = local(data_params(source="local", paths=[str(tmp_path)]), RUNTIME)
    with pytest.raises(InputError, match=r"boxes\.json: 30000 classes; at most 20000 are allowed"):
        read_splits(manifest)


@pytest.mark.parametrize("name", ['"\\ud800"', "n" * 1001])
def test_a_class_name_that_no_file_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    labels = {f"labels/{split}/{split}.txt": "0 0.5 0.5 0.2 0.2\n" for split in ("train", "val")}
    plant(tmp_path, *(f"images/{split}/{split}.jpg" for split in ("train", "val")),
          texts={"data.yaml": f"names: [{name}]\n", **labels})
    with pytest.raises(InputError, match=r"the class '.*': its name has \d+ characters; at most 1000 are allowed"):
        read_splits(run(tmp_path))
