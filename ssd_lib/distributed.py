"""One code path for one process and for many."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssd_lib.errors import InputError, StateError, Stopped
from ssd_lib.processes import die_with_parent

AGAIN = "all training processes have ended. The same command continues from the last checkpoint."
EXIT_BY_SIGNAL = 128
POLL_S = 0.05
GRACE_S = 120
_MEETINGS = count()
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


def meet() -> None:
    """Wait until every process is here: in Python, which hears a signal, as a collective operation does not."""
    if dist.is_initialized():
        place = f"meeting {next(_MEETINGS)}"
        store = dist.distributed_c10d._get_default_store()
        store.add(place, 1)
        while store.add(place, 0) < dist.get_world_size():
            time.sleep(POLL_S)


def launch(function: Callable[..., str], processes: int, on_gpu: bool, *arguments: Any) -> str:
    """Call `function` in one process or in several, and give what the first one returns.

    Several processes are started and watched by torchrun's elastic agent.

    Raises:
        Stopped: by a signal; all processes have ended.
        StateError: a process failed.
    """
    if processes == 1:
        return function(*arguments)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each process would warn of what is meant so
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="train", rdzv_backend="c10d",
                          rdzv_endpoint="localhost:0", max_restarts=0, start_method="spawn", **_agent_options(LaunchConfig))
    try:
        return elastic_launch(config, _in_group)(function, on_gpu, *arguments)[0]
    except SignalException as error:
        raise Stopped(AGAIN, error.sigval) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > EXIT_BY_SIGNAL:
            raise Stopped(AGAIN, failure.exitcode - EXIT_BY_SIGNAL) from error
        said = failure.message["message"] if isinstance(failure.message, dict) else failure.message
        raise StateError(f"training process {rank}: {re.sub(r'^(InputError|StateError): ', '', said)}") from error


def _agent_options(config: type) -> dict[str, Any]:
    """What the agent hears, and how long it waits for a step and a save; of it, what this version of torch has."""
    signals = [name for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
               if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN]  # nohup ignores one
    wanted = {"signals_to_handle": ",".join(signals), "shutdown_timeout": GRACE_S}
    known = {field.name for field in fields(config)}
    return {key: value for key, value in wanted.items() if key in known}


def _in_group(function: Callable[..., str], on_gpu: bool, *arguments: Any) -> str:
    """Run in one of several processes that the agent started: join the group, work, leave it.

    One that is stopped says so by its exit code: an agent that gets a signal does not ask for results.
    """
    die_with_parent(signal.SIGTERM)
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        return function(*arguments)
    except Stopped as stop:
        if dist.get_rank() == 0:
            print(f"\n{stop.message}", file=sys.stderr, flush=True)
        raise SystemExit(EXIT_BY_SIGNAL + stop.signal_number) from None
    finally:
        dist.destroy_process_group()
