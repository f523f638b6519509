"""Which checkpoint a run continues, and where the others are kept. tests/train/test_fit.py kills real runs."""

import logging
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint.conftest import Make, run_params
from support.kaboom import write_kaboom

from ssd_lib.checkpoint.file import BEST, CHECKPOINTS, LAST, PREVIOUS, ComboCheckpoint, read_checkpoint, save_checkpoint
from ssd_lib.checkpoint.fingerprint import make_fingerprint
from ssd_lib.checkpoint.resume import choose_start
from ssd_lib.errors import InputError
from ssd_lib.nets.model_file import NetSpec

SPEC = NetSpec("mb2-ssd-lite", 64, 0.1, ("red", "blue"), (3, 7))
DIGEST = "d" * 64
ROOT = Path("runs/resume")


class Run:
    """A run with some parameters in the current folder."""

    def __init__(self, make: Make, **params: Any) -> None:
        self.make, self.params = make, run_params(**params)

    @property
    def fingerprint(self) -> str:
        return make_fingerprint(self.params, DIGEST)

    @property
    def resume_dir(self) -> Path:
        return ROOT / self.fingerprint

    def checkpoint(self, epoch: int, step: int, **changes: Any) -> ComboCheckpoint:
        """Return the state of the run at a position."""
        return self.make(epoch, step, **{"fingerprint": self.fingerprint, "params": self.params, "data_digest": DIGEST,
                                         "spec": asdict(SPEC), **changes})

    def save(self, epoch: int, step: int, is_best: bool = False, **changes: Any) -> None:
        """Save it, as training does."""
        save_checkpoint(self.checkpoint(epoch, step, **changes), CHECKPOINTS, self.resume_dir, is_best=is_best)

    def start(self, spec: NetSpec = SPEC, digest: str = DIGEST) -> tuple[int, int] | None:
        """Start it; the position that it continues."""
        found = choose_start(self.params, self.fingerprint, digest, asdict(spec), CHECKPOINTS, self.resume_dir)
        return None if found is None else found.position


