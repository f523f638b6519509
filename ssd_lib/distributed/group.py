"""Which processes train together, and the run store, which outlives them.

The run store is a TCPStore that all processes of a run can reach, on all machines. It is served by the process that starts the
others (the stage, or torchrun), so it survives restarts and records how the run ends: processes that are started after that end
at once.
"""

import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist

from ssd_lib.errors import InputError, StateError, Stopped, first_line
from ssd_lib.params import RuntimeParams

JOIN_TIMEOUT_S = 900  # how long machines wait for each other
TRY_S = 2  # one attempt to reach the first machine; signals are handled between two attempts
TIMEOUT = timedelta(minutes=30)  # of a collective operation: the first validation may be slow
OUTCOME, REPORTS = "outcome", "reports"
ERRORS: dict[str, type[Exception]] = {"InputError": InputError, "StateError": StateError}


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Attributes:
        processes: number of processes on this machine.
        nodes: number of machines.
        address: HOST:PORT of the run store; a single machine takes any free port.
        joins: whether this process only takes part: another one writes checkpoints, model and reports.
        on_gpu: whether each process has a GPU.
        max_restarts: how often all processes are started again when one dies.
        restart: how often they have been started again.
        has_launcher: whether torchrun or srun started this process, and not our own agent.
    """

    processes: int = 1
    nodes: int = 1
    address: str = "127.0.0.1:0"
    joins: bool = False
    on_gpu: bool = False
    max_restarts: int = 0
    restart: int = 0
    has_launcher: bool = False


def make_group(runtime: RuntimeParams, batch_size: int, joins: bool) -> Group:
    """Return the group that params.yaml describes.

    Raises:
        InputError: the batch or the GPUs cannot be shared like this, or there is nothing to join.
    """
    if joins and runtime.nodes == 1:
        raise InputError("params.yaml: runtime.nodes is 1; --join needs 2 or more. Copy params.yaml from the first machine.")
    return Group(
        processes=process_count(runtime.processes, runtime.device, batch_size, runtime.nodes),
        nodes=runtime.nodes,
        address=runtime.rendezvous if runtime.nodes > 1 else Group.address,
        joins=joins,
        on_gpu=runtime.device != "cpu" and torch.cuda.is_available(),
        max_restarts=runtime.max_restarts)


def process_count(processes: int | str, device: str, batch_size: int, nodes: int = 1) -> int:
    """Return how many processes of each machine share a batch.

    Args:
        processes: `runtime.processes`; "auto" is one for each GPU, or fewer if the batch is not divisible; one on the
            CPU, or if a GPU is named.
        device: `runtime.device`.
        batch_size: images of a step, over all processes; each process needs at least two, for batch norm.
        nodes: number of machines.

    Raises:
        InputError: the batch or the GPUs cannot be shared like this.
    """
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if processes == "auto":
        count = max((n for n in range(1, gpus + 1) if _can_share(batch_size, n * nodes)), default=1)
    else:
        count = int(processes)
    check_batch_size(batch_size, count * nodes)
    if count > 1 and device != "cpu" and torch.cuda.is_available() and count > gpus:
        raise InputError(f"params.yaml: runtime.processes is {count}, and runtime.device: {device} gives {gpus} GPU(s); "
                         "each process needs its own. Lower it, or set runtime.device: cpu.")
    return count


def check_batch_size(batch_size: int, processes: int) -> None:
    """Raise InputError unless so many processes can share a batch."""
    if not _can_share(batch_size, processes):
        raise InputError(f"params.yaml: train.batch_size is {batch_size}; {processes} processes need a multiple of "
                         f"{processes}, and at least {2 * processes}.")


def _can_share(batch_size: int, processes: int) -> bool:
    return batch_size % processes == 0 and batch_size >= 2 * processes


class RunOutcome(NamedTuple):
    """Why a run ended before it was complete: `kind` is "Stopped" (by a signal) or a key of ERRORS."""

    kind: str
    message: str
    signal_number: int = 0

    def as_error(self) -> Exception:
        """Return the exception that the stage raises."""
        return Stopped(self.message, self.signal_number) if self.kind == "Stopped" else ERRORS[self.kind](self.message)


def open_run_store(address: str, serves: bool, setting: str, hint: str) -> dist.TCPStore:
    """Serve the run store, or connect to it.

    Args:
        address: HOST:PORT.
        serves: whether this process is the server.
        setting, hint: for error messages: where the address comes from, and what to do if nothing answers.

    Raises:
        StateError: the address is not free, or nothing answers for JOIN_TIMEOUT_S seconds.
    """
    host, port = split_address(address)
    if serves:
        try:
            return dist.TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True, timeout=TIMEOUT)
        except (RuntimeError, OSError) as error:
            raise StateError(f"{setting}: cannot listen at {address}: {first_line(error)}. It must be an address and a free "
                             "port of this machine.") from error
    deadline = time.monotonic() + JOIN_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), TRY_S).close()
            return dist.TCPStore(host, port, is_master=False, timeout=TIMEOUT)
        except (RuntimeError, OSError) as error:
            reason = first_line(error)
            time.sleep(TRY_S)
    raise StateError(f"{setting}: nothing answers at {address} for {JOIN_TIMEOUT_S:.0f} s ({reason}). {hint}")


def record_outcome(store: dist.Store, outcome: RunOutcome) -> bool | None:
    """Record how the run ends; the first report counts.

    Returns:
        Whether this is the first report; None if the store is unreachable because the process that served it has ended.
    """
    with suppress(RuntimeError):
        store.compare_set(OUTCOME, "", json.dumps(outcome))
        return store.add(REPORTS, 1) == 1
    return None


def read_outcome(store: dist.Store) -> RunOutcome | None:
    """Return how the run ended; None while it goes on, or if the store is unreachable."""
    with suppress(RuntimeError):
        if store.check([OUTCOME]):
            return RunOutcome(*json.loads(store.get(OUTCOME)))
    return None


def split_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT."""
    host, _, port = address.rpartition(":")
    return host, int(port)
