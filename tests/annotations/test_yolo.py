"""The YOLO format: boxes become pixels, a broken file is named with its line and never stops the others."""

import math
import random
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.damage import damaged, fault_of
from support.folders import run
from support.label_sets import add_image, add_text, manifest_of, named_boxes

from ssd_lib.annotations.table import Category, ParsedPart
from ssd_lib.annotations.yolo import YoloRow, parse_file, read_parts
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part

SOUND = b"0 0.5 0.5 0.2 0.4\n15\t0.25  0.25 0.1 0.1\n3 0.1 0.1 0.4 0.2 0.3 0.5\n"


def parse(text: str | bytes) -> list[YoloRow]:
    return parse_file(text if isinstance(text, bytes) else text.encode(), "a.txt")


def read(root: Path, **labels: str | None) -> ParsedPart:
    """Read images of 100 x 50 pixels with these labels; None is no label file."""
    pairs = {}
    for name, text in labels.items():
        add_image(root, f"images/{name}.png", (100, 50))
        pairs[f"images/{name}.png"] = "" if text is None else f"labels/{name}.txt"
        if text is not None:
            add_text(root, f"labels/{name}.txt", text)
    part = Part(format="yolo", pairs=pairs, class_names={"0": "person", "2": "traffic light"})
    return read_parts(manifest_of(root, train=part))["train", 0]


def test_a_line_is_a_class_and_a_box_by_its_centre() -> None:
    assert parse("3 0.5 0.25 0.2 0.1") == [YoloRow(1, 3, 0.5, 0.25, 0.2, 0.1)]
    assert parse("3.0\t0.5   0.25\t0.2 0.1  ") == [YoloRow(1, 3, 0.5, 0.25, 0.2, 0.1)]


def test_an_outline_becomes_the_box_around_it() -> None:
    assert parse("1 0.25 0.5 0.75 0.25 0.5 0.75") == [YoloRow(1, 1, 0.5, 0.5, 0.5, 0.5)]


def test_an_outline_with_a_corner_nowhere_is_nowhere() -> None:
    row, = parse("1 0.25 0.5 nan 0.25 0.5 0.75")
    assert all(map(math.isnan, row[2:]))


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_any_system_and_empty_ones_are_counted(ending: str) -> None:
    text = ending.join(["\ufeff0 0.5 0.5 0.2 0.4", "", "  ", "1 0.5 0.5 0.2 0.4", ""])
    for data in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16-be")):
        assert [(row.line, row.class_number) for row in parse(data)] == [(1, 0), (4, 1)]
    with pytest.raises(InputError, match=r"^a\.txt: line 3 has 1 value,"):
        parse(ending.join(["0 0.5 0.5 0.2 0.4", "", "x"]))


@pytest.mark.parametrize("text", ["", " \n\t\r\n ", "\ufeff"])
def test_an_empty_file_has_no_objects(text: str) -> None:
    assert parse(text) == []


def test_what_is_not_finite_passes_for_the_checks_to_name() -> None:
    row, = parse("0 nan inf -1e400 " + "9" * 400)
    assert math.isnan(row.cx)
    assert (row.cy, row.width, row.height) == (math.inf, -math.inf, math.inf)


