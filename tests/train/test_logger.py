"""What a person sees of a run, and what stops it."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssd_lib.errors import StateError
from ssd_lib.train.board import Board
from ssd_lib.train.epoch import StepResult
from ssd_lib.train.logger import TrainLogger, draw_history, epoch_line, write_ap, write_history

ROW = {"epoch": 12, "train_loss": 3.412, "train_loss_classification": 2.201, "train_loss_box": 1.211, "val_loss": 3.9,
       "AP": 0.187, "AP50": 0.35, "learning_rate": 0.01, "images_per_s": 412.0, "data_share": 0.06, "seconds": 187.2}


def _logger(folder: Path | None = None) -> TrainLogger:
    return TrainLogger(lambda i: f"train/{i}.jpg", batch_size=2, position=0, total_steps=40, board=Board(folder, 0), show=True)


def _result(classification: float, box: float = 1.0) -> StepResult:
    return StepResult(torch.tensor([classification, box]), torch.tensor(0.5), torch.tensor([3, 8]), 0.01)


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
    """No progress bar is drawn without a terminal."""
    logger = _logger(tmp_path)
    logger.step(_result(2.0))
    logger.epoch_done(ROW, 20, None)
    logger.close()
    assert epoch_line(ROW, 20) in capsys.readouterr().out


def test_a_step_is_written_to_tensorboard(tmp_path: Path) -> None:
    logger = _logger(tmp_path)
    for _ in range(10):
        logger.step(_result(2.0))
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {tag: round(events.Scalars(f"{tag}")[0].value, 3) for tag in (
        "loss by step/total", "loss by step/classification", "loss by step/box", "optimizer by step/learning rate",
        "optimizer by step/gradient norm")} == dict(zip((
            "loss by step/total", "loss by step/classification", "loss by step/box", "optimizer by step/learning rate",
            "optimizer by step/gradient norm"), (3.0, 2.0, 1.0, 0.01, 0.5), strict=True))


@pytest.mark.parametrize(("row", "epochs", "line"), [
    (ROW, 120, "epoch 12/120  loss 3.412 (val 3.900)  AP 0.187  AP50 0.350  412 img/s  3:07"),
    (ROW | {"data_share": 0.25}, 120, "epoch 12/120  loss 3.412 (val 3.900)  AP 0.187  AP50 0.350  412 img/s  waits 25%  3:07"),
])
def test_an_epoch_is_one_line(row: dict[str, Any], epochs: int, line: str) -> None:
    assert epoch_line(row, epochs) == line


def test_the_line_of_an_epoch_has_room_in_80_columns() -> None:
    long = ROW | {"epoch": 300, "train_loss": 12.3456, "val_loss": 12.3456, "images_per_s": 1234.5, "seconds": 5999.0}
    assert len(epoch_line(long, 300)) <= 80


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


def test_the_table_of_ap_has_only_the_epochs_in_which_it_was_measured(tmp_path: Path) -> None:
    """`dvc plots show` draws a missing value as 0."""
    history = [{**ROW, "epoch": 1, "AP": None}, {**ROW, "epoch": 2}, {"epoch": 3, "train_loss": 2.5}]
    write_ap(tmp_path / "ap.csv", history)
    assert (tmp_path / "ap.csv").read_text() == "epoch,AP50,AP\n2,0.35,0.187\n"
    write_ap(tmp_path / "ap.csv", history[:1])
    assert (tmp_path / "ap.csv").read_text() == "epoch,AP50,AP\n"


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (3, 3), (120, 2)])
def test_the_curves_name_whole_epochs_within_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, every: int
                                                     ) -> None:
    ticks: list[list[float]] = []
    save = Figure.savefig

    def look(figure: Figure, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        low, high = figure.axes[0].get_xlim()
        ticks.extend([tick for tick in axes.get_xticks() if low <= tick <= high] for axes in figure.axes)
    monkeypatch.setattr(Figure, "savefig", look)
    draw_history(tmp_path / "a.png", [ROW | {"epoch": epoch} | ({} if epoch % every == 0 else {"AP": None, "AP50": None})
                                      for epoch in range(1, epochs + 1)])
    assert len(ticks) == 3
    assert all(tick == int(tick) and 1 <= tick <= epochs for panel in ticks for tick in panel)
    assert all(ticks)


@pytest.mark.parametrize(("total", "position"), [(750, 90), (900_000, 777_000)])
def test_the_bar_has_room_in_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, position: int) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    logger = _logger(tmp_path)
    for _ in range(10):
        logger.step(_result(2.0))
    shown = logger.bar.format_meter(**logger.bar.format_dict | {
        "ncols": 80, "total": total, "n": position, "elapsed": total / 30, "ascii": True})
    logger.close()
    assert len(shown) <= 80
    assert len(shown.split("|")[1]) >= 10
    assert "loss 3.000, " in shown


@pytest.mark.parametrize("history", [[ROW], [{**ROW, "AP": None, "AP50": None}], [ROW, {**ROW, "epoch": 13}]])
def test_any_history_can_be_drawn(tmp_path: Path, history: list) -> None:
    draw_history(tmp_path / "a.png", history)
    draw_history(tmp_path / "b.png", history)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
