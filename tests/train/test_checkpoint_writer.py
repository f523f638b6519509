"""What is saved when the disk, the folder, memory or a loader process fails; training goes on while a checkpoint is written."""

import os
import re
import resource
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from support.shared_memory import REFUSED, mount_shared_memory
from support.tiny_run import Ended, assert_same_weights, ended, final_weights, run_stage, set_params, set_runtime, start_stage

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.checkpoint.file import LAST, read_checkpoint
from ssd_lib.errors import InputError, StateError
from ssd_lib.nets.model_file import MODEL_PATH, NetSpec, load_model
from ssd_lib.params import load_params
from ssd_lib.train import checkpoint_writer
from ssd_lib.train.board import Board
from ssd_lib.train.checkpoint_writer import CheckpointWriter
from ssd_lib.train.state import new_state

CHECKPOINTS = Path("models/checkpoints")


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_one_message_and_no_checkpoint(workspace: Path, never_stopped: Path) -> None:
    run_stage(workspace, kill_at="after-step-4:SIGTERM")
    before = (workspace / CHECKPOINTS / LAST).read_bytes()
    set_params(workspace, checkpoint_minutes=1e-9)
    full = run_stage(workspace, largest_file=len(before) // 2)
    assert full.returncode == 1
    assert "models/checkpoints/last.pt: cannot be written: File too large; what was there is unchanged." in full.stderr
    assert full.stderr.count("ERROR") == 1
    assert "Traceback" not in full.stderr
    assert (workspace / CHECKPOINTS / LAST).read_bytes() == before
    assert not list(workspace.rglob("*.tmp"))
    assert "continuing at epoch 2/2, step 1" in run_stage(workspace).stdout
    assert_same_weights(workspace, never_stopped)


def test_a_changed_postprocess_rewrites_the_model_of_a_complete_run_without_training(workspace: Path) -> None:
    assert run_stage(workspace).returncode == 0
    before, history = final_weights(workspace), (workspace / "reports/history.csv").read_text()
    set_runtime(workspace, "nms_iou: 0.45", "nms_iou: 0.7")
    again = run_stage(workspace)
    assert again.returncode == 0
    assert "the run is complete: its checkpoint has 2 epochs" in again.stdout
    postprocess = load_model(workspace / MODEL_PATH).postprocess
    assert postprocess._replace(class_thresholds=()) == Postprocess(nms_iou=0.7, vote_iou=0.7)
    assert len(postprocess.class_thresholds) == len(load_model(workspace / MODEL_PATH).spec.class_names)
    after = final_weights(workspace)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert (workspace / "reports/history.csv").read_text() == history


def test_a_folder_that_cannot_be_written_is_refused_before_training(workspace: Path) -> None:
    folder = workspace / CHECKPOINTS
    if os.geteuid() == 0:  # whom permissions do not stop; the kernel does
        folder.parent.mkdir()
        folder.symlink_to("/sys/kernel")
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o555)
    refused = run_stage(workspace)
    assert refused.returncode == 1
    assert "models/checkpoints: cannot be written: Permission denied" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "step" not in refused.stderr, "no step was made"


@pytest.mark.parametrize(("point", "saved"), [
    ("after-step-4:SIGKILL:loader", (1, 1)),
    pytest.param("in-validation-1:SIGKILL:loader", (1, 0), marks=pytest.mark.slow)])
def test_the_death_of_a_loader_process_is_told_and_costs_no_step(workspace: Path, never_stopped: Path, point: str,
                                                                 saved: tuple[int, int]) -> None:
    died = run_stage(workspace, kill_at=point)
    assert died.returncode == 1
    assert "a loader process was killed" in died.stderr
    assert "Set runtime.workers lower" in died.stderr
    assert "Traceback" not in died.stderr
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).position >= saved
    assert run_stage(workspace).returncode == 0
    assert_same_weights(workspace, never_stopped)


@pytest.mark.parametrize("point", ["after-step-4:MEMORY", pytest.param("in-validation-2:MEMORY", marks=pytest.mark.slow)])
def test_a_lack_of_memory_is_one_line_and_the_last_checkpoint_stays(workspace: Path, never_stopped: Path, point: str) -> None:
    """The state may be half changed when it happens, so it is not saved."""
    failed = run_stage(workspace, kill_at=point)
    assert failed.returncode == 1
    assert failed.stderr.strip().startswith("ERROR memory ran out ([enforce fail")
    assert "lower runtime.workers, then train.micro_batch" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).position == (1, 0)
    assert run_stage(workspace).returncode == 0
    assert_same_weights(workspace, never_stopped)


