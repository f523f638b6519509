"""What training processes say to each other; every function serves one alone, too. What starts them is in `group`."""

import time
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

POLL_S = 0.05
ABORTED = "called off"
_MEETINGS = count()


class GroupStopped(Exception):  # noqa: N818 - being stopped is no error
    """Another process of the group was asked to stop, by the signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def rank_and_size() -> tuple[int, int]:
    """Which of how many processes this is."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of everybody's `tensor`."""
    if dist.is_initialized():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


class Vote:
    """Whether any process wishes for something, asked again and again by all of them. The answer is to the question before, so
    that nobody waits for a device that is still at work."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._last = device, torch.zeros(())

    def any(self, wish: bool) -> bool:
        """Ask; whether anybody wished for it the last time."""
        before, self._last = self._last, sum_over_processes(torch.full((), float(wish), device=self._device))
        return before.item() > 0


def all_gather_object(value: Any) -> list[Any]:
    """The plain values of all processes, by rank."""
    values = [value] * rank_and_size()[1]
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """The plain value of the first process."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def broadcast_buffers(net: nn.Module) -> None:
    """Give every process the buffers of the first one (batch norm's statistics, which each gathers for itself)."""
    if dist.is_initialized():
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)


def meet() -> None:
    """Wait until every process is here: in Python, which hears a signal, as a collective operation does not.

    Raises:
        GroupStopped: one of them leaves instead; then it is raised in all that wait here.
    """
    if not dist.is_initialized():
        return
    place, store = f"meeting {next(_MEETINGS)}", _store()
    store.add(place, 1)
    while not (is_full := store.add(place, 0) == dist.get_world_size()) and not store.check([ABORTED]):
        time.sleep(POLL_S)
    if store.compare_set(f"{place} was", "", "full" if is_full else ABORTED) != b"full":  # the first one to see it says
        raise GroupStopped(int(store.get(ABORTED)))


def abort_all(number: int, device: torch.device) -> None:
    """Leave for a stop signal together with all others; those that wait in `meet` are called.

    Raises:
        RuntimeError: one of them has died. Then this is no stop: the agent ends the rest with a signal, to start all again.
    """
    if dist.is_initialized():
        _store().set(ABORTED, str(number))
        sum_over_processes(torch.zeros(1, device=device))


def _store() -> dist.Store:
    return dist.distributed_c10d._get_default_store()
