import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import detect
from ssd_lib.errors import InputError
from ssd_lib.images import read_image
from ssd_lib.infer.drawing import write_picture
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec, save_model


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and a folder of two photos, one of them in a subfolder under the same name."""
    monkeypatch.chdir(tmp_path)
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("dog", "kite"), (18, 38))
    save_model(MODEL_PATH, spec, spec.build().state_dict(), {})
    for name in ("photos/a.png", "photos/deeper/a.png"):
        write_picture(Path(name), np.random.default_rng(0).integers(0, 255, (50, 80, 3)).astype(np.uint8))
    return Path("photos")


def test_a_folder_is_drawn_described_and_written(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect.main(["photos", "--threshold", "0.1", "--json", "found.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(str(Path("photos/a.png")) + ": ")
    assert "2 pictures" in lines[-1]
    assert read_image(Path("detections/a.jpg")).shape == (50, 80, 3)
    assert Path("detections/a_2.jpg").is_file()
    rows = json.loads(Path("found.json").read_text())
    assert {row["file_name"] for row in rows} == {"photos/a.png", "photos/deeper/a.png"}
    assert {(row["class_name"], row["category_id"]) for row in rows} <= {("dog", 18), ("kite", 38)}


def test_a_bad_file_is_named_and_passed_over(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "b.jpg").write_bytes(b"not a picture")
    assert detect.main(["photos", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert f"{Path('photos/b.jpg')}: not a picture" in printed.err
    assert "1 could not be read" in printed.out
    assert not Path("detections/b.jpg").exists()


def test_patterns_and_repeated_inputs_name_each_picture_once(photos: Path) -> None:
    assert detect.find_pictures(["photos/*.png", "photos/a.png"]) == [Path("photos/a.png")]


def test_an_input_that_names_nothing_is_an_error(photos: Path) -> None:
    with pytest.raises(InputError, match=r"fotos: no picture is there"):
        detect.find_pictures(["fotos"])


def test_drawings_never_replace_the_pictures(photos: Path) -> None:
    write_picture(photos / "c.jpg", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(SystemExit, match="the drawing would replace the picture"):
        detect.main(["photos", "--out", "photos"])


def test_the_command_line_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    script = Path(detect.__file__)
    (tmp_path / "a.png").write_bytes(b"")
    ended = subprocess.run([sys.executable, script, "a.png"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == f"ERROR {MODEL_PATH}: missing. `dvc repro train` makes it when training is complete.\n"
