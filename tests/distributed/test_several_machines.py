"""Two machines: two network namespaces with a virtual cable, where they can be made, or two agents on the loopback."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from support.tiny_run import assert_same_weights, ended, make_workspace, set_params, set_runtime, start_stage

from ssd_lib.checkpoint.file import LAST, read_checkpoint
from ssd_lib.distributed import group as group_module

NEW_NETWORK = 0x40000000  # CLONE_NEWNET in <linux/sched.h>
LAST_PATH = Path("models/checkpoints") / LAST


@pytest.fixture(scope="module")
def namespaces() -> Iterator[list[str]]:
    """Make two namespaces, with the addresses 10.77.0.1 and 10.77.0.2."""
    names = [f"ssd{os.getpid()}{letter}" for letter in "ab"]
    a, b = names
    lines = [f"netns add {a}", f"netns add {b}", f"link add veth0 netns {a} type veth peer name veth0 netns {b}"]
    for number, name in enumerate(names, start=1):
        lines += [f"-n {name} {what}"
                  for what in (f"addr add 10.77.0.{number}/24 dev veth0", "link set veth0 up", "link set lo up")]
    try:
        for line in lines:
            try:
                subprocess.run(["ip", *line.split()], check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"network namespaces cannot be made here: {getattr(error, 'stderr', '') or error}")
        yield names
    finally:
        for name in names if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture
def loopback() -> str:
    """Return a free address of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _machines(folder: Path, address: str, **train_keys: Any) -> tuple[Path, Path]:
    """Make two workspaces with the same content: two epochs of three steps."""
    folders = folder / "first", folder / "other"
    for one in folders:
        make_workspace(one)
        set_params(one, **train_keys)
        set_runtime(one, "nodes: 1", "nodes: 2")
        set_runtime(one, "rendezvous: auto", f"rendezvous: {address}")
    return folders


def _start(folder: Path, options: Sequence[str] = (), namespace: str = "", kill_at: str | None = None,
           join_s: float = group_module.JOIN_TIMEOUT_S) -> BaseProcess:
    return start_stage(folder, kill_at, options=options, prepare=partial(_enter, namespace, join_s))


def _enter(namespace: str, join_s: float) -> None:
    group_module.JOIN_TIMEOUT_S = join_s
    if namespace:
        file = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        assert ctypes.CDLL(None, use_errno=True).setns(file, NEW_NETWORK) == 0


def _files(folder: Path) -> set[str]:
    of_the_test = {"stdout", "stderr", "struck"}
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - of_the_test


@pytest.mark.slow
def test_two_machines_stopped_by_one_continue_to_the_weights_of_one_machine(tmp_path: Path, namespaces: list[str],
                                                                             two_processes: Path) -> None:
    first, other = _machines(tmp_path, "10.77.0.1:29400")
    before = _files(other)
    helper = _start(other, ["--join"], namespaces[1], kill_at="after-step-2:SIGINT:all-of-rank-1")
    stopped = ended(_start(first, namespace=namespaces[0]), first)
    assert stopped.returncode == ended(helper, other).returncode == 128 + signal.SIGINT, stopped.stderr
    assert read_checkpoint(first / LAST_PATH).position == (0, 3)
    helper = _start(other, ["--join"], namespaces[1])
    done = ended(_start(first, namespace=namespaces[0]), first)
    assert done.returncode == 0, done.stderr
    assert "continuing at epoch 1/2, step 3" in done.stdout
    helped = ended(helper, other)
    assert helped.returncode == 0, helped.stderr
    assert "train: the run is complete; the model is on the first machine, 10.77.0.1:29400" in helped.stdout
    assert _files(other) == before
    assert_same_weights(first, two_processes)


@pytest.mark.slow
@pytest.mark.parametrize("dying", ["first", "other"])
def test_a_death_on_either_machine_restarts_both(tmp_path: Path, loopback: str, two_processes: Path, dying: str) -> None:
    first, other = _machines(tmp_path, loopback, checkpoint_minutes=1e-9)
    points = {"first": ("after-step-4:SIGKILL:rank-0", None), "other": (None, "after-step-4:SIGKILL:rank-1")}[dying]
    helper = _start(other, ["--join"], kill_at=points[1])
    done = ended(_start(first, kill_at=points[0]), first)
    assert done.returncode == ended(helper, other).returncode == 0, done.stderr
    assert done.stdout.count("a training process died; restart 1 of at most 3") == 1
    assert_same_weights(first, two_processes)


@pytest.mark.slow
def test_other_parameters_or_data_are_reported_on_both_machines(tmp_path: Path, loopback: str) -> None:
    first, other = _machines(tmp_path, loopback)
    set_runtime(other, "lr: 0.01", "lr: 0.02")
    with (other / "data" / "fixed" / "train.json").open("a") as file:
        file.write(" ")
    helper = _start(other, ["--join"])
    for refused in (ended(_start(first), first), ended(helper, other)):
        assert refused.returncode == 1
        assert "these differ: train.lr: 0.01 -> 0.02; the bytes of data/fixed." in refused.stderr
        assert refused.stderr.count("ERROR") == 1
        assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_a_machine_that_waits_too_long_names_the_missing_one(tmp_path: Path, loopback: str) -> None:
    first, other = _machines(tmp_path, loopback)
    alone = ended(_start(other, ["--join"], join_s=1), other)
    assert alone.returncode == 1
    assert f"nothing answers at {loopback} for 1 s" in alone.stderr
    alone = ended(_start(first, join_s=1), first)
    assert alone.returncode == 1
    assert f"runtime.nodes is 2, but fewer machines came to {loopback} in 1 s" in alone.stderr
    assert "Traceback" not in alone.stderr


def test_join_is_refused_with_a_single_machine(workspace: Path) -> None:
    refused = ended(_start(workspace, ["--join"]), workspace)
    assert "runtime.nodes is 1; --join needs 2 or more" in refused.stderr
