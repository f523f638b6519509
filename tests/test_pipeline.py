"""The whole pipeline as a user runs it: real dvc in a repository of its own, tiny settings."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.repository import dvc, environment, git, make_clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project as it is now, in a repository of its own, with tiny parameters committed."""
    return make_clone(tmp_path_factory.mktemp("pipeline") / "clone")


@pytest.fixture(scope="module")
def reproduced(clone: Path) -> Path:
    """Return the clone after `dvc repro`."""
    done = dvc(clone, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return clone


def test_repro_leaves_every_result(reproduced: Path) -> None:
    for name in ("data/manifest.json", "data/fixed/train.json", "data/fixed/labels.txt", "reports/validation.json",
                 "reports/history.csv", "reports/eval.json", "reports/results.json", "reports/detections.png",
                 "reports/pr_curve.png", "reports/samples.png", "reports/priors.json", "reports/ap.csv",
                 "reports/evaluation.html", "reports/benchmark.csv", "models/checkpoints/last.pt", "models/ssd.pt",
                 "models/ssd.onnx", "models/labels.txt"):
        assert (reproduced / name).stat().st_size > 0, name


def test_git_sees_nothing_new_but_the_lock(reproduced: Path) -> None:
    assert git(reproduced, "status", "--porcelain").split() == ["A", "dvc.lock"]


@pytest.mark.parametrize(("stage", "result"), [
    ("download", "data/manifest.json"), ("validate", "reports/validation.json"), ("fix_annotations", "data/fixed/train.json"),
    pytest.param("evaluate", "reports/results.json", marks=pytest.mark.slow),
    pytest.param("export", "models/ssd.onnx", marks=pytest.mark.slow)])
def test_a_stage_gives_its_result_into_a_pipe_that_nobody_reads(reproduced: Path, stage: str, result: str) -> None:
    before = (reproduced / result).read_bytes()
    (reproduced / result).unlink()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=reproduced, env=environment(reproduced), stdout=writer,
                          stderr=writer, check=False, timeout=300)
    os.close(writer)
    assert done.returncode == 0
    assert (reproduced / result).read_bytes() == before


def test_every_coco_number_is_in_the_reports(reproduced: Path) -> None:
    names = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "VOC07", "VOC10"}
    assert names <= set(json.loads((reproduced / "reports" / "eval.json").read_text()))


def test_experiments_are_compared_by_few_columns_with_the_telling_ones_first(reproduced: Path) -> None:
    header = dvc(reproduced, "exp", "show", "--csv").stdout.partition("\n")[0].split(",")
    columns = header[header.index("Created") + 1:]
    folders = {"augmentation"}  # deps have columns, too
    named = [column for column in columns if "." not in column and "/" not in column and column not in folders]
    assert columns[:len(named)] == named, "metrics stand before parameters"
    assert set(named) - {"State", "Executor", "parent"} == {"AP", "AP50", "loss", "net", "lr", "epochs"}


def test_a_second_repro_does_nothing(reproduced: Path) -> None:
    again = dvc(reproduced, "repro")
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout


def test_a_change_of_runtime_runs_nothing_again(reproduced: Path) -> None:
    path = reproduced / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("workers: 1", "workers: 0"))
    try:
        assert "Running stage" not in dvc(reproduced, "repro").stdout
    finally:
        path.write_text(before)


@pytest.mark.slow
def test_more_epochs_run_training_alone_and_continue_it(reproduced: Path) -> None:
    done = dvc(reproduced, "exp", "run", "--set-param", "train.epochs=2", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Stage 'fix_annotations' didn't change" in done.stdout
    assert "continuing at epoch 2/2, step 0; extended from 1 epoch" in done.stdout


def test_a_typo_stops_before_any_work_with_all_faults(reproduced: Path) -> None:
    path, model = reproduced / "params.yaml", (reproduced / "models/ssd.pt").read_bytes()
    before = path.read_text()
    path.write_text(before.replace("  lr:", "  lrr:").replace("  seed: 1", "  seed: one"))
    try:
        done = dvc(reproduced, "repro")
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert "unknown key 'train.lrr'; did you mean 'lr'?" in done.stderr
    assert "train.seed" in done.stderr
    assert "Traceback" not in done.stderr
    assert (reproduced / "models/ssd.pt").read_bytes() == model


def test_stage_list_describes_every_stage(clone: Path) -> None:
    stages = yaml.safe_load((clone / "dvc.yaml").read_text())["stages"]
    shown = dict(line.split(maxsplit=1) for line in dvc(clone, "stage", "list").stdout.splitlines())
    assert {name: text.strip() for name, text in shown.items()} == {name: stage["desc"] for name, stage in stages.items()}


@pytest.mark.slow
def test_a_tagged_and_pushed_model_is_fetched_by_name(reproduced: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(reproduced, repository, symlinks=True)
    assert dvc(repository, "remote", "add", "--default", "store", str(tmp_path / "store")).returncode == 0
    git(repository, "add", "dvc.lock", ".dvc/config")
    git(repository, "commit", "--quiet", "--message=train")
    git(repository, "tag", "-a", "detector@v1.0.0", "-m", "first")
    pushed = dvc(repository, "push")
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr
    fetched = dvc(tmp_path, "artifacts", "get", str(repository), "detector", "--out", "fetched")
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    model = next(path for path in (tmp_path / "fetched", tmp_path / "fetched" / "models" / "ssd.pt") if path.is_file())
    assert model.read_bytes() == (reproduced / "models" / "ssd.pt").read_bytes()
