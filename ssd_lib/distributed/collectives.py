"""Collective operations of the training processes. With a single process, each returns what that process passes in."""

import time
from collections.abc import Callable
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

POLL_S = 0.05
STOPPED, FAILED = "stopped", "failed"  # keys of the store: a process has left for a stop signal, or with an error
_BARRIERS = count()


class GroupStopped(Exception):  # noqa: N818 - being stopped is not an error
    """A process of the group received the stop signal `number`; all processes end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class GroupError(RuntimeError):
    """Another process of the group has ended with an error."""


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of `tensor` over all ranks."""
    if dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


class NonBlockingAny:
    """Non-blocking any() over ranks: returns the result of the previous call, so that no rank waits for its device."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._previous = device, torch.zeros(())

    def __call__(self, flag: bool) -> bool:
        """Start the any() of `flag`, and return that of the previous call; False at first."""
        previous, self._previous = self._previous, sum_over_processes(torch.full((), float(flag), device=self._device))
        return previous.item() > 0


def all_gather_object(value: Any) -> list[Any]:
    """Return the values of all ranks, by rank."""
    values = [value] * rank_and_size()[1]
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """Return the value of rank 0."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def broadcast_buffers(net: nn.Module) -> None:
    """Give every rank the buffers of rank 0: batch norm gathers its statistics in each process."""
    if dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)


def barrier(stop_signal: Callable[[], int | None] = lambda: None) -> None:
    """Wait until all ranks are here. The wait is a loop in Python, so that signals are handled, unlike in dist.barrier().

    Guarantees: all ranks that wait here return, or all raise GroupStopped. So no signal may raise an exception meanwhile.

    Args:
        stop_signal: returns the stop signal that this rank has received, or None.

    Raises:
        GroupStopped: a rank has received a stop signal, here or before it called `abort_all` instead.
        GroupError: a rank has ended with an error.
    """
    if not dist.is_initialized():
        return
    name, store = f"barrier {next(_BARRIERS)}", _store()
    store.add(name, 1)
    while (state := _barrier_state(store, name)) is None:
        if (number := stop_signal()) is not None:
            store.set(STOPPED, str(number))
        time.sleep(POLL_S)
    state = store.compare_set(f"{name} state", "", state).decode()  # ranks may see different states: the first one counts
    if state == STOPPED:
        raise GroupStopped(int(store.get(STOPPED)))
    if state == FAILED:
        raise GroupError("another process has ended with an error")


def _barrier_state(store: dist.Store, name: str) -> str | None:
    if store.add(name, 0) == dist.get_world_size():
        return "complete"
    return next((key for key in (STOPPED, FAILED) if store.check([key])), None)


def abort_all(number: int, device: torch.device) -> None:
    """End the group for a stop signal: return when all ranks have called this; ranks that wait in `barrier` are woken up.

    All ranks must have taken part in the same collective operations before, else each waits for the others in another one.

    Raises:
        RuntimeError: a rank has died. Then the agent starts all processes again, and this is not a stop.
    """
    if dist.is_initialized():
        _store().set(STOPPED, str(number))
        sum_over_processes(torch.zeros(1, device=device))


def wake_up_others() -> None:
    """Let `barrier` raise GroupError on all other ranks: this one ends with an error."""
    if dist.is_initialized():
        _store().set(FAILED, "")


def _store() -> dist.Store:
    return dist.distributed_c10d._get_default_store()
