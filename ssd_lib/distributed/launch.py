"""Start the training processes of this machine and watch them, with torchrun's elastic agent.

When a process dies, all are started again, on all machines. An InputError, a StateError or a stop signal ends the run.
"""

import logging
import multiprocessing
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from types import FrameType
from typing import Any

import torch.distributed as dist

from ssd_lib.distributed import group as group_module
from ssd_lib.distributed.group import Group, RunOutcome, open_run_store, read_outcome, record_outcome, split_address
from ssd_lib.distributed.worker import work
from ssd_lib.errors import StateError, Stopped
from ssd_lib.processes import STOP_SIGNALS

ALL_ENDED = "all training processes have ended. The same command continues from the last checkpoint."
START_METHOD = "spawn"  # a fork of a process that has computed in several threads cannot compute
GRACE_S = 120  # after a stop signal: enough for a step and a checkpoint
SIOCGIFADDR = 0x8915  # get the address of an interface, <linux/sockios.h>


def launch(function: Callable[..., str], group: Group, *arguments: Any) -> str:
    """Call `function(*arguments, group)` in every process of the group, and return the result of the first one of this machine.

    A process that torchrun or srun started, and a single process, call the function themselves.

    Raises:
        Stopped: by a signal; all processes have ended.
        InputError, StateError: a process raised it; or one died too often, or another machine is not there.
    """
    if group.has_launcher or group.processes * group.nodes == 1:
        return function(*arguments, group)
    if group.joins:
        print(f"waiting for the first machine at {group.address}, {group_module.JOIN_TIMEOUT_S // 60} minutes at most",
              flush=True)
    store = open_run_store(group.address, serves=not group.joins, setting="runtime.rendezvous",
                           hint="Start `dvc repro` on the first machine, check that its port is open, then run the same "
                                "command again.")
    with _forward_stop_signals(store):
        results = _run_agent(function, group, store, arguments)
    first = results[min(results)]
    if isinstance(first, RunOutcome):
        raise first.as_error()
    return first


def _run_agent(function: Callable[..., str], group: Group, store: dist.TCPStore, arguments: tuple[Any, ...]
               ) -> dict[int, str | RunOutcome]:
    """Return the results of the processes of this machine, by rank."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    host, port = split_address(group.address)
    port = port or store.port
    config = LaunchConfig(
        min_nodes=group.nodes, max_nodes=group.nodes, nproc_per_node=group.processes, run_id="train", rdzv_backend="c10d",
        rdzv_endpoint=f"{host}:{port}", local_addr=_own_address(host), max_restarts=group.max_restarts,
        rdzv_configs={"is_host": not group.joins, "join_timeout": group_module.JOIN_TIMEOUT_S}, start_method=START_METHOD,
        **_agent_options(LaunchConfig))
    _prepare_environment(group, _own_address(host))
    try:
        return elastic_launch(config, work)(function, group, host, port, *arguments)
    except (ChildFailedError, RendezvousError, dist.DistError) as error:
        if (outcome := read_outcome(store)) is not None:
            raise outcome.as_error() from error
        raise (_death(error, group) if isinstance(error, ChildFailedError) else _lost_machine(error, group)) from error


def _death(error: Any, group: Group) -> StateError:
    """Return the error for processes that die too often."""
    rank, failure = error.get_first_failure()
    text = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    hint = " Usually memory ran out: lower runtime.workers or train.batch_size." if failure.exitcode < 0 else ""
    return StateError(f"training process {rank} died, after {group.max_restarts} restarts: {' '.join(str(text).split())}."
                      f"{hint} The same command continues from the last checkpoint.")


def _lost_machine(error: Exception, group: Group) -> StateError:
    """Return the error for a machine that never joined or was lost."""
    if group.joins:
        return StateError(f"the first machine, at {group.address}, was lost ({type(error).__name__}). It has the checkpoints: "
                          "start training there again, then run the same command here.")
    return StateError(f"runtime.nodes is {group.nodes}, but fewer machines came to {group.address} in "
                      f"{group_module.JOIN_TIMEOUT_S:.0f} s ({type(error).__name__}). Run `python -m stages.train --join` on "
                      f"the others, or set runtime.nodes to 1; the same command continues.")


def _agent_options(config: type) -> dict[str, Any]:
    """Return the options that only some versions of torch have.

    The agent must handle a signal: here Ctrl-\\, which saves nothing.
    """
    wanted = {"signals_to_handle": "SIGQUIT" if hasattr(signal, "SIGQUIT") else "SIGBREAK", "shutdown_timeout": GRACE_S}
    known = {field.name for field in fields(config)}
    return {key: value for key, value in wanted.items() if key in known}


def _prepare_environment(group: Group, address: str) -> None:
    """Set what the processes and the agent read from the environment."""
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # restarted processes would read keys of the ones before
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each process would print warnings that do not matter here
    for name in logging.root.manager.loggerDict:
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # we report a death ourselves, in one line
    if group.nodes > 1 and (interface := _interface(address)):
        for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(key, interface)


def _own_address(host: str) -> str:
    """Return the address of this machine that `host` sees. The host name, gloo's default, often resolves to the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        return str(probe.getsockname()[0])


def _interface(address: str) -> str:
    """Return the name of the interface with this IPv4 address; empty if it is not known."""
    if not sys.platform.startswith("linux"):
        return ""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                reply = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(reply[20:24]) == address:
                return name
    return ""


@contextmanager
def _forward_stop_signals(store: dist.TCPStore) -> Iterator[None]:
    """Forward a stop signal to the processes, which save and return. A second one ends the run at once."""
    is_stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_stopping
        workers = multiprocessing.active_children()
        record_outcome(store, RunOutcome("Stopped", ALL_ENDED, number))
        if is_stopping or not workers:
            raise Stopped(ALL_ENDED, number)
        is_stopping = True
        with suppress(OSError):  # the terminal may be closed
            os.write(2, f"\n{signal.Signals(number).name}: saving a checkpoint after this step...\n".encode())
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid or 0, number)

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
