"""One code path for one process and for many."""

import os
import re
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssd_lib.errors import InputError, StateError, Stopped
from ssd_lib.processes import die_with_parent

TIMEOUT = timedelta(minutes=30)  # a first validation on a slow disk may keep the others waiting


def process_count(processes: int | str, device: str, batch_size: int) -> int:
    """How many processes share a batch.

    Args:
        processes: `runtime.processes`; "auto" is one for each GPU, or fewer where the batch cannot be cut so; one on the
            CPU, or where one GPU is named.
        device: `runtime.device`.
        batch_size: images a step, over all processes; each needs two at least, for batch norm.

    Raises:
        InputError: the batch or the GPUs cannot be shared as asked.
    """
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if processes == "auto":
        return max(n for n in range(1, max(gpus, 1) + 1) if batch_size % n == 0 and (n == 1 or batch_size >= 2 * n))
    count = int(processes)
    if batch_size % count or batch_size < 2 * count:
        raise InputError(f"params.yaml: train.batch_size is {batch_size}; {count} processes need a multiple of {count}, and at "
                         f"least {2 * count}.")
    if count > 1 and device != "cpu" and torch.cuda.is_available() and count > gpus:
        raise InputError(f"params.yaml: runtime.processes is {count}, and runtime.device: {device} leads to {gpus} GPU(s); "
                         "each process needs one of its own. Lower it, or set runtime.device: cpu.")
    return count


def rank_and_size() -> tuple[int, int]:
    """Which of how many processes this is."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of everybody's `tensor`."""
    if dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def share_buffers(net: nn.Module) -> None:
    """Give every process the buffers of the first one (batch norm's statistics, which each gathers for itself)."""
    if dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)


def launch(function: Callable[..., Any], processes: int, on_gpu: bool, *arguments: Any) -> Any:
    """Call `function` in one process or in several, and give what the first one returns.

    Several processes are started and watched by torchrun's elastic agent.

    Raises:
        Stopped: the agent got a signal; the processes have ended.
        StateError: a process failed.
    """
    if processes == 1:
        return function(*arguments)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=processes, rdzv_backend="c10d",
                          rdzv_endpoint="localhost:0", max_restarts=0, start_method="spawn")
    try:
        return elastic_launch(config, _in_group)(function, on_gpu, *arguments)[0]
    except SignalException as error:
        raise Stopped(f"stopped by {error.sigval.name}. The same command continues from the last checkpoint.",
                      error.sigval) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        said = failure.message["message"] if isinstance(failure.message, dict) else failure.message
        raise StateError(f"training process {rank}: {re.sub(r'^(InputError|StateError): ', '', said)}") from error


def _in_group(function: Callable[..., Any], on_gpu: bool, *arguments: Any) -> Any:
    """Run in one of several processes that the agent started: join the group, work, leave it."""
    die_with_parent(signal.SIGTERM)
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()
