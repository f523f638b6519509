"""The promise: kill a run anywhere, run the same command again, and the final weights are those of a run that was never
stopped."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import ROOT
from support.tiny_run import assert_same_weights, make_workspace, run_stage, set_params, set_runtime

from ssd_lib.checkpoint.file import BEST, LAST, read_checkpoint, save_checkpoint
from ssd_lib.nets.model_file import MODEL_PATH

CHECKPOINTS = Path("models/checkpoints")
slow = pytest.mark.slow


@pytest.mark.parametrize("point", [
    "after-step-2:SIGKILL",
    pytest.param("after-step-3:SIGKILL", marks=slow),  # the last one of the first epoch
    pytest.param("after-step-5:SIGKILL", marks=slow),
    "while-saving-2:SIGKILL",
    pytest.param("in-validation-1:SIGKILL", marks=slow),  # every step of the epoch is saved; another epoch follows
])
def test_a_killed_run_continues_bit_for_bit(workspace: Path, never_stopped: Path, point: str) -> None:
    set_params(workspace, checkpoint_minutes=1e-9)  # after every step
    assert run_stage(workspace, kill_at=point).returncode == -signal.SIGKILL
    assert not (workspace / "models" / "ssd.pt").exists()
    again = run_stage(workspace)
    assert again.returncode == 0, again.stderr
    assert_same_weights(workspace, never_stopped)
    assert not list(workspace.rglob("*.tmp"))


@pytest.mark.parametrize("point", ["after-step-4:SIGTERM", pytest.param("in-validation-1:SIGINT", marks=slow),
                                   pytest.param("after-step-4:SIGUSR1", marks=slow)])
def test_a_signal_saves_and_the_same_command_continues(workspace: Path, never_stopped: Path, point: str,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    stopped = run_stage(workspace, kill_at=point)
    assert stopped.returncode == 128 + signal.Signals[point.split(":")[1]]
    assert "The same command continues from there" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    checkpoint = read_checkpoint(workspace / CHECKPOINTS / LAST)
    assert checkpoint.position == ((1, 1) if "step" in point else (0, 3))
    set_runtime(workspace, "workers: 1", "workers: 2")
    set_runtime(workspace, "threads: 1", "threads: auto")  # that of the checkpoint, even if more cores are free
    again = run_stage(workspace)
    assert again.returncode == 0
    assert "continuing at epoch" in again.stdout
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).threads == 1
    assert_same_weights(workspace, never_stopped)


@slow
@pytest.mark.parametrize("settings", [
    {"optimizer": "sgd", "momentum": 0.9, "ema_decay": 0.0, "schedule": "multistep", "warmup_epochs": 0.5},
    {"optimizer": "sgd", "precision": "bf16", "augmentation": "ssd", "micro_batch": 2},
    {"optimizer": "adam", "ema_decay": 0.99, "schedule": "constant", "warmup_epochs": 1.5, "deterministic": True},
    {"data": {"balance": "repeat", "balance_threshold": 1.0}, "augmentation": "ssdlite"},
    {"model": {"net": "mb2-fpn"}, "augmentation": str(ROOT / "augmentation" / "from-above.yaml")},
    {"assignment": "atss", "class_loss": "focal", "box_loss": "giou"},
], ids=["SGD, milestones, no average", "SGD, bf16, all augmentations, micro-batches", "AdamW, long warm-up, deterministic",
        "balanced", "feature pyramid, albumentations' file", "focal loss and GIoU on published priors"])
def test_every_way_of_training_continues_bit_for_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    calm, killed = make_workspace(tmp_path / "calm"), make_workspace(tmp_path / "killed")
    set_params(calm, **settings)
    assert run_stage(calm).returncode == 0
    set_params(killed, checkpoint_minutes=1e-9, **settings)
    assert run_stage(killed, kill_at="after-saved-step-2:SIGKILL").returncode == -signal.SIGKILL
    assert run_stage(killed, kill_at="after-saved-step-2:SIGKILL").returncode == -signal.SIGKILL
    assert "continuing at" in run_stage(killed).stdout
    assert_same_weights(calm, killed)


@slow
def test_a_run_from_the_raw_cache_ends_as_one_from_small_originals(workspace: Path, never_stopped: Path) -> None:
    """Images smaller than the cache's stay as they are, so that the pixels are the same."""
    set_params(workspace, data={"cache": "raw"}, checkpoint_minutes=1e-9)
    killed = run_stage(workspace, kill_at="after-saved-step-4:SIGKILL")
    assert killed.returncode == -signal.SIGKILL
    assert "12 images need about 0.000 GB" in killed.stderr, "the training images, and no other"
    again = run_stage(workspace)
    assert "continuing at" in again.stdout
    assert "images will take" not in again.stderr
    assert_same_weights(workspace, never_stopped)