@pytest.fixture
def run(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Run:
    """Return a run of five epochs: the first is the best, the third has begun."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    run = Run(make)
    run.save(1, 0, is_best=True)
    run.save(2, 0)
    run.save(2, 1)
    return run


def test_a_run_continues_at_its_latest_checkpoint(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert run.start() == (2, 1)
    assert caplog.messages == ["continuing at epoch 3/5, step 1"]


def test_without_checkpoints_a_run_starts_new(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree("models")
    shutil.rmtree("runs")
    assert run.start() is None
    assert not caplog.messages


def test_a_folder_that_dvc_rolled_back_is_restored(run: Run) -> None:
    """`dvc exp run` removes models/checkpoints before the stage starts."""
    shutil.rmtree("models")
    assert run.start() == (2, 1)
    assert {path.name for path in CHECKPOINTS.iterdir()} == {LAST, PREVIOUS, BEST}


def test_a_damaged_checkpoint_falls_back_to_the_previous_one(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray((CHECKPOINTS / LAST).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (CHECKPOINTS / LAST).write_bytes(content)  # the hard link in runs/resume is the same file, so it is damaged, too
    assert run.start() == (2, 0)
    assert "is damaged" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]


def test_the_best_checkpoint_is_continued_if_no_other_is_intact(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    for name in (LAST, PREVIOUS):
        (CHECKPOINTS / name).unlink()
        (CHECKPOINTS / name).write_bytes(b"PK")
    shutil.rmtree("runs")
    assert run.start() == (1, 0)
    assert caplog.text.count("WARNING") == 2


def test_checkpoints_that_cannot_be_read_are_kept(run: Run) -> None:
    shutil.rmtree("runs")
    for name in (LAST, PREVIOUS, BEST):
        (CHECKPOINTS / name).unlink()
        (CHECKPOINTS / name).write_bytes(name.encode())
    assert run.start() is None
    assert {path.read_bytes() for path in (ROOT / "damaged").iterdir()} == {name.encode() for name in (LAST, PREVIOUS, BEST)}


def test_more_epochs_continue_a_finished_run(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    run.save(5, 0)
    assert run.start() == (5, 0)
    assert caplog.messages[-1] == "the run is complete: its checkpoint has 5 epochs"
    assert Run(make, epochs=8).start() == (5, 0)
    assert caplog.messages[-1].startswith("continuing at epoch 6/8, step 0; extended from 5 epochs: the learning rate follows")


def test_fewer_epochs_start_a_new_run_and_keep_the_longer_one(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    run.save(5, 0)
    assert Run(make, epochs=3).start() is None
    assert "train.epochs is 3, the last run's 5\nthe last run (complete, 5 epochs) is kept in" in caplog.text
    kept = list(run.resume_dir.glob("kept-last-epoch-5-step-0-*.pt"))
    assert [read_checkpoint(path).epoch for path in kept] == [5]


def test_a_longer_run_is_found_again_after_a_shorter_one(run: Run, make: Make) -> None:
    run.save(4, 0, is_best=True, best=0.5, history=[{"epoch": 4, "AP": 0.5}])
    run.save(5, 0, best=0.5, history=[{"epoch": 4, "AP": 0.5}])
    before = {name: (CHECKPOINTS / name).read_bytes() for name in (LAST, PREVIOUS, BEST)}
    shorter = Run(make, epochs=2)
    assert shorter.start() is None
    shorter.save(1, 0, is_best=True, best=0.9, history=[{"epoch": 1, "AP": 0.9}])
    shorter.save(2, 0, best=0.9, history=[{"epoch": 1, "AP": 0.9}])
    for _ in range(2):
        assert run.start() == (5, 0)
        for place in (CHECKPOINTS, run.resume_dir):
            assert {name: (place / name).read_bytes() for name in before} == before
        assert shorter.start() == (2, 0), "and the shorter one, too"
        assert read_checkpoint(CHECKPOINTS / BEST).best == 0.9


def test_a_shorter_run_does_not_hide_a_longer_one_that_is_further(run: Run, make: Make,
                                                                  caplog: pytest.LogCaptureFixture) -> None:
    shorter = Run(make, epochs=4)
    assert shorter.start() is None
    assert "not continuing" not in caplog.text
    assert caplog.messages[-1].endswith("; train.epochs: 5 continues it")
    shorter.save(1, 1, history=[{"epoch": 1, "AP": 0.1}])
    shorter.save(1, 3, history=[{"epoch": 1, "AP": 0.1}])
    assert run.start() == (2, 1)
    assert caplog.messages[-1] == ("continuing at epoch 3/5, step 1\nthe last run (epoch 2/4, step 3) is kept in "
                                   f"{run.resume_dir}; train.epochs: 4 continues it")
    assert shorter.start() == (1, 3)
    shorter.save(3, 1, history=[{"epoch": 1, "AP": 0.1}] * 3)
    assert run.start() == (3, 1), "the further one"


def test_the_best_epoch_of_another_run_is_not_taken_over(run: Run, make: Make) -> None:
    shorter = Run(make, epochs=4)
    shorter.start()
    shorter.save(1, 0, is_best=True, best=0.9, history=[{"epoch": 1, "AP": 0.9}])
    next(run.resume_dir.glob("kept-best-*.pt")).unlink()
    assert run.start() == (2, 1)
    assert not (CHECKPOINTS / BEST).exists()


def test_what_never_gave_up_stays_given_up(run: Run, make: Make) -> None:
    new = Run(make, resume="never")
    assert new.start() is None
    new.save(0, 3)
    assert run.start() == (0, 3)


def test_a_changed_rate_starts_a_new_run_and_the_old_one_continues(run: Run, make: Make,
                                                                   caplog: pytest.LogCaptureFixture) -> None:
    other = Run(make, lr=0.02)
    assert other.start() is None
    assert caplog.messages == ["starting a new run: these differ: train.lr: 0.01 -> 0.02\nthe last run (epoch 3/5, step 1) is "
                               f"kept in {run.resume_dir}; its parameters continue it"]
    other.save(0, 1)
    assert run.start() == (2, 1)
    assert other.start() == (0, 1)


def test_never_starts_a_new_run_and_keeps_the_old_one(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    assert Run(make, resume="never").start() is None
    assert "train.resume is never" in caplog.text
    assert len(list(run.resume_dir.glob("kept-last-epoch-2-step-1-*.pt"))) == 1


def test_a_run_that_is_set_aside_counts_as_written_now(run: Run, make: Make) -> None:
    """runtime.keep_days would delete it at once otherwise."""
    old = time.time() - 40 * 24 * 3600
    for path in CHECKPOINTS.iterdir():
        os.utime(path, (old, old))  # the hard links in runs/resume, too
    assert Run(make, lr=0.02).start() is None
    assert all(path.stat().st_mtime > old + 24 * 3600 for path in run.resume_dir.iterdir())
    assert run.start() == (2, 1)


def test_a_best_epoch_that_is_the_last_is_kept_once_on_disk(run: Run, make: Make) -> None:
    """DVC puts copies of its cache in place of the files of models/checkpoints; they are not linked to each other."""
    run.save(3, 0, is_best=True)
    for name in (BEST, LAST):
        content = (CHECKPOINTS / name).read_bytes()
        (CHECKPOINTS / name).unlink()
        (CHECKPOINTS / name).write_bytes(content)
    assert Run(make, lr=0.02).start() is None
    assert (run.resume_dir / BEST).samefile(run.resume_dir / LAST)
    assert run.start() == (3, 0)


def test_a_run_keeps_its_files_if_dvc_rolled_the_folder_back_to_another_run(run: Run, make: Make, tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS, tmp_path / "rolled back")
    other = Run(make, lr=0.02)
    other.start()
    other.save(0, 1)
    other.save(0, 2)
    shutil.rmtree(CHECKPOINTS)
    shutil.copytree(tmp_path / "rolled back", CHECKPOINTS)
    assert other.start() == (0, 2)
    for each in (run, other):
        assert {read_checkpoint(path).fingerprint for path in each.resume_dir.glob("*.pt")} == {each.fingerprint}
    assert {read_checkpoint(path).fingerprint for path in CHECKPOINTS.glob("*.pt")} == {other.fingerprint}


def test_going_back_to_a_run_restores_all_its_files(run: Run, make: Make) -> None:
    before = {name: (CHECKPOINTS / name).read_bytes() for name in (LAST, PREVIOUS, BEST)}
    other = Run(make, lr=0.02)
    other.start()
    other.save(1, 0, is_best=True)
    assert run.start() == (2, 1)
    assert {name: (CHECKPOINTS / name).read_bytes() for name in before} == before


def test_a_later_state_of_a_run_is_never_replaced_by_an_earlier_one(run: Run, make: Make, tmp_path: Path) -> None:
    shutil.copytree(CHECKPOINTS, tmp_path / "earlier")
    run.save(4, 0)
    shutil.rmtree(CHECKPOINTS)
    shutil.copytree(tmp_path / "earlier", CHECKPOINTS)
    assert Run(make, lr=0.02).start() is None
    assert read_checkpoint(run.resume_dir / LAST).position == (4, 0)
    assert run.start() == (4, 0)


def test_another_balance_is_another_run(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    same = Run(make, data={"balance_threshold": 0.5, "max_images": 7})
    assert same.fingerprint == run.fingerprint, "neither shapes what is shown"
    assert Run(make, data={"balance": "downsample", "balance_threshold": 0.25}).start() is None
    assert "these differ: data.balance: none -> downsample; data.balance_threshold: auto -> 0.25" in caplog.text


def test_another_cache_is_another_run(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    assert Run(make, data={"cache": "jpeg"}).start() is None
    assert "these differ: data.cache: none -> jpeg" in caplog.text
    assert len({Run(make, data={"cache": kind}).fingerprint for kind in ("none", "jpeg", "raw")}) == 3


@pytest.mark.parametrize("key", ["weights", "backbone_weights"])
def test_other_weights_under_the_same_name_are_another_run(run: Run, make: Make, key: str) -> None:
    Path("my.pt").write_bytes(b"one")
    started = Run(make, model={key: "my.pt"})
    before = started.fingerprint
    Path("my.pt").write_bytes(b"other")
    assert len({before, started.fingerprint, run.fingerprint}) == 3


class TestExplicitResume:
    """`train.resume: PATH`."""

    def test_a_named_checkpoint_continues_with_edited_parameters(self, run: Run, make: Make, caplog: pytest.LogCaptureFixture
                                                                 ) -> None:
        shutil.copy(CHECKPOINTS / LAST, "my.pt")
        edited = Run(make, resume="my.pt", weight_decay=0.5)
        start = choose_start(edited.params, edited.fingerprint, DIGEST, asdict(SPEC), CHECKPOINTS, edited.resume_dir)
        assert start is not None
        assert start.position == (2, 1)
        assert start.best is None, "best.pt is of another run"
        assert caplog.messages == [f"continuing my.pt at epoch 3/5, step 1\nthe last run (epoch 3/5, step 1) is kept in "
                                   f"{run.resume_dir}; its parameters continue it"]
        edited.save(2, 2)
        assert edited.start() == (2, 2), "its own checkpoint is later"

    def test_a_finished_run_is_continued_by_name_with_more_epochs_in_one_message(self, run: Run, make: Make,
                                                                                 caplog: pytest.LogCaptureFixture) -> None:
        run.save(5, 0)
        shutil.copy(CHECKPOINTS / LAST, "my.pt")
        assert Run(make, resume="my.pt", epochs=8).start() == (5, 0)
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("continuing my.pt at epoch 6/8, step 0; extended from 5 epochs")
        assert not {"not", "new"} & set(caplog.messages[0].split())

    @pytest.mark.parametrize("changed", ["data", "batch size"])
    def test_an_epoch_that_is_cut_differently_starts_again(self, run: Run, make: Make, changed: str) -> None:
        shutil.copy(CHECKPOINTS / LAST, "my.pt")
        edited = Run(make, resume="my.pt", **({"batch_size": 2} if changed == "batch size" else {}))
        assert edited.start(digest="e" * 64 if changed == "data" else DIGEST) == (2, 0)

    def test_frozen_parts_start_as_in_the_model_of_the_checkpoint(self, run: Run, make: Make) -> None:
        names = ("backbone.a", "class_heads.a")
        weights = {name: torch.zeros(2) for name in names}
        average = {f"module.{name}": torch.ones(2) for name in names}
        run.save(3, 0, weights=weights, average=average)
        shutil.copy(CHECKPOINTS / LAST, "my.pt")
        edited = Run(make, resume="my.pt", freeze="backbone")
        start = choose_start(edited.params, edited.fingerprint, DIGEST, asdict(SPEC), CHECKPOINTS, edited.resume_dir,
                             frozen=("backbone",))
        assert start is not None
        assert [start.weights[name][0].item() for name in names] == [1, 0]

    def test_a_checkpoint_that_the_run_would_overwrite_is_refused(self, run: Run, make: Make) -> None:
        with pytest.raises(InputError, match="would overwrite"):
            _ = Run(make, resume=str(CHECKPOINTS / BEST)).fingerprint
        assert (CHECKPOINTS / BEST).exists()

    def test_a_file_that_does_not_exist_is_refused(self, run: Run, make: Make) -> None:
        with pytest.raises(InputError, match=r"train\.resume is 'none\.pt', which is not a file"):
            _ = Run(make, resume="none.pt").fingerprint

    def test_what_differs_is_named(self, run: Run, make: Make) -> None:
        shutil.copy(CHECKPOINTS / LAST, "my.pt")
        edited = Run(make, resume="my.pt", optimizer="sgd", epochs=2)
        with pytest.raises(InputError, match=r"my\.pt: cannot be continued: image_size 64 is not 96; optimizer adam is not "
                                             r"sgd; it has 2 epochs, and train\.epochs is 2"):
            edited.start(replace(SPEC, image_size=96))

    def test_a_checkpoint_of_kaboom_labs_is_refused_with_both_ways_to_use_it(self, run: Run, make: Make) -> None:
        write_kaboom(Path("x.pth"), torch.nn.Linear(2, 2), epoch=3)
        with pytest.raises(InputError, match=r"kaboom-labs/pytorch-ssd, .* set model\.weights: x\.pth and train\.resume: auto; "
                                             r"or convert it .*ssd checkpoint convert x\.pth"):
            Run(make, resume="x.pth").start()

    def test_another_file_is_refused_as_no_checkpoint(self, run: Run, make: Make) -> None:
        Path("my.pt").write_bytes(b"PK")
        with pytest.raises(InputError, match=r"my\.pt: not a combo checkpoint of this project: it has no checksum"):
            Run(make, resume="my.pt").start()


def test_a_best_of_another_kind_does_not_end_a_run(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A run that was stopped by its AP goes on when it is judged by its loss: the numbers cannot be compared."""
    rows = [{"epoch": i + 1, "AP": 0.25 - i / 10, "val_loss": 0.75 + i} for i in range(3)]
    by_ap = Run(make, ap_every_epochs=1, patience=2)
    by_ap.save(3, 0, history=rows, best=0.25)
    assert by_ap.start() == (3, 0)
    assert "complete: it ended after 3 of 5 epochs, since AP 0.250 of epoch 1 is the best, and 2 later" in caplog.text
    caplog.clear()
    assert Run(make, ap_every_epochs=0, patience=2).start() == (3, 0)
    assert caplog.messages == ["continuing at epoch 4/5, step 0"]


def test_other_bytes_of_the_augmentation_file_are_another_run(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    Path("mine.yaml").write_text("transform: 1")
    mine = Run(make, augmentation="mine.yaml")
    mine.save(3, 1)
    assert mine.start() == (3, 1)
    Path("mine.yaml").write_text("transform: 2")
    caplog.clear()
    assert mine.start() is None
    assert "these differ: the content of a file that params.yaml names" in caplog.text
    Path("mine.yaml").write_text("transform: 1")
    assert mine.start() == (3, 1)
