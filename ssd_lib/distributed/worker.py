"""One of several training processes: how it joins the group, works and leaves.

Our own agent starts it with `work`. torchrun, srun or a script starts `python -m stages.train` itself, in each process; these
find RANK and the like in their environment and use `run_under_launcher`.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from types import FrameType
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist

from ssd_lib.distributed import group as group_module
from ssd_lib.distributed.collectives import POLL_S, all_gather_object, wake_up_others
from ssd_lib.distributed.group import TIMEOUT, Group, RunOutcome, check_batch_size, open_run_store, read_outcome, record_outcome
from ssd_lib.errors import InputError, ReportedElsewhere, StateError, Stopped, memory_as_state_error, print_messages
from ssd_lib.params import RuntimeParams
from ssd_lib.processes import STOP_SIGNALS, die_with_parent, secure_output

ROUNDS, FIRST = "rounds", "first"
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def work(function: Callable[..., str], group: Group, host: str, port: int, *arguments: Any) -> str | RunOutcome:
    """Join the group, call `function(*arguments, group)`, leave: what our agent starts.

    After a stop signal every process returns, after the same step. A process with an error raises it: the agent then ends the
    others, wherever they wait, and the next round returns the error at once.
    """
    secure_output()
    die_with_parent(signal.SIGTERM)
    store = dist.TCPStore(host, port, is_master=False, timeout=TIMEOUT)
    if (outcome := read_outcome(store)) is not None:
        return outcome
    if group.on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        with memory_as_state_error():
            restart, _round_store = _join(group, store)  # keep it: other processes may still read from it
            return function(*arguments, replace(group, restart=restart))
    except Stopped as stop:
        outcome = RunOutcome("Stopped", stop.message, stop.signal_number)
        record_outcome(store, outcome)
        return outcome
    except (InputError, StateError) as error:
        record_outcome(store, RunOutcome(type(error).__name__, str(error)))
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(group: Group, run_store: dist.TCPStore) -> tuple[int, dist.TCPStore]:
    """Join this round of the group; return the number of restarts, and the store of this round.

    Rank 0 must be on the first machine, but the agent gives ranks to machines in any order. So all ranks are rotated: the first
    machine writes its offset to a store that exists for this round only.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, rank == 0, TIMEOUT,
                          wait_for_workers=False)
    if not group.joins and os.environ["LOCAL_RANK"] == "0":
        store.set(FIRST, f"{rank} {run_store.add(ROUNDS, 1)}")
    first, this_round = map(int, store.get(FIRST).split())
    dist.init_process_group("nccl" if group.on_gpu else "gloo", timeout=TIMEOUT, rank=(rank - first) % size, world_size=size,
                            store=dist.PrefixStore(f"round {this_round}", run_store))
    if size != group.nodes * group.processes:
        raise InputError(f"params.yaml: {size} processes on {group.nodes} machines, and {group.processes} on one of them; each "
                         "machine needs the same number. Set runtime.processes to the same number on all.")
    return this_round - 1, store


def has_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether torchrun or the like has started this process as one of a group.

    Raises:
        InputError: some of the variables are set, but not all.
    """
    missing = [name for name in LAUNCHER_VARIABLES if name not in environment]
    if missing and ("RANK" in environment or "WORLD_SIZE" in environment):
        raise InputError(f"environment: RANK or WORLD_SIZE is set, but not {', '.join(missing)}; a training process needs "
                         f"{', '.join(LAUNCHER_VARIABLES)}. Set all, as torchrun does, or none.")
    return not missing


def run_under_launcher(function: Callable[[Group], str], runtime: RuntimeParams, batch_size: int) -> str:
    """Join the other processes that torchrun or the like has started, call `function(group)`, leave.

    All processes end after the same step with 128 + the number of the signal when one gets a stop signal. One process reports
    how the run ends; the others raise ReportedElsewhere. When torchrun starts them again after that, they end at once.

    Raises:
        Stopped, InputError, StateError: from `function`; or another process was not there, or was lost.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    print_messages(is_printing=rank == 0)
    is_served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store: dist.Store = open_run_store(
        f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}", serves=rank == 0 and not is_served,
        setting="MASTER_ADDR:MASTER_PORT", hint="It must be an address of the machine of rank 0, with an open port.")
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _stop_before_training)
    try:
        with memory_as_state_error():
            return function(_join_under_launcher(store, rank, size, runtime, batch_size))
    except Stopped as stop:
        for number in STOP_SIGNALS:  # torchrun sends SIGTERM as soon as the first process has ended
            signal.signal(number, signal.SIG_IGN)
        is_first = record_outcome(store, RunOutcome("Stopped", stop.message, stop.signal_number))
        if not (is_first or (is_first is None and rank == 0)):
            raise ReportedElsewhere(128 + stop.signal_number) from None
        raise
    except (InputError, StateError) as error:
        is_first = record_outcome(store, RunOutcome(type(error).__name__, str(error)))
        with suppress(RuntimeError):
            wake_up_others()
        if not is_first:
            raise ReportedElsewhere(1) from error
        raise
    except RuntimeError as error:  # gloo and NCCL raise it if another process has ended
        _raise_if_ended(store)
        if not isinstance(error, dist.DistError) and "gloo" not in str(error) and "onnection" not in str(error):
            raise
        raise StateError("another training process has died. The same command continues from the last checkpoint.") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _stop_before_training(number: int, frame: FrameType | None) -> None:
    raise Stopped("stopped before the first step. The same command continues from the last checkpoint.", number)


