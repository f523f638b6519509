"""Starts the training processes of this machine and watches them, by torchrun's elastic agent. When one dies all start again,
on all machines; a fault of the user's and a stop signal end the whole."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from types import FrameType
from typing import Any

import torch.distributed as dist

from ssd_lib.distributed import run_store as run_store_module
from ssd_lib.distributed.group import Group
from ssd_lib.distributed.network import own_address, use_interface
from ssd_lib.distributed.run_store import RunOutcome, end, open_run_store, read_ending, split_address
from ssd_lib.distributed.worker import work
from ssd_lib.errors import StateError, Stopped

AGAIN = "all training processes have ended. The same command continues from the last checkpoint."
START_METHOD = "spawn"  # a fork of a process that has computed in several threads cannot compute
GRACE_S = 120  # a step and a save take no longer
STOP_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


def launch(function: Callable[..., str], group: Group, *arguments: Any) -> str:
    """Call `function(*arguments, restart)` in every process of the group, and give what the first one of this machine returns.

    `restart` counts how often all have started again.

    Raises:
        Stopped: by a signal; all processes have ended.
        InputError, StateError: a process raised it; or one died too often, or another machine is not there.
    """
    if group.processes * group.nodes == 1:
        return function(*arguments, 0)
    desk = open_run_store(group)
    with _stop_signals(desk):
        results = _run_agent(function, group, desk, arguments)
    first = results[min(results)]
    if isinstance(first, RunOutcome):
        raise first.as_error()
    return first


def _run_agent(function: Callable[..., str], group: Group, desk: dist.TCPStore, arguments: tuple[Any, ...]
               ) -> dict[int, str | RunOutcome]:
    """What the processes of this machine return, by rank."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    host, port = split_address(group.address)
    port = port or desk.port
    config = LaunchConfig(
        min_nodes=group.nodes, max_nodes=group.nodes, nproc_per_node=group.processes, run_id="train", rdzv_backend="c10d",
        rdzv_endpoint=f"{host}:{port}", local_addr=own_address(host), max_restarts=group.max_restarts,
        rdzv_configs={"is_host": not group.joins, "join_timeout": run_store_module.JOIN_TIMEOUT_S}, start_method=START_METHOD,
        **_agent_options(LaunchConfig))
    _prepare_environment(group, own_address(host))
    try:
        return elastic_launch(config, work)(function, group, host, port, *arguments)
    except (ChildFailedError, RendezvousError, dist.DistError) as error:
        if (ending := read_ending(desk)) is not None:
            raise ending.as_error() from error
        raise (_death(error, group) if isinstance(error, ChildFailedError) else _lost(error, group)) from error


def _death(error: Any, group: Group) -> StateError:
    """What is said when processes die too often."""
    rank, failure = error.get_first_failure()
    said = failure.message["message"] if isinstance(failure.message, dict) else failure.message
    hint = " Most often memory ran out: set runtime.workers or train.batch_size lower." if failure.exitcode < 0 else ""
    return StateError(f"training process {rank} died, after {group.max_restarts} restarts: {' '.join(str(said).split())}."
                      f"{hint} The same command continues from the last checkpoint.")


def _lost(error: Exception, group: Group) -> StateError:
    """What is said when another machine is not there, or no more."""
    if group.joins:
        return StateError(f"the first machine, at {group.address}, has gone ({type(error).__name__}). It has the checkpoints: "
                          "start training there again, then run the same command here.")
    return StateError(f"runtime.nodes is {group.nodes}, and not as many machines came to {group.address} in "
                      f"{run_store_module.JOIN_TIMEOUT_S:.0f} s ({type(error).__name__}). Run `python -m stages.train --join` on the "
                      "others, or set runtime.nodes to 1; the same command continues.")


def _agent_options(config: type) -> dict[str, Any]:
    """Options that not every version of torch has. A signal must be given: Ctrl-\\ ends all without saving."""
    wanted = {"signals_to_handle": "SIGQUIT" if hasattr(signal, "SIGQUIT") else "SIGBREAK", "shutdown_timeout": GRACE_S}
    known = {field.name for field in fields(config)}
    return {key: value for key, value in wanted.items() if key in known}


def _prepare_environment(group: Group, address: str) -> None:
    """What the processes, and the agent, read there."""
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # a restarted group would read what the one before has written
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each process would warn of what is meant so
    for name in logging.root.manager.loggerDict:
        if name.startswith(("torch.distributed.elastic", "torch.multiprocessing")):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # a death is told by us, in a line
    if group.nodes > 1:
        use_interface(address)


@contextmanager
def _stop_signals(desk: dist.TCPStore) -> Iterator[None]:
    """Pass a stop signal on to the processes, which save and return. A second one ends all at once."""
    is_asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_asked
        workers = multiprocessing.active_children()
        end(desk, RunOutcome("Stopped", AGAIN, number))
        if is_asked or not workers:
            raise Stopped(AGAIN, number)
        is_asked = True
        with suppress(OSError):  # the terminal may be gone
            os.write(2, f"\n{signal.Signals(number).name}: saving a checkpoint after this step...\n".encode())
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid or 0, number)

    numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
