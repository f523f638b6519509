"""`ssd labels` as a whole, with a small net and the images of support/trained_project.py."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.html import Nesting
from support.project import write_fixed
from support.trained_project import TREE

from ssd_lib.cli import main
from ssd_lib.labels.page import _close_up
from ssd_lib.manifest import FIXED_FOLDER

OUT = Path("reports/labels")


def labels(*arguments: str) -> int:
    return main(["labels", "--device", "cpu", "--top", "12", *arguments])


def test_a_project_is_searched_without_arguments(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_fixed(FIXED_FOLDER, "train", TREE)
    assert labels() == 0
    printed = capsys.readouterr().out
    assert "data/fixed/train.json: 3 images, 4 labels: " in printed
    assert "reports/labels/labels.html shows them" in printed
    rows = json.loads((OUT / "labels.json").read_text())
    assert 0 < len(rows) <= 12
    assert {row["split"] for row in rows} == {"train", "val"}
    page = (OUT / "labels.html").read_text()
    texts = " ".join(Nesting(page).texts)
    assert all(row["cause"] in texts for row in rows)
    assert all(f"{rank}. {row['kind']}, score {row['score']:.2f}" in texts for rank, row in enumerate(rows, start=1))
    assert page.count("<image ") == 2 * len(rows)
    for split in ("train", "val"):
        tree = json.loads((OUT / f"{split}.coco.json").read_text())
        assert sum("score" in row for row in tree["annotations"]) == sum(row["split"] == split for row in rows)
    assert labels() == 0
    assert (OUT / "labels.html").read_text() == page


def test_any_dataset_in_coco_format_is_searched(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(FIXED_FOLDER / "val.json", "mine.json")
    assert labels("models/ssd.pt", "--annotations", "mine.json", "--images", "data/raw/tiny", "--out", "out") == 0
    assert json.loads(Path("out/mine.coco.json").read_text())["images"]
    assert "mine.json: 3 images" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (("--annotations", "mine.json"), "--annotations and --images belong together"),
    (("--annotations", "none.json", "--images", "data/raw/tiny"), "none.json: has no boxes of the classes of the model"),
    ((), "data/fixed/train.npz: missing. `dvc repro fix_annotations` makes it."),
    (("nets",), "nets: "),
])
def test_what_is_missing_is_an_error_that_says_what_to_do(project: Path, arguments: tuple[str, ...], message: str,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.json").write_text(json.dumps({**TREE, "annotations": []}))
    if arguments == ("nets",):
        write_fixed(FIXED_FOLDER, "train", TREE)
    assert labels(*arguments) == 1
    assert f"ERROR {message}" in capsys.readouterr().err
    assert not OUT.exists()


def test_a_close_up_shows_the_boxes_with_room_inside_the_image() -> None:
    size = np.array([100, 200])  # (height, width)
    assert _close_up([(80, 30, 20, 40), (100, 30, 10, 40)], size) == (63, 18, 64, 64)
    assert _close_up([(0, 0, 10, 10)], size) == (0, 0, 29, 29)  # at least 48 px around the middle, cut at the edge
