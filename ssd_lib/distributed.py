"""One code path for one process and for many."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ssd_lib.errors import StateError, Stopped

TIMEOUT = timedelta(minutes=30)  # a first validation on a slow disk may keep the others waiting


def process_count(processes: int | str, device: str) -> int:
    """`runtime.processes` as a number: "auto" is one for each GPU, and one on the CPU or where one GPU is named."""
    if processes != "auto":
        return int(processes)
    return max(1, torch.cuda.device_count()) if device in ("auto", "cuda") else 1


def rank_and_size() -> tuple[int, int]:
    """Which of how many processes this is."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of everybody's `tensor`."""
    if dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def launch(function: Callable[..., Any], processes: int, *arguments: Any) -> Any:
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
        return elastic_launch(config, _in_group)(function, *arguments)[0]
    except SignalException as error:
        raise Stopped(f"stopped by {error.sigval.name}; the checkpoint is saved. The same command goes on from there.",
                      error.sigval) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        raise StateError(f"training process {rank} failed: {failure.message}") from error


def _in_group(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in one of several processes that the agent started: join the group, work, leave it."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()
