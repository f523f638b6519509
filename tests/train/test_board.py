"""TensorBoard: what a run shows there, at which steps, and under which name."""

import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG, parse_session_start_info_plugin_data
from tensorboard.util.tensor_util import make_ndarray

from ssd_lib.train.board import Board, Shown, board_folder

ROW = {"epoch": 2, "train_loss": 3.4, "train_loss_classification": 2.2, "train_loss_box": 1.2, "val_loss": 3.9,
       "val_loss_classification": 2.5, "val_loss_box": 1.4, "AP": 0.187, "AP50": 0.35, "AP75": 0.1}
PARAMS = {"model": {"net": "lite0-fpn", "image_size": 320}, "train": {"lr": 0.003, "epochs": 16, "optimizer": "adamw"}}
SHOWN = Shown((5, 0, 2), {"cat": np.linspace(1, 0.5, 101), "dog": np.full(101, -1.0)}, np.zeros((8, 8, 3), np.uint8))


def events_of(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), {"tensors": 0, "scalars": 0, "histograms": 0, "images": 0})
    return events.Reload()


def written(folder: Path) -> EventAccumulator:
    board = Board(folder, 0)
    board.parameters(PARAMS)
    board.epoch(ROW, SHOWN)
    board.close()
    return events_of(folder)


def test_an_epoch_is_drawn_over_epochs_in_few_groups(tmp_path: Path) -> None:
    events = written(tmp_path)
    tags = events.Tags()["scalars"]
    assert {tag.partition("/")[0] for tag in tags} == {"AP", "loss"}
    assert all(event.step == 2 for tag in tags for event in events.Scalars(tag))
    assert events.Scalars("AP/0.50")[0].value == pytest.approx(0.35)
    assert events.Scalars("loss/validation, box")[0].value == pytest.approx(1.4)


def test_the_drawn_images_have_their_colours_in_few_bytes(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :30] = (250, 10, 10)
    board = Board(tmp_path, 0)
    board.epoch(ROW, SHOWN._replace(image=image))
    board.close()
    event, = events_of(tmp_path).Images("validation images")
    assert (event.step, event.height, event.width) == (2, 40, 60)
    seen = cv2.cvtColor(cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.abs(seen[20, 10].astype(int) - (250, 10, 10)).max() < 12
    assert event.encoded_image_string.startswith(b"\xff\xd8"), "a JPEG"


def test_an_epoch_without_ap_has_no_value_for_it(tmp_path: Path) -> None:
    board = Board(tmp_path, 0)
    board.epoch({**ROW, "AP": None, "AP50": 0.0, "AP75": None}, SHOWN._replace(precisions={}))
    board.close()
    assert [tag for tag in events_of(tmp_path).Tags()["scalars"] if tag.startswith("AP")] == ["AP/0.50"]


def test_curves_matched_priors_and_parameters_are_there(tmp_path: Path) -> None:
    events = written(tmp_path)
    curve = make_ndarray(events.Tensors("precision and recall/cat")[0].tensor_proto)
    assert curve[4, 0] == pytest.approx(0.5)  # precision where the recall is 1
    assert curve[5].tolist() == pytest.approx(np.linspace(1, 0, 101).tolist())
    # Of 1000 objects 750 are found at a recall of 0.75; the precision is 0.625 there.
    assert curve[:, 25].tolist() == pytest.approx([750, 450, 0, 250, 0.625, 0.75])
    assert make_ndarray(events.Tensors("precision and recall/dog")[0].tensor_proto)[4].tolist() == [0] * 101  # not -1
    level, = (events.Histograms(tag)[0].histogram_value for tag in events.Tags()["distributions"])
    assert (level.bucket, level.bucket_limit, level.num, level.sum) == ([5, 0, 2], [1, 2, 3], 7, 4)
    assert b"| train.lr | 0.003 |" in make_ndarray(events.Tensors("parameters/text_summary")[0].tensor_proto).item()
    start = parse_session_start_info_plugin_data(events.summary_metadata[SESSION_START_INFO_TAG].plugin_data.content)
    assert (start.hparams["train.lr"].number_value, start.hparams["train.optimizer"].string_value) == (0.003, "adamw")


def test_a_rewind_hides_the_steps_that_come_again_and_keeps_the_epochs(tmp_path: Path) -> None:
    first = Board(tmp_path, 0)
    for step in (10, 20, 30):
        first.scalars({"loss by step/total": 1.0}, step)
    first.epoch(ROW, SHOWN)
    first.close()
    second = Board(tmp_path, 20)
    second.scalars({"loss by step/total": 2.0}, 30)
    second.close()
    events = events_of(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("loss by step/total")] == [(10, 1.0), (30, 2.0)]
    assert [event.step for event in events.Scalars("AP/0.50")] == [2]


def test_what_is_flushed_outlives_a_killed_process(tmp_path: Path) -> None:
    board = Board(tmp_path, 0)
    board.scalars({"loss by step/total": 1.0}, 10)
    board.flush()
    assert [event.step for event in events_of(tmp_path).Scalars("loss by step/total")] == [10]
    board.close()


def test_an_epoch_is_on_the_disk_at_once(tmp_path: Path) -> None:
    board = Board(tmp_path, 0)
    board.epoch(ROW, SHOWN)
    assert [event.step for event in events_of(tmp_path).Images("validation images")] == [2]
    board.close()


def test_no_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    board = Board(None, 0)
    board.parameters(PARAMS)
    board.epoch(ROW, SHOWN)
    board.close()
    assert list(tmp_path.iterdir()) == []


def git(folder: Path, *words: str) -> None:
    own = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, env=os.environ | own)


def test_a_run_is_named_by_the_experiment_and_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params, runs = tmp_path / "params.yaml", tmp_path / "tb"
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    params.write_text("model: {net: lite0-fpn}\ntrain: {lr: auto, seed: 1, epochs: 5}\nruntime: {device: auto}\n")
    assert board_folder(runs, "lite0-fpn", "0123456789", params).name == "lite0-fpn-01234567"  # no git
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    assert board_folder(runs, "lite0-fpn", "0123456789", params).name == "lite0-fpn-01234567"
    params.write_text("model: {net: lite0-fpn}\ntrain: {lr: 0.01, seed: 2, epochs: 9}\nruntime: {device: cpu}\n")
    assert board_folder(runs, "lite0-fpn", "0123456789", params).name == "lite0-fpn_lr=0.01_seed=2-01234567"
    monkeypatch.setenv("DVC_EXP_NAME", "stung-dyes")
    folder = board_folder(runs, "lite0-fpn", "0123456789", params)
    assert folder.name == "stung-dyes_lr=0.01_seed=2-01234567"
    folder.mkdir(parents=True)
    monkeypatch.delenv("DVC_EXP_NAME")
    assert board_folder(runs, "lite0-fpn", "0123456789", params) == folder  # the run goes on in its folder


@pytest.mark.parametrize("text", [
    "train: {augmentation: ../../x/a.yaml}", "model: {backbone_weights: '" + "a" * 400 + "'}", 'data: {paths: ["\\x1b[31m"]}'])
def test_no_value_makes_a_folder_elsewhere_or_too_long_a_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text("model: {}\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    (tmp_path / "params.yaml").write_text(text + "\n")
    folder = board_folder(tmp_path / "tb", "lite0-fpn", "0123456789", tmp_path / "params.yaml")
    assert folder.parent == tmp_path / "tb"
    assert len(folder.name) < 120
    assert folder.name.isprintable()
    assert "/" not in folder.name
