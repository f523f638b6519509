"""Training processes that torchrun starts, or a script as srun does, are the same run as those of the stage."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.tiny_run import assert_same_weights, make_workspace, set_params

from ssd_lib.checkpoint.file import CHECKPOINTS, LAST, read_checkpoint
from ssd_lib.distributed.worker import LAUNCHER_VARIABLES, has_launcher
from ssd_lib.errors import InputError


def _environment(**variables: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in (*LAUNCHER_VARIABLES, "DVC_ROOT")}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), **variables}


def _torchrun(folder: Path, *options: str, processes: int = 2, kill_at: str = "") -> subprocess.CompletedProcess[str]:
    module = "support.launched_train" if kill_at else "stages.train"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *options]
    return subprocess.run([*command, "-m", module], cwd=folder, env=_environment(KILL_AT=kill_at), capture_output=True,
                          text=True,
                          timeout=300, check=False)


def _by_hand(folder: Path) -> list[subprocess.CompletedProcess[str]]:
    """Run two processes with the variables that torchrun would set."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [subprocess.Popen([sys.executable, "-m", "stages.train"], cwd=folder, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, env=_environment(RANK=rank, LOCAL_RANK=rank, **group))
                 for rank in "01"]
    outputs = [process.communicate(timeout=300) for process in processes]
    return [subprocess.CompletedProcess(process.args, process.returncode, *output)
            for process, output in zip(processes, outputs, strict=True)]


def test_torchrun_stopped_by_a_signal_to_one_worker_continues_to_the_weights_of_the_stage(tmp_path: Path,
                                                                                          two_processes: Path) -> None:
    make_workspace(tmp_path)
    stopped = _torchrun(tmp_path, kill_at="after-step-2:SIGUSR1:rank-1")
    assert stopped.returncode == 1  # torchrun's own
    assert stopped.stderr.count("stopped by SIGUSR1 at epoch 1/2, step 3/3; saved in models/checkpoints") == 1
    assert f"exitcode  : {128 + signal.SIGUSR1}" in stopped.stderr
    assert read_checkpoint(tmp_path / CHECKPOINTS / LAST).position == (0, 3)
    done = _torchrun(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ignored" in done.stdout
    assert done.stdout.count("continuing at epoch 1/2, step 3") == 1
    assert done.stdout.count("train: 2 epochs of 12 images") == 1
    assert_same_weights(tmp_path, two_processes)


def test_a_batch_that_the_processes_cannot_share_is_refused_in_one_line(tmp_path: Path) -> None:
    refused = _torchrun(make_workspace(tmp_path), processes=3)
    assert refused.returncode == 1
    assert refused.stderr.count("ERROR") == 1
    assert "ERROR params.yaml: train.batch_size is 4; 3 processes need a multiple of 3, and at least 6." in refused.stderr
    assert "stages/train.py" not in refused.stderr  # a line of a traceback of ours


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_torchrun_stops_all_workers_with_a_checkpoint(tmp_path: Path, name: str) -> None:
    make_workspace(tmp_path)
    stopped = _torchrun(tmp_path, kill_at=f"after-step-2:{name}:parent-of-rank-1")
    assert stopped.returncode != 0
    assert stopped.stderr.count("saved in models/checkpoints. The same command continues from there.") == 1
    assert (0, 2) < read_checkpoint(tmp_path / CHECKPOINTS / LAST).position < (2, 0)


@pytest.mark.slow
def test_torchrun_restarts_a_killed_worker_from_the_last_checkpoint(tmp_path: Path, two_processes: Path) -> None:
    set_params(make_workspace(tmp_path), checkpoint_minutes=1e-9)
    done = _torchrun(tmp_path, "--max-restarts=2", kill_at="after-saved-step-4:SIGKILL:rank-1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a training process died; restart 1 of at most 2") == 1
    assert "continuing at epoch" in done.stdout
    assert_same_weights(tmp_path, two_processes)


@pytest.mark.slow
def test_a_stop_signal_ends_a_run_that_torchrun_may_restart(tmp_path: Path) -> None:
    stopped = _torchrun(make_workspace(tmp_path), "--max-restarts=1", kill_at="after-step-2:SIGTERM:rank-0")
    assert stopped.returncode == 1
    assert f"exitcode  : {128 + signal.SIGTERM}" in stopped.stderr
    assert read_checkpoint(tmp_path / CHECKPOINTS / LAST).position == (0, 3)


@pytest.mark.slow
def test_one_process_of_torchrun_stops_and_continues(tmp_path: Path, never_stopped: Path) -> None:
    stopped = _torchrun(make_workspace(tmp_path), processes=1, kill_at="after-step-2:SIGTERM:rank-0")
    assert stopped.stderr.count("stopped by SIGTERM at epoch 1/2, step 2/3") == 1
    assert _torchrun(tmp_path, processes=1).returncode == 0
    assert_same_weights(tmp_path, never_stopped)


@pytest.mark.slow
def test_variables_set_by_hand_start_the_same_run(tmp_path: Path, two_processes: Path) -> None:
    """What `srun` does, with RANK from SLURM_PROCID and so on."""
    first, second = _by_hand(make_workspace(tmp_path))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "train: 2 epochs of 12 images" in first.stdout
    assert not second.stdout
    assert_same_weights(tmp_path, two_processes)


@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_is_reported_once(tmp_path: Path) -> None:
    broken = make_workspace(tmp_path) / "data" / "raw" / "tiny" / "train" / "5.png"
    broken.write_bytes(bytes(broken.stat().st_size))
    both = _by_hand(tmp_path)
    assert [process.returncode for process in both] == [1, 1]
    errors = "".join(process.stderr for process in both)
    assert "5.png" in errors
    assert "Traceback" not in errors


def test_all_variables_of_a_launcher_are_needed() -> None:
    everything = dict.fromkeys(LAUNCHER_VARIABLES, "0")
    assert has_launcher(everything)
    assert not has_launcher({"MASTER_ADDR": "somewhere"})
    with pytest.raises(InputError, match="RANK or WORLD_SIZE is set, but not LOCAL_RANK, MASTER_ADDR;"):
        has_launcher({name: "0" for name in LAUNCHER_VARIABLES if name not in ("LOCAL_RANK", "MASTER_ADDR")})
