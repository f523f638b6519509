"""Imported once by the server whose forks are the training processes of a test: what takes them long, and where they die."""

import ctypes
import os

import torch

import stages.train  # noqa: F401 - all that they need
from ssd_lib.distributed import worker
from ssd_lib.processes import PR_SET_PDEATHSIG
from support.self_killing import arm

torch.set_num_threads(1)


def _die_with_the_server(signal_number: int) -> None:
    """Their parent is the server, which ends with the stage."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)


setattr(worker, "die_with_parent", _die_with_the_server)  # noqa: B010
if where := os.environ["KILL_AT"]:
    arm(where)