def _limit_addresses() -> None:
    """Leave this process so little memory to map that a library would end it in the first step."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 300_000_000, resource.RLIM_INFINITY))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_limit_of_memory_that_is_too_low_for_any_net_is_told_before_training(workspace: Path) -> None:
    refused = run_stage(workspace, prepare=_limit_addresses)
    assert refused.returncode == 1
    assert re.fullmatch(r"\nERROR the limit of memory \(`ulimit -v`\) leaves (29\d|300) MB for training, .*\n", refused.stderr)


@pytest.mark.parametrize("target", [
    "/dev/full", pytest.param("a pipe whose reader ends after a line", marks=pytest.mark.slow)])
def test_training_goes_on_when_its_output_cannot_be_written(workspace: Path, never_stopped: Path, target: str) -> None:
    (workspace / "stdout").symlink_to(target if target == "/dev/full" else "pipe")
    if target != "/dev/full":
        os.mkfifo(workspace / "pipe")
    stage = start_stage(workspace)
    if target != "/dev/full":
        with (workspace / "pipe").open() as reader:
            assert "priors" in reader.readline()
    stage.join(300)
    assert stage.exitcode == 0
    assert (workspace / "stderr").read_text().startswith("WARNING standard output cannot be written")
    assert len((workspace / "stderr").read_text().splitlines()) == 1
    assert_same_weights(workspace, never_stopped)


def _with_shared_memory(workspace: Path, size: str) -> Ended:
    """Run the stage where /dev/shm holds `size`; it must end by itself."""
    stage = start_stage(workspace, prepare=partial(mount_shared_memory, size))
    stage.join(120)
    if stage.exitcode is None:
        stage.kill()
    if stage.exitcode == REFUSED:
        pytest.skip("this system lets no process mount a file system of its own")
    return ended(stage, workspace)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a file system")
def test_batches_that_do_not_fit_in_shared_memory_go_through_pipes(workspace: Path, never_stopped: Path) -> None:
    small = _with_shared_memory(workspace, "256k")
    assert (small.returncode, small.stderr) == (0, "")
    assert "WARNING /dev/shm has 0.3 MB free" in small.stdout
    assert_same_weights(workspace, never_stopped)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a file system")
def test_shared_memory_too_small_for_any_loader_process_is_one_line(workspace: Path) -> None:
    none = _with_shared_memory(workspace, "4k")
    assert none.returncode == 1
    assert none.stderr.startswith("\nERROR /dev/shm is full (")
    assert "set runtime.workers: 0" in none.stderr
    assert len(none.stderr.strip().splitlines()) == 1


def _writer(workspace: Path) -> CheckpointWriter:
    """Return a writer for a new, tiny net."""
    spec = NetSpec("mb2-ssd-lite", 64, 0.1, ("red", "blue"), (3, 7))
    params = load_params("train", path=workspace / "params.yaml")
    state = new_state(spec, params.train, torch.device("cpu"), torch.float32)
    run_spec = SimpleNamespace(net_spec=spec, params=params, params_dict={"train": {"epochs": 2}}, fingerprint="f" * 16,
                               data_digest="d" * 64,
                               resume_dir=workspace / "resume")
    return CheckpointWriter(cast(Any, run_spec), state, cast(Any, SimpleNamespace(read=lambda: None, board=Board(None, 0))))


def test_training_goes_on_while_a_checkpoint_is_written(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is the state at the time of the save."""
    may_write, real = threading.Event(), checkpoint_writer.save_checkpoint

    def slow(*args: Any, **kwargs: Any) -> None:
        assert may_write.wait(60)
        real(*args, **kwargs)
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", slow)
    writer = _writer(workspace)
    weight = next(writer.state.net.parameters())
    saved = weight.detach().clone()
    writer.save()
    assert not (workspace / CHECKPOINTS / LAST).exists()
    with torch.no_grad():
        weight.add_(1)  # the next step
    writer.state.step += 1
    writer.save_if_due()  # neither waits nor starts another
    may_write.set()
    writer.wait()
    written = read_checkpoint(workspace / CHECKPOINTS / LAST)
    assert written.step == 0
    assert torch.equal(next(iter(written.weights.values())), saved)


def test_weights_that_are_not_finite_are_never_saved(workspace: Path) -> None:
    writer = _writer(workspace)
    writer.state.step = 3
    with torch.no_grad():
        next(writer.state.net.parameters()).fill_(torch.nan)
    with pytest.raises(StateError, match="the weights are not finite after step 3 of epoch 1"), writer.save_on_error():
        writer.save()
    assert not (workspace / CHECKPOINTS / LAST).exists()


@pytest.mark.parametrize(("is_best", "calls"), [(False, 2), (True, 1)])
def test_a_failed_save_is_tried_once_more_at_the_end_unless_it_was_the_best(
        workspace: Path, monkeypatch: pytest.MonkeyPatch, is_best: bool, calls: int) -> None:
    """A later checkpoint would name a best epoch that best.pt does not hold."""
    made = []

    def fail(*_: Any, **__: Any) -> None:
        made.append(1)
        raise StateError("the disk is full")
    writer = _writer(workspace)
    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    with pytest.raises(StateError, match="the disk is full"), writer.save_on_error():
        writer.save(is_best=is_best)
    assert len(made) == calls


def test_an_error_between_two_steps_saves_the_steps_before_it(workspace: Path) -> None:
    def train(writer: CheckpointWriter) -> None:
        with writer.save_on_error():
            writer.save()
            writer.state.step = 2
            raise InputError("an image cannot be read")
    with pytest.raises(InputError, match="an image cannot be read"):
        train(_writer(workspace))
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).step == 2


def test_a_checkpoint_is_due_after_checkpoint_minutes(workspace: Path) -> None:
    writer = _writer(workspace)
    writer.state.step = 1
    writer.save_if_due()
    assert writer.writing is None
    writer.saved_at -= 60 * writer.run_spec.params.train.checkpoint_minutes
    writer.save_if_due()
    writer.wait()
    assert read_checkpoint(workspace / CHECKPOINTS / LAST).step == 1
