"""Who trains together."""

from dataclasses import dataclass

import torch

from ssd_lib.errors import InputError
from ssd_lib.params import RuntimeParams


@dataclass(frozen=True)
class Group:
    """Who trains together.

    Attributes:
        processes: of each machine.
        nodes: machines.
        address: where they meet, HOST:PORT; one machine takes any free port of its own.
        joins: whether this is one of the other machines, which write nothing.
        on_gpu: whether each process has a GPU.
        max_restarts: how often all start again when one dies.
    """

    processes: int = 1
    nodes: int = 1
    address: str = "127.0.0.1:0"
    joins: bool = False
    on_gpu: bool = False
    max_restarts: int = 0


def make_group(runtime: RuntimeParams, batch_size: int, joins: bool) -> Group:
    """Who trains together, as params.yaml says.

    Raises:
        InputError: the batch or the GPUs cannot be shared as asked, or there is nothing to join.
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
    """How many processes of each machine share a batch.

    Args:
        processes: `runtime.processes`; "auto" is one for each GPU, or fewer where the batch cannot be cut so; one on the
            CPU, or where one GPU is named.
        device: `runtime.device`.
        batch_size: images a step, over all processes; each needs two at least, for batch norm.
        nodes: machines.

    Raises:
        InputError: the batch or the GPUs cannot be shared as asked.
    """
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if processes == "auto":
        count = max((n for n in range(1, gpus + 1) if _can_share(batch_size, n * nodes)), default=1)
    else:
        count = int(processes)
    total = count * nodes
    if not _can_share(batch_size, total):
        raise InputError(f"params.yaml: train.batch_size is {batch_size}; {total} processes need a multiple of {total}, and at "
                         f"least {2 * total}.")
    if count > 1 and device != "cpu" and torch.cuda.is_available() and count > gpus:
        raise InputError(f"params.yaml: runtime.processes is {count}, and runtime.device: {device} leads to {gpus} GPU(s); "
                         "each process needs one of its own. Lower it, or set runtime.device: cpu.")
    return count


def _can_share(batch_size: int, processes: int) -> bool:
    return batch_size % processes == 0 and batch_size >= 2 * processes