@slow
def test_a_run_that_is_not_kept_is_deleted_and_that_is_printed(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, epochs=1, lr=0.02)
    set_runtime(workspace, "keep_runs: 5", "keep_runs: 0")
    assert "(runtime.keep_runs: 0, runtime.keep_days: 30)" in run_stage(workspace).stdout
    assert len(list((workspace / "runs" / "resume").iterdir())) == 1


def test_more_epochs_continue_a_finished_run(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, epochs=3)
    longer = run_stage(workspace)
    assert "continuing at epoch 3/3, step 0; extended from 2 epochs" in longer.stdout
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).position == (3, 0)
    assert len((workspace / "reports" / "history.csv").read_text().splitlines()) == 4


@slow
def test_a_named_checkpoint_is_trained_with_edited_parameters(workspace: Path, never_stopped: Path) -> None:
    shutil.copy(never_stopped / CHECKPOINTS / LAST, workspace / "my.pt")
    set_params(workspace, resume="my.pt", weight_decay=0.5, ema_decay=0.0, epochs=3)
    assert "continuing my.pt at epoch" in run_stage(workspace).stdout
    last = read_checkpoint(workspace / CHECKPOINTS / LAST)
    assert last.position == (3, 0)
    assert [group["weight_decay"] for group in last.optimizer["param_groups"]] == [0.5, 0.0] * 3
    assert not last.average


def test_a_checkpoint_of_another_net_is_refused_by_name_and_the_older_model_stays(workspace: Path, never_stopped: Path) -> None:
    (workspace / MODEL_PATH).parent.mkdir()
    (workspace / MODEL_PATH).write_bytes(b"older")
    set_params(workspace, resume=str(never_stopped / CHECKPOINTS / LAST), epochs=5, model={"image_size": 96})
    refused = run_stage(workspace)
    assert refused.returncode == 1
    assert "image_size 64 is not 96" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (workspace / MODEL_PATH).read_bytes() == b"older"


