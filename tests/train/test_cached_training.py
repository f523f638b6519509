"""Training from the pixel cache."""

import shutil
import signal
from pathlib import Path

from support.tiny_run import assert_same_weights, run_stage, set_params

from ssd_lib.checkpoint.resume import make_fingerprint


def test_a_run_from_the_raw_cache_ends_as_one_from_small_originals(workspace: Path, never_stopped: Path) -> None:
    """Images smaller than the cache's stay as they are, so that only the way of the pixels is another."""
    set_params(workspace, data={"cache": "raw"}, checkpoint_minutes=1e-9)
    killed = run_stage(workspace, kill_at="after-step-4:SIGKILL")
    assert killed.returncode == -signal.SIGKILL
    assert "12 images will take some 0.000 GB" in killed.stderr, "the training images, and no other"
    again = run_stage(workspace)
    assert "continuing at" in again.stdout
    assert "images will take" not in again.stderr
    assert_same_weights(workspace, never_stopped)


def test_another_cache_is_another_run(workspace: Path, never_stopped: Path) -> None:
    shutil.copytree(never_stopped, workspace, dirs_exist_ok=True)
    set_params(workspace, epochs=2, data={"cache": "jpeg"})
    ran = run_stage(workspace, kill_at="after-step-1:SIGKILL")
    assert "these differ: data.cache: none -> jpeg" in ran.stdout


def test_a_run_made_before_there_was_a_cache_has_the_name_that_it_had() -> None:
    params = {"data": {"balance": "none", "cache": "none"}, "fix": {}, "train": {"lr": 0.01, "resume": "auto"},
              "model": {"image_size": 64, "weights": "none", "backbone_weights": "none"}}
    assert make_fingerprint(params, "0" * 64) == "cc35d921a11c1da3"
    with_cache = [{**params, "data": {"balance": "none", "cache": kind}} for kind in ("jpeg", "raw")]
    assert len({make_fingerprint(each, "0" * 64) for each in (params, *with_cache)}) == 3
