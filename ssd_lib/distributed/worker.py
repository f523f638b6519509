"""One of the processes of a group: how it joins, works and leaves."""

import os
import signal
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from ssd_lib.distributed.group import Group
from ssd_lib.distributed.run_store import TIMEOUT, RunOutcome, end, read_ending
from ssd_lib.errors import InputError, StateError, Stopped
from ssd_lib.processes import die_with_parent

ROUNDS, FIRST = "rounds", "first"


def work(function: Callable[..., str], group: Group, host: str, port: int, *arguments: Any) -> str | RunOutcome:
    """What the agent starts: join the group, call `function(*arguments, restart)`, leave.

    One that a signal stops returns, as all others do after the same step. One with a fault fails: the agent then ends the
    others, wherever they wait, and the next round returns what it was.
    """
    die_with_parent(signal.SIGTERM)
    desk = dist.TCPStore(host, port, is_master=False, timeout=TIMEOUT)
    if (ending := read_ending(desk)) is not None:
        return ending
    if group.on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // group.processes))
    try:
        restart, _store = _join(group, desk)  # which others may still be reading
        return function(*arguments, restart)
    except Stopped as stop:
        ending = RunOutcome("Stopped", stop.message, stop.signal_number)
        end(desk, ending)
        return ending
    except (InputError, StateError) as error:
        end(desk, RunOutcome(type(error).__name__, str(error)))
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _join(group: Group, desk: dist.TCPStore) -> tuple[int, dist.TCPStore]:
    """Join this round of the group; which restart it is, and this round's store.

    Rank 0 is on the first machine: torchrun gives ranks to machines in any order, so all are turned round. The store that it
    offers serves to say by how much; what a round says is kept at the desk under the round's number.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, rank == 0, TIMEOUT,
                          wait_for_workers=False)
    if not group.joins and os.environ["LOCAL_RANK"] == "0":
        store.set(FIRST, f"{rank} {desk.add(ROUNDS, 1)}")
    first, this_round = map(int, store.get(FIRST).split())
    dist.init_process_group("nccl" if group.on_gpu else "gloo", timeout=TIMEOUT, rank=(rank - first) % size, world_size=size,
                            store=dist.PrefixStore(f"round {this_round}", desk))
    if size != group.nodes * group.processes:
        raise InputError(f"params.yaml: {size} processes on {group.nodes} machines, and {group.processes} on one of them; each "
                         "needs as many. Set runtime.processes to the same number on all.")
    return this_round - 1, store