@pytest.mark.parametrize(("text", "error"), [
    ("0 0.5 0.5 0.2 0.4\n0 0.5", r"line 2 has 2 values, '0 0\.5'; a line is `class cx cy w h`, or"),
    ("0,0.5,0.5,0.2,0.4", r"line 1 has 1 value, '0,0\.5,0\.5,0\.2,0\.4'; a line is"),
    ("0 0.5 0.5 0.2 0.4 0.9", r"line 1 has 6 values; .* these are predictions, not labels\."),
    ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "line 1 has 8 values, "),
    ("0 0.5 half 0.2 0.4", "line 1 has 'half'; .* all numbers"),
    ("0 0.5 1_0 0.2 0.4", "line 1 has '1_0';"),
    ("0 0.5 ٣ 0.2 0.4", "line 1 has '٣';"),
    ("cat 0.5 0.5 0.2 0.4", "line 1 has 'cat';"),
    ("1.5 0.5 0.5 0.2 0.4", "line 1 has the class '1.5'; it must be a whole number, an index of the class names"),
    ("nan 0.5 0.5 0.2 0.4", "line 1 has the class 'nan'"),
    ("1e12 0.5 0.5 0.2 0.4", "line 1 has the class '1e12'"),
    ("9" * 400 + " 0.5 0.5 0.2 0.4", "line 1 has the class '9{58}"),
    (b"0 0.5 0.5 0.2 0.4\r0 \xff", "line 2 has the byte 0xff, which is not UTF-8; labels are plain text"),
    ("0 0.5 0.5 0.2 0.4".encode("utf-16-le"), "line 1 has a zero byte"),
    ("# class cx cy w h\n0 0.5 0.5 0.2 0.4", "line 1 has 6 values, '# class cx cy w h'; a line is .* Correct it"),
    (b"0 0.5 0.5 0.2 0.4\n\0\0", "line 2 has a zero byte"),
])
def test_a_broken_line_is_named_with_what_it_has(text: str | bytes, error: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.txt: {error}"):
        parse(text)


@pytest.mark.parametrize(("shape", "points"), [
    ((2, 2), "0.45 0.4 0.55 0.6"), ((3, 2), "0.45 0.4 0.55 0.6 0 0"), ((1, 3), "0.5 0.5 2"), ((2, 3), "0.45 0.4 2 0 0 0")])
def test_of_pose_labels_the_box_is_read(shape: tuple[int, int], points: str) -> None:
    assert parse_file(f"3 0.5 0.5 0.2 0.4 {points}\n".encode(), "a.txt", shape) == [YoloRow(1, 3, 0.5, 0.5, 0.2, 0.4)]


@pytest.mark.parametrize("line", ["3 0.5 0.5 0.2 0.4", "3 0.5 0.5 0.2 0.4 0.4 0.5", "3 0.5 0.5 0.2 0.4 0.4 0.5 0.4 0.5 0.4"])
def test_a_line_that_does_not_fit_kpt_shape_is_broken(line: str) -> None:
    with pytest.raises(InputError, match=rf"^a\.txt: line 1 has {len(line.split())} values?, .* with kpt_shape \[2, 2\] a "
                                         rf"line is `class cx cy w h` and 2 x 2 values, 9 in all"):
        parse_file(line.encode(), "a.txt", (2, 2))


def test_kpt_shape_of_the_yaml_is_followed(tmp_path: Path) -> None:
    for name in ("images/train/a.jpg", "images/val/b.png"):
        add_image(tmp_path, name, (100, 50))
    for name in ("labels/train/a.txt", "labels/val/b.txt"):
        add_text(tmp_path, name, "0 0.5 0.5 0.2 0.4 0.45 0.4 0.55 0.6")
    add_text(tmp_path, "data.yaml", "names: [cat, dog]\ntrain: images/train\nval: images/val\nkpt_shape: [2, 2]")
    manifest = run(tmp_path)
    assert named_boxes(read_parts(manifest)["train", 0].annotations) == [("images/train/a.jpg", "cat", [40, 15, 20, 20], False)]


def pose_line(generator: random.Random, points: int, size: int) -> str:
    """Return a box with points in it; some of them are unseen."""
    width, height = generator.uniform(0.05, 0.3), generator.uniform(0.05, 0.3)
    cx, cy = generator.uniform(0.2, 0.8), generator.uniform(0.2, 0.8)
    values = [cx, cy, width, height]
    for number in range(points):
        seen = number % 3 != 1
        values += [cx + generator.uniform(-0.5, 0.5) * width, cy + generator.uniform(-0.5, 0.5) * height] if seen else [0, 0]
        values += [2 * seen] * (size - 2)
    return "0 " + " ".join(f"{value:.6f}" for value in values)


@pytest.mark.parametrize(("points", "size"), [(2, 2), (5, 2), (7, 2), (17, 2), (2, 3), (4, 3), (6, 3)])
def test_what_looks_like_pose_labels_is_refused_without_kpt_shape(tmp_path: Path, points: int, size: int) -> None:
    generator = random.Random(points)
    with pytest.raises(InputError, match=rf"a\.txt: line 1 has {5 + points * size} values; all 8 such lines look like pose "
                                         rf"labels, "
                                         rf"a box and {points} points in it.*Write `kpt_shape: \[{points}, {size}\]` into"):
        read(tmp_path, a="\n".join(pose_line(generator, points, size) for _ in range(8)))


def test_pose_labels_of_an_even_length_name_kpt_shape() -> None:
    with pytest.raises(InputError, match=r"line 1 has 56 values, .* Pose labels need `kpt_shape` in the YAML file"):
        parse(pose_line(random.Random(1), 17, 3))


@pytest.mark.parametrize("corners", [3, 4, 5, 8, 32])
@pytest.mark.parametrize("turn", [0.0, 0.4, 0.785])
def test_outlines_and_rotated_boxes_are_no_pose_labels(tmp_path: Path, corners: int, turn: float) -> None:
    generator, lines = random.Random(corners), []
    for _ in range(12):
        cx, cy, radius = generator.uniform(0.3, 0.7), generator.uniform(0.3, 0.7), generator.uniform(0.02, 0.2)
        angles = [turn + 2 * math.pi * at / corners for at in range(corners)]
        lines.append("0 " + " ".join(f"{cx + radius * math.cos(at):.5f} {cy + radius * math.sin(at):.5f}" for at in angles))
    assert len(read(tmp_path, a="\n".join(lines)).annotations.boxes) == 12


def test_a_track_id_after_the_box_is_dropped_and_a_prediction_with_one_is_refused() -> None:
    assert parse("3 0.5 0.5 0.2 0.4 17\n3 0.5 0.5 0.2 0.4 1") == [YoloRow(at, 3, 0.5, 0.5, 0.2, 0.4) for at in (1, 2)]
    with pytest.raises(InputError, match=r"line 1 has 7 values, the last is '17'; .* these are predictions, not labels"):
        parse("3 0.5 0.5 0.2 0.4 0.9 17")


@given(damaged(SOUND) | st.binary(max_size=60))
def test_no_bytes_make_the_parser_itself_fail(data: bytes) -> None:
    assert not fault_of(parse_file, data)


def test_shares_become_pixels_of_the_image_as_stored(tmp_path: Path) -> None:
    found = read(tmp_path, a="0 0.5 0.5 0.2 0.4\n2 0.1 0.1 0.4 0.2 0.3 0.6")
    assert named_boxes(found.annotations) == [("images/a.png", "person", [40.0, 15.0, 20.0, 20.0], False),
                                              ("images/a.png", "traffic light", [10.0, 5.0, 30.0, 25.0], False)]
    assert found.annotations.images.sizes.tolist() == [[100, 50]]
    assert found.annotations.categories == (Category(0, "person", 0), Category(2, "traffic light", 2))


def test_the_noise_of_the_last_decimal_is_rounded_away(tmp_path: Path) -> None:
    found = read(tmp_path, a="0 0.166666 0.5 0.333333 1.0")  # a third of the width, at the left edge
    assert found.annotations.boxes.xywh.tolist() == [[0.0, 0.0, 33.333, 50.0]]
    assert str(found.annotations.boxes.xywh[0, 0]) == "0.0"  # and not -0.0


def test_images_come_sorted_and_those_without_labels_have_no_objects(tmp_path: Path) -> None:
    found = read(tmp_path, c="0 0.5 0.5 1 1", a=None, b="\n")
    assert found.annotations.images.file_names == ("images/a.png", "images/b.png", "images/c.png")
    assert found.annotations.images.ids.tolist() == [1, 2, 3]
    assert found.annotations.boxes.image_ids.tolist() == [3]
    assert found.faults == ()


def test_an_object_is_found_by_its_file_and_line(tmp_path: Path) -> None:
    found = read(tmp_path, a="\n0 0.5 0.5 1 1\n\n0 0.5 0.5 1 1", b="0 0.5 0.5 1 1").annotations
    owners = found.image_indices().tolist()
    assert [found.name_box(row, owners[row]) for row in range(3)] == [
        "'labels/a.txt': line 2", "'labels/a.txt': line 4", "'labels/b.txt': line 1"]
    assert found.boxes.ids.tolist() == [1, 2, 3]


def test_a_broken_file_is_a_fault_and_the_others_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, a="0 0.5", b="0 0.5 0.5 1 1")
    fault, = found.faults
    assert (fault.kind, fault.subject, fault.image) == ("broken_labels", ("train", "images/a.png"), "images/a.png")
    assert fault.text.startswith("labels/a.txt: line 1 has 2 values, '0 0.5';")
    assert len(found.annotations.images) == 2
    assert [image for image, *_ in named_boxes(found.annotations)] == ["images/b.png"]


