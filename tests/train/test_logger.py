"""What a person sees of a run, and what stops it."""

import csv
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssd_lib.errors import StateError
from ssd_lib.train.epoch import StepResult
from ssd_lib.train.logger import TrainLogger, draw_history, epoch_line, write_history

ROW = {"epoch": 12, "train_loss": 3.412, "train_loss_classification": 2.201, "train_loss_box": 1.211, "val_loss": 3.9,
       "AP": 0.187, "AP50": 0.35, "learning_rate": 0.01, "images_per_s": 412.0, "data_share": 0.06, "seconds": 187.2}


def _logger(folder: Path) -> TrainLogger:
    return TrainLogger(lambda i: f"train/{i}.jpg", batch_size=2, position=0, total_steps=40, folder=folder, show=True)


def _result(classification: float, box: float = 1.0) -> StepResult:
    return StepResult(torch.tensor([classification, box]), torch.tensor([3, 8]), 0.01)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_images(tmp_path: Path, bad: float) -> None:
    logger = _logger(tmp_path)
    logger.step(_result(1.0))
    logger.step(_result(bad))
    with pytest.raises(StateError, match=r"not finite.*'train/3\.jpg', 'train/8\.jpg'.*Lower train\.lr"):
        logger.read()
    logger.close()


def test_losses_are_read_without_being_asked_every_few_steps(tmp_path: Path) -> None:
    logger = _logger(tmp_path)
    for _ in range(9):
        logger.step(_result(float("nan")))
    with pytest.raises(StateError, match="not finite"):
        logger.step(_result(1.0))
    logger.close()


def test_an_epoch_is_told_in_a_log_file_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no progress bar where nobody watches."""
    logger = _logger(tmp_path)
    logger.step(_result(2.0))
    logger.epoch_done(ROW, 20, None)
    logger.close()
    assert epoch_line(ROW, 20) in capsys.readouterr().out


def test_tensorboard_has_scalars_and_the_picture(tmp_path: Path) -> None:
    logger = _logger(tmp_path)
    for _ in range(10):
        logger.step(_result(2.0))
    logger.epoch_done(ROW, 20, torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [round(event.value, 3) for event in events.Scalars("step/loss")] == [3.0]
    assert events.Scalars("epoch/AP")[0].value == pytest.approx(0.187)
    assert events.Tags()["images"] == ["validation"]


def test_an_epoch_is_one_line() -> None:
    assert epoch_line(ROW, 120) == ("epoch 12/120  loss 3.412 (cls 2.201 box 1.211)  val 3.900  AP 0.187  AP50 0.350  lr 0.0100"
                                    "  412 img/s (data 6%)  3 m 07 s")


def test_an_epoch_without_ap_says_nothing_of_it() -> None:
    assert "AP" not in epoch_line({**ROW, "AP": None}, 120)
    assert "AP" not in epoch_line({key: value for key, value in ROW.items() if key not in ("AP", "AP50")}, 120)


def test_history_has_a_row_for_each_epoch_and_a_column_for_each_key(tmp_path: Path) -> None:
    first = {key: value for key, value in ROW.items() if key != "AP"}
    write_history(tmp_path / "history.csv", [first, ROW])
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert len(rows) == 2
    assert rows[0]["AP"] == ""
    assert float(rows[1]["AP"]) == 0.187


@pytest.mark.parametrize("history", [[ROW], [{**ROW, "AP": None, "AP50": None}], [ROW, {**ROW, "epoch": 13}]])
def test_any_history_can_be_drawn(tmp_path: Path, history: list) -> None:
    draw_history(tmp_path / "a.png", history)
    draw_history(tmp_path / "b.png", history)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