def _join_under_launcher(store: dist.Store, rank: int, size: int, runtime: RuntimeParams, batch_size: int) -> Group:
    _raise_if_ended(store)
    round_name = _meet(store, rank, size)
    check_batch_size(batch_size, size)
    on_gpu = runtime.device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(_own_gpu())
    if size > 1:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT, rank=rank, world_size=size,
                                store=dist.PrefixStore(round_name, store))
    machines = all_gather_object(socket.gethostname())
    processes = machines.count(machines[rank])
    if rank == 0:
        print(f"{size} processes by RANK and WORLD_SIZE; runtime.processes, nodes, rendezvous and max_restarts are ignored",
              flush=True)
    return Group(processes=processes, nodes=len(set(machines)), joins=rank > 0, on_gpu=on_gpu, has_launcher=True,
                 max_restarts=int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)),
                 restart=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)))


def _meet(store: dist.Store, rank: int, size: int) -> str:
    """Wait for all ranks, and return a name that no earlier round has had: torchrun's store keeps the keys of earlier rounds.

    Each rank writes an id of its process. Rank 0 answers to every id that it finds, also to one of a process that died, until
    all ranks have read the answer.
    """
    own_id, deadline = uuid4().hex, time.monotonic() + group_module.JOIN_TIMEOUT_S
    if rank > 0:
        store.set(f"id of {rank}", own_id)
    while time.monotonic() < deadline:
        _raise_if_ended(store)
        if rank > 0 and store.check([f"answer to {own_id}"]):
            round_name = store.get(f"answer to {own_id}").decode()
            store.set(f"{round_name} has {rank}", "")
            return round_name
        if rank == 0:
            for other in range(1, size):
                if store.check([f"id of {other}"]):
                    store.set(f"answer to {store.get(f'id of {other}').decode()}", own_id)
            if size == 1 or store.check([f"{own_id} has {other}" for other in range(1, size)]):
                return own_id
        time.sleep(POLL_S)
    raise StateError(f"WORLD_SIZE is {size}, but not all processes came in {group_module.JOIN_TIMEOUT_S:.0f} s. Start one for "
                     f"each RANK from 0 to {size - 1}.")


def _own_gpu() -> int:
    """Return the index of the GPU of this process: LOCAL_RANK, or 0 where srun shows each process only its own."""
    gpus, local_rank = torch.cuda.device_count(), int(os.environ["LOCAL_RANK"])
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun sets it, srun does not
    if local_size > gpus or local_rank >= gpus > 1:
        raise InputError(f"{max(local_size, local_rank + 1)} processes on a machine with {gpus} GPU(s); each needs its own. "
                         f"Start fewer processes, or set runtime.device: cpu.")
    return min(local_rank, gpus - 1)


def _raise_if_ended(store: dist.Store) -> None:
    """Raise ReportedElsewhere if another process, perhaps before a restart, has reported how the run ended."""
    if (outcome := read_outcome(store)) is not None:
        raise ReportedElsewhere(128 + outcome.signal_number if outcome.kind == "Stopped" else 1)
