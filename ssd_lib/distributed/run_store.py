"""The desk: a store in the process that runs the stage, which all processes of a group reach, on all machines. It outlives the
rounds that restarts make of a run, and knows how the whole ends: a round that begins after that is over at once."""

import json
import socket
import time
from contextlib import suppress
from datetime import timedelta
from typing import NamedTuple

import torch.distributed as dist

from ssd_lib.distributed.group import Group
from ssd_lib.errors import InputError, StateError, Stopped, first_line

JOIN_TIMEOUT_S = 900  # machines wait so long for each other
TRY_S = 2  # one attempt to reach the first machine: a signal is heard between two
TIMEOUT = timedelta(minutes=30)  # a first validation on a slow disk may keep the others waiting
END = "end"
FAULTS: dict[str, type[Exception]] = {"InputError": InputError, "StateError": StateError}


class RunOutcome(NamedTuple):
    """How a run ends before its time: `kind` is "Stopped", by a signal, or a key of FAULTS."""

    kind: str
    message: str
    signal_number: int = 0

    def as_error(self) -> Exception:
        """What the stage raises."""
        return Stopped(self.message, self.signal_number) if self.kind == "Stopped" else FAULTS[self.kind](self.message)


def open_run_store(group: Group) -> dist.TCPStore:
    """The desk: made by the first machine, found by the others.

    Raises:
        StateError: it cannot be made, or not be found for JOIN_TIMEOUT_S seconds.
    """
    host, port = split_address(group.address)
    if not group.joins:
        try:
            return dist.TCPStore(host, port, is_master=True, wait_for_workers=False, multi_tenant=True, timeout=TIMEOUT)
        except (RuntimeError, OSError) as error:
            raise StateError(f"runtime.rendezvous: cannot listen at {group.address}: {first_line(error)}. It must be an "
                             "address and a free port of the machine that runs DVC.") from error
    print(f"waiting for the first machine at {group.address}, {JOIN_TIMEOUT_S // 60} minutes at most", flush=True)
    deadline = time.monotonic() + JOIN_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), TRY_S).close()
            return dist.TCPStore(host, port, is_master=False, timeout=TIMEOUT)
        except (RuntimeError, OSError) as error:
            reason = first_line(error)
            time.sleep(TRY_S)
    raise StateError(f"runtime.rendezvous: nothing answers at {group.address} for {JOIN_TIMEOUT_S:.0f} s ({reason}). Start "
                     "`dvc repro` on the first machine, see that its port is open, then run the same command again.")


def end(desk: dist.Store, ending: RunOutcome) -> None:
    """Note how the whole ends, if nobody has before; nothing where the desk has gone with its machine."""
    with suppress(RuntimeError):
        desk.compare_set(END, "", json.dumps(ending))


def read_ending(desk: dist.Store) -> RunOutcome | None:
    """How the whole ends; None while it goes on, or where nobody can know any more."""
    with suppress(RuntimeError):
        if desk.check([END]):
            return RunOutcome(*json.loads(desk.get(END)))
    return None


def split_address(address: str) -> tuple[str, int]:
    """HOST and PORT."""
    host, _, port = address.rpartition(":")
    return host, int(port)
