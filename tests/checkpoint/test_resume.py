"""The promise: kill it anywhere, run it again, and the final weights are those of a run that was never stopped."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.kaboom import write_kaboom
from support.tiny_run import assert_same_weights, make_workspace, run_stage, set_params, set_runtime

from ssd_lib.checkpoint.file import BEST, LAST, PREVIOUS, read_checkpoint
from ssd_lib.checkpoint.resume import differences, make_fingerprint
from ssd_lib.nets.upstream import to_upstream
from ssd_lib.nets.zoo import build_net

CHECKPOINTS = Path("models/checkpoints")


@pytest.mark.parametrize("point", ["after-step-2:SIGKILL", "after-step-3:SIGKILL", "after-step-5:SIGKILL",
                                   "while-saving-2:SIGKILL", "in-validation-2:SIGKILL"])  # step 3 ends an epoch
def test_a_killed_run_continues_bit_for_bit(workspace: Path, never_stopped: Path, point: str) -> None:
    set_params(workspace, checkpoint_minutes=1e-9)  # after every step
    assert run_stage(workspace, kill_at=point).returncode == -signal.SIGKILL
    assert not (workspace / "models" / "ssd.pt").exists()
    again = run_stage(workspace)
    assert again.returncode == 0, again.stderr
    assert_same_weights(workspace, never_stopped)
    assert not list(workspace.rglob("*.tmp"))


@pytest.mark.parametrize("settings", [
    {"optimizer": "sgd", "momentum": 0.9, "ema_decay": 0.0, "schedule": "multistep", "warmup_epochs": 0.5},
    {"optimizer": "sgd", "momentum": 0.9, "precision": "bf16", "augmentation": "ssd"},
    {"optimizer": "adam", "ema_decay": 0.99, "schedule": "constant", "warmup_epochs": 1.5, "deterministic": True},
    {"data": {"balance": "repeat", "balance_threshold": 1.0}, "augmentation": "ssdlite"},
], ids=["SGD, milestones, no average", "SGD, bf16, every augmentation", "AdamW, long warm-up, deterministic", "balanced"])
def test_every_way_of_training_continues_bit_for_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    calm, killed = make_workspace(tmp_path / "calm"), make_workspace(tmp_path / "killed")
    set_params(calm, **settings)
    assert run_stage(calm).returncode == 0
    set_params(killed, checkpoint_minutes=1e-9, **settings)
    assert run_stage(killed, kill_at="after-step-2:SIGKILL").returncode == -signal.SIGKILL
    assert run_stage(killed, kill_at="after-step-2:SIGKILL").returncode == -signal.SIGKILL
    assert "continuing at" in run_stage(killed).stdout
    assert_same_weights(calm, killed)


def test_with_balance_the_same_images_come_after_a_kill_and_another_balance_is_another_run(tmp_path: Path) -> None:
    calm, killed = make_workspace(tmp_path / "calm"), make_workspace(tmp_path / "killed")
    for folder, minutes in ((calm, 1.0), (killed, 1e-9)):
        set_params(folder, checkpoint_minutes=minutes)
        path = folder / "params.yaml"
        text = path.read_text().replace("balance: none", "balance: repeat").replace("threshold: auto", "threshold: 1.0")
        path.write_text(text)
    assert run_stage(calm).returncode == 0
    assert run_stage(killed, kill_at="after-step-8:SIGKILL").returncode == -signal.SIGKILL  # of 10; without balance of 6
    assert "continuing at" in run_stage(killed).stdout
    assert_same_weights(calm, killed)
    set_runtime(killed, "balance: repeat", "balance: downsample")
    assert "continuing at" not in run_stage(killed).stdout


@pytest.mark.parametrize("point", ["after-step-4:SIGTERM", "in-validation-1:SIGINT"])
def test_a_signal_saves_and_says_how_to_continue(workspace: Path, never_stopped: Path, point: str) -> None:
    stopped = run_stage(workspace, kill_at=point)
    assert stopped.returncode == 128 + signal.Signals[point.split(":")[1]]
    assert "The same command continues from there" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    checkpoint = read_checkpoint(workspace / CHECKPOINTS / LAST)
    assert checkpoint.position == ((1, 1) if "step" in point else (0, 3))
    set_runtime(workspace, "workers: 1", "workers: 2")
    assert run_stage(workspace).returncode == 0
    assert_same_weights(workspace, never_stopped)


def test_a_run_that_may_not_be_kept_is_deleted_and_that_is_told(workspace: Path) -> None:
    set_params(workspace, epochs=1)
    run_stage(workspace)
    set_params(workspace, epochs=1, lr=0.02)
    set_runtime(workspace, "keep_runs: 20", "keep_runs: 0")
    other = run_stage(workspace)
    assert "(runtime.keep_runs: 0, runtime.keep_days: 30)" in other.stdout
    assert len(list((workspace / "runs" / "resume").iterdir())) == 1


def test_the_journal_brings_back_what_dvc_rolled_back(workspace: Path, never_stopped: Path) -> None:
    """`dvc exp run` removes models/checkpoints before the stage starts."""
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    shutil.rmtree(workspace / "models")
    again = run_stage(workspace)
    assert "continuing at epoch 2/2, step 1" in again.stdout
    assert_same_weights(workspace, never_stopped)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(workspace: Path, never_stopped: Path) -> None:
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    last = workspace / CHECKPOINTS / LAST
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF
    last.write_bytes(content)  # the journal's hard link is the same file, so it is damaged, too
    again = run_stage(workspace)
    assert "WARNING" in again.stdout
    assert "is damaged" in again.stdout
    assert "continuing at epoch 2/2, step 0" in again.stdout
    assert_same_weights(workspace, never_stopped)


def test_the_best_checkpoint_is_continued_where_no_other_is_whole(workspace: Path, never_stopped: Path) -> None:
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    for name in (LAST, PREVIOUS):
        path = workspace / CHECKPOINTS / name
        path.unlink()  # best.pt may be the same file
        path.write_bytes(b"torn")
    shutil.rmtree(workspace / "runs")
    again = run_stage(workspace)
    assert again.stdout.count("WARNING") == 2
    assert "continuing at epoch 2/2, step 0" in again.stdout
    assert_same_weights(workspace, never_stopped)


def test_an_old_run_that_is_set_aside_is_kept_from_then_on(workspace: Path) -> None:
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    old = time.time() - 40 * 24 * 3600
    for path in (workspace / CHECKPOINTS).iterdir():
        os.utime(path, (old, old))  # the journal's hard links, too
    for lr in (0.02, 0.03):
        set_params(workspace, lr=lr, epochs=1)
        assert "deleted" not in run_stage(workspace).stdout
    set_params(workspace)
    assert "continuing at epoch 2/2, step 1" in run_stage(workspace).stdout


def test_more_epochs_continue_a_finished_run(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, epochs=3)
    longer = run_stage(workspace)
    assert "continuing at epoch 3/3, step 0; extended from 2 epochs" in longer.stdout
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).position == (3, 0)
    assert len((workspace / "reports" / "history.csv").read_text().splitlines()) == 4


def test_fewer_epochs_never_report_the_longer_model(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, epochs=1)
    shorter = run_stage(workspace)
    assert "a run of 2 epochs is not one of 1" in shorter.stdout
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).position == (1, 0)
    kept = list((workspace / "runs" / "resume").glob("*/kept-last-epoch-2-step-0-*.pt"))
    assert len(kept) == 1
    assert read_checkpoint(kept[0]).epoch == 2


def test_a_changed_rate_starts_afresh_and_the_old_one_continues(workspace: Path, never_stopped: Path) -> None:
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    set_params(workspace, lr=0.02, epochs=1)
    other = run_stage(workspace)
    assert "train.lr: 0.01 -> 0.02" in other.stdout
    kept = next(path for path in (workspace / "runs" / "resume").glob("*/last.pt") if read_checkpoint(path).position == (1, 1))
    assert f"it is kept in {kept.parent.relative_to(workspace)}" in other.stdout
    set_params(workspace)
    assert "continuing at epoch 2/2, step 1" in run_stage(workspace).stdout
    assert_same_weights(workspace, never_stopped)


def test_another_balance_is_another_run(workspace: Path, never_stopped: Path) -> None:
    before = read_checkpoint(never_stopped / CHECKPOINTS / LAST).fingerprint
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, data={"balance_threshold": 0.5, "max_images": 7})
    assert "the run is complete" in run_stage(workspace).stdout  # neither shapes what is shown
    set_params(workspace, data={"balance": "downsample", "balance_threshold": 0.25})
    said = run_stage(workspace).stdout
    assert "these differ: data.balance: none -> downsample; data.balance_threshold: auto -> 0.25" in said
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).fingerprint != before


def test_a_given_checkpoint_continues_with_edited_parameters(workspace: Path) -> None:
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    shutil.copy(workspace / CHECKPOINTS / LAST, workspace / "my.pt")
    set_params(workspace, resume="my.pt", weight_decay=0.5, ema_decay=0.0)
    edited = run_stage(workspace)
    assert "continuing from my.pt" in edited.stdout
    last = read_checkpoint(workspace / CHECKPOINTS / LAST)
    assert last.position == (2, 0)
    assert [group["weight_decay"] for group in last.optimizer["param_groups"]] == [0.5, 0.0] * 3
    assert not last.average


def test_a_checkpoint_of_kaboom_labs_gives_its_weights_and_its_epoch(workspace: Path) -> None:
    net = build_net("mb2-ssd-lite", 2, 64, 0.1, seed=7)
    write_kaboom(workspace / "COMBO_CHECKPOINT_x.pth", net, epoch=0, prefix="module.", names=to_upstream(net.state_dict()))
    set_params(workspace, resume="COMBO_CHECKPOINT_x.pth", optimizer="sgd", ema_decay=0.0)
    continued = run_stage(workspace, kill_at="in-validation-1:SIGTERM")
    assert continued.returncode == 128 + signal.SIGTERM, continued.stderr
    assert "its 1 epochs are taken. Its scheduler is not to be trusted" in continued.stdout
    last = read_checkpoint(workspace / CHECKPOINTS / LAST)
    assert last.position == (1, 3)
    start, now = (weights["box_heads.0.0.weight"] for weights in (net.state_dict(), last.weights))
    assert 0 < (start - now).abs().max() < 0.1, "three steps away from the file's weights"
    again = run_stage(workspace)
    assert "continuing at epoch 2/2, step 3" in again.stdout
    assert again.returncode == 0
    assert len((workspace / "reports" / "history.csv").read_text().splitlines()) == 2


def test_a_checkpoint_that_the_run_would_overwrite_is_refused(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, resume=str(CHECKPOINTS / BEST), epochs=3)
    refused = run_stage(workspace)
    assert refused.returncode == 1
    assert "would overwrite" in refused.stderr
    assert (workspace / CHECKPOINTS / BEST).exists()


def test_a_run_keeps_its_own_files_where_dvc_rolled_the_folder_back_to_another(workspace: Path, never_stopped: Path) -> None:
    set_params(workspace, lr=0.02)
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    shutil.rmtree(workspace / CHECKPOINTS)
    shutil.copytree(never_stopped / CHECKPOINTS, workspace / CHECKPOINTS)
    again = run_stage(workspace)
    assert "continuing at epoch 2/2, step 1" in again.stdout
    mine = read_checkpoint(workspace / CHECKPOINTS / LAST).fingerprint
    other = read_checkpoint(never_stopped / CHECKPOINTS / LAST).fingerprint
    for run in (mine, other):
        for path in (workspace / "runs" / "resume" / run).glob("*.pt"):
            assert read_checkpoint(path).fingerprint == run
    assert {read_checkpoint(path).fingerprint for path in (workspace / CHECKPOINTS).glob("*.pt")} == {mine}


def test_going_back_to_a_finished_run_brings_its_files_back(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, lr=0.02, epochs=1)
    run_stage(workspace)
    set_params(workspace)
    assert "the run is complete" in run_stage(workspace).stdout
    for name in (LAST, PREVIOUS, BEST):
        assert (workspace / CHECKPOINTS / name).read_bytes() == (never_stopped / CHECKPOINTS / name).read_bytes()


def test_checkpoints_that_cannot_be_read_are_kept(workspace: Path) -> None:
    for name in (LAST, PREVIOUS):
        path = workspace / CHECKPOINTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    set_params(workspace, epochs=1)
    started = run_stage(workspace)
    assert started.stdout.count("WARNING") == 2
    kept = (workspace / "runs" / "resume" / "damaged").iterdir()
    assert {path.read_bytes() for path in kept} == {LAST.encode(), PREVIOUS.encode()}


def test_the_best_epoch_becomes_the_model_on_request(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    shutil.rmtree(workspace / "runs")
    set_params(workspace, select="best")
    assert run_stage(workspace).returncode == 0
    best = read_checkpoint(workspace / CHECKPOINTS / BEST).average
    model = torch.load(workspace / "models" / "ssd.pt", weights_only=True)["weights"]
    assert all(torch.equal(model[key], best[f"module.{key}"]) for key in model)


def test_a_checkpoint_of_another_net_is_refused_by_name(workspace: Path, never_stopped: Path) -> None:
    set_params(workspace, resume=str(never_stopped / CHECKPOINTS / LAST), epochs=5)
    path = workspace / "params.yaml"
    path.write_text(path.read_text().replace("image_size: 64", "image_size: 96"))
    refused = run_stage(workspace)
    assert refused.returncode == 1
    assert "image_size 64 is not 96" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_diverged_run_names_its_images_and_keeps_the_checkpoint_before(workspace: Path) -> None:
    run_stage(workspace, kill_at="after-step-1:SIGTERM")
    before = (workspace / CHECKPOINTS / LAST).read_bytes()
    shutil.copy(workspace / CHECKPOINTS / LAST, workspace / "my.pt")
    set_params(workspace, resume="my.pt", lr=1e30, clip_grad_norm=0.0, warmup_epochs=0.0)
    diverged = run_stage(workspace)
    assert diverged.returncode == 1
    assert "the loss is not finite" in diverged.stderr
    assert "'train/" in diverged.stderr
    assert "Traceback" not in diverged.stderr
    assert (workspace / "my.pt").read_bytes() == before
    assert not (workspace / "models" / "ssd.pt").exists()


def test_weights_that_are_not_finite_are_never_saved(workspace: Path) -> None:
    run_stage(workspace, kill_at="after-step-2:SIGTERM")
    shutil.copy(workspace / CHECKPOINTS / LAST, workspace / "my.pt")
    set_params(workspace, resume="my.pt", lr=1e30, clip_grad_norm=0.0, warmup_epochs=0.0, checkpoint_minutes=1e-9,
               weight_decay=1e30)
    diverged = run_stage(workspace)
    assert "the weights are not finite after step 3 of epoch 1" in diverged.stderr
    assert not (workspace / CHECKPOINTS / LAST).exists()


def test_kept_are_last_previous_and_best(never_stopped: Path) -> None:
    names = {path.name for path in (never_stopped / CHECKPOINTS).iterdir()}
    assert names == {LAST, PREVIOUS, BEST}
    journal = next((never_stopped / "runs" / "resume").iterdir())
    assert (journal / LAST).samefile(never_stopped / CHECKPOINTS / LAST)


def test_a_run_from_before_a_key_was_known_is_the_one_without_it() -> None:
    def params(**train: Any) -> dict[str, dict[str, Any]]:
        return {"data": {"balance": "none", "cache": "none"}, "model": {"weights": "none", "backbone_weights": "none"},
                "train": {"lr": 1, "resume": "auto", **train}}
    before, without, with_it = params(), params(sync_batch_norm=False), params(sync_batch_norm=True)
    assert make_fingerprint(before, "d") == make_fingerprint(without, "d") != make_fingerprint(with_it, "d")
    assert differences(before, without) == []
    assert differences(before, with_it) == ["train.sync_batch_norm: False -> True"]


def test_differences_leave_out_what_does_not_shape_the_result() -> None:
    def params(**train: Any) -> dict[str, dict[str, Any]]:
        return {"data": {}, "fix": {}, "model": {}, "train": train}
    assert differences(params(lr=1, epochs=2, resume="auto"), params(lr=2, epochs=3, resume="never")) == ["train.lr: 1 -> 2"]