def test_a_label_file_that_is_gone_is_a_fault(tmp_path: Path) -> None:
    add_image(tmp_path, "a.png", (100, 50))
    part = Part(format="yolo", pairs={"a.png": "a.txt"}, class_names={"0": "person"})
    found = read_parts(manifest_of(tmp_path, train=part))["train", 0]
    assert [fault.text for fault in found.faults] == [
        "a.txt: cannot be read: No such file or directory. Restore it, or remove its image."]


def test_a_class_that_is_not_in_the_list_keeps_its_number(tmp_path: Path) -> None:
    found = read(tmp_path, a="1 0.5 0.5 1 1").annotations
    assert found.boxes.category_ids.tolist() == [1]
    assert 1 not in {category.id for category in found.categories}


def test_an_image_without_a_size_has_no_boxes(tmp_path: Path) -> None:
    add_text(tmp_path, "images/a.png", "no image")
    add_text(tmp_path, "labels/a.txt", "0 0.5 0.5 1 1")
    part = Part(format="yolo", pairs={"images/a.png": "labels/a.txt"}, class_names={"0": "person"})
    found = read_parts(manifest_of(tmp_path, train=part))["train", 0].annotations
    assert (found.images.sizes.tolist(), len(found.boxes)) == ([[0, 0]], 0)


