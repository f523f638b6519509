"""Preload for the fork server of a test's training processes: slow imports, and the position where a process is killed."""

import ctypes
import os

import torch

import stages.train  # noqa: F401 - imports everything that they need
from ssd_lib.distributed import worker
from ssd_lib.processes import PR_SET_PDEATHSIG
from support.self_killing import arm

torch.set_num_threads(1)


def _die_with_the_server(signal_number: int) -> None:
    """Send the signal when the fork server ends, which ends with the stage."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)


setattr(worker, "die_with_parent", _die_with_the_server)  # noqa: B010
if where := os.environ["KILL_AT"]:
    arm(where)