def test_the_best_epoch_becomes_the_model_on_request(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    shutil.rmtree(workspace / "runs")
    set_params(workspace, select="best")
    done = run_stage(workspace)
    assert done.returncode == 0
    assert "the run is complete: its checkpoint has 2 epochs" in done.stdout
    best = read_checkpoint(workspace / CHECKPOINTS / BEST).average
    model = torch.load(workspace / "models" / "ssd.pt", weights_only=True)["weights"]
    assert all(torch.equal(model[key], best[f"module.{key}"]) for key in model)


@pytest.mark.parametrize("damage", ["gone", "damaged", "of a worse epoch"])
def test_a_best_epoch_that_is_lost_is_an_error_and_not_the_last_epoch(workspace: Path, never_stopped: Path,
                                                                      damage: str) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    shutil.rmtree(workspace / "runs")
    (workspace / "models" / "ssd.pt").unlink()
    best = workspace / CHECKPOINTS / BEST
    if damage == "of a worse epoch":
        worse = replace(read_checkpoint(best), best=-1e9)
        best.unlink()
        save_checkpoint(worse, workspace / "other", workspace / "other", is_best=True)
        shutil.copy(workspace / "other" / BEST, best)
    else:
        best.unlink()
        if damage == "damaged":
            best.write_bytes(b"PK")
    set_params(workspace, select="best")
    lost = run_stage(workspace)
    assert lost.returncode == 1
    assert "best.pt: the best epoch, which train.select: best asks for, is lost" in lost.stderr
    assert "Traceback" not in lost.stderr
    assert not (workspace / "models" / "ssd.pt").exists()
    set_params(workspace)
    assert run_stage(workspace).returncode == 0
    assert_same_weights(workspace, never_stopped)


def test_a_run_without_progress_ends_early_and_more_patience_continues_it(workspace: Path) -> None:
    """At this rate no weight of this net, which has no batch norm, changes: no epoch is better than the first one."""
    still: dict[str, Any] = {"model": {"net": "sq-ssd-lite", "width_mult": 1.0}, "lr": 1e-30, "ema_decay": 0.0,
                             "ap_every_epochs": 0, "epochs": 4}
    set_params(workspace, **still, patience=1)
    killed = run_stage(workspace, kill_at="in-validation-2:SIGKILL")
    assert killed.returncode == -signal.SIGKILL
    ended = run_stage(workspace)
    assert ended.returncode == 0, ended.stderr
    reason = "of epoch 1 is the best, and 1 later measurements were not better (train.patience: 1)"
    assert "train: ended after 2 of 4 epochs, since the validation loss" in ended.stdout
    assert reason in json.loads((workspace / "reports" / "train.json").read_text())["ended_early"]
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).position == (2, 0)
    set_params(workspace, **still, patience=2)
    assert "continuing at epoch 3/4, step 0" in run_stage(workspace).stdout
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).position == (3, 0)


@slow
def test_two_processes_end_early_together(workspace: Path) -> None:
    """Only the first process measures AP; without objects that are found it never changes."""
    set_params(workspace, lr=1e-30, ap_every_epochs=1, epochs=5, patience=1, augmentation="none")
    set_runtime(workspace, "processes: 1", "processes: 2")
    ended = run_stage(workspace)
    assert ended.returncode == 0, ended.stderr
    assert "since AP " in ended.stdout
    assert (epoch := read_checkpoint(workspace / CHECKPOINTS / LAST).epoch) < 5
    (workspace / "models" / "ssd.pt").unlink()
    assert f"the run is complete: it ended after {epoch} of 5 epochs" in run_stage(workspace).stdout
    assert (workspace / "models" / "ssd.pt").exists()


def test_a_finished_run_is_found_again_after_a_shorter_one(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, epochs=1)
    assert run_stage(workspace).returncode == 0
    set_params(workspace)
    assert "the run is complete: its checkpoint has 2 epochs" in run_stage(workspace).stdout
    assert_same_weights(workspace, never_stopped)


def test_a_diverged_run_names_its_images_and_saves_nothing(workspace: Path) -> None:
    set_params(workspace, lr=1e30, clip_grad_norm=0.0, warmup_epochs=0.0)
    diverged = run_stage(workspace)
    assert diverged.returncode == 1
    assert "the loss is not finite" in diverged.stderr
    assert "'train/" in diverged.stderr
    assert "Traceback" not in diverged.stderr
    assert not (workspace / CHECKPOINTS / LAST).exists()
    assert not (workspace / "models" / "ssd.pt").exists()


def test_a_complete_run_keeps_its_last_and_best_checkpoint(never_stopped: Path) -> None:
    resume_dir = next((never_stopped / "runs" / "resume").iterdir())
    for folder in (never_stopped / CHECKPOINTS, resume_dir):
        assert {path.name for path in folder.glob("*.pt")} == {LAST, BEST}
    assert (resume_dir / LAST).samefile(never_stopped / CHECKPOINTS / LAST)