def test_a_part_without_images_is_empty(tmp_path: Path) -> None:
    found = read(tmp_path).annotations
    assert (len(found.images), len(found.boxes), found.boxes.xywh.shape) == (0, 0, (0, 4))


def test_real_images_have_the_boxes_that_their_files_count(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    shutil.copytree(shared_data / "yolo-coco36", root)
    names = yaml.safe_load((root / "dataset.yaml").read_text())["names"]
    labels = {image.name: root / f"labels/train/{image.stem}.txt" for image in (root / "images/train").iterdir()}
    part = Part(format="yolo", class_names={str(number): name for number, name in names.items()},
                pairs={f"images/train/{name}": f"labels/train/{file.name}" if file.exists() else ""
                       for name, file in labels.items()})
    found = read_parts(manifest_of(root, train=part))["train", 0]
    lines = sum(len(file.read_text().splitlines()) for file in labels.values() if file.exists())
    assert (len(found.annotations.images), len(found.annotations.boxes), found.faults) == (24, lines, ())
    plane = [row for row in named_boxes(found.annotations) if row[0].endswith("0030.jpg")]
    # 640 x 428 pixels; the file's lines are 58 0.519219 0.451121 0.39825 0.75729 and 75 0.501188 0.592138 0.26 0.456192
    assert [row[1:3] for row in plane] == [("potted plant", [204.86, 31.02, 254.88, 324.12]),
                                           ("vase", [237.56, 155.81, 166.4, 195.25])]
