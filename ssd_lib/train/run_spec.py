"""What a training process is given, and how those of a run come to begin at the same place."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssd_lib.checkpoint.file import CHECKPOINTS, ComboCheckpoint
from ssd_lib.checkpoint.resume import choose_start, differences, runs_folder
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.loader import steps_per_epoch
from ssd_lib.distributed.collectives import all_gather_object, broadcast_object, rank_and_size
from ssd_lib.errors import InputError
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.params import Params
from ssd_lib.train.state import TrainState, restore, snapshot

Measure = Callable[..., Mapping[str, Any]]  # (net, data set, device=) -> metrics, "AP" among them
Draw = Callable[..., np.ndarray]  # (net, data set, indices=, device=) -> (H, W, 3) uint8


@dataclass(frozen=True)
class RunSpec:
    """All that a training process is given.

    Attributes:
        plain: the groups data, fix, model, train of `params` as plain values.
        factors: (N,) how often an epoch shows each training image, on average.
        start: where to continue; left behind where the job goes to another process, since its tensors travel badly.
        weights: to begin from where nothing is continued; None for new ones.
        measure, draw: what validation does beside the loss: AP, and a picture. Handed in, for `infer` is another room.
    """

    params: Params
    plain: dict[str, Any]
    spec: NetSpec
    train_set: DetectionDataset
    factors: np.ndarray
    val_set: DetectionDataset
    digest: str
    fingerprint: str
    start: ComboCheckpoint | None
    weights: dict[str, Tensor] | None
    measure: Measure
    draw: Draw

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"start": None}

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.factors, self.params.train.batch_size)

    @property
    def journal(self) -> Path:
        """Where this run's checkpoints are out of DVC's reach."""
        return runs_folder() / "resume" / self.fingerprint

    def find_start(self) -> tuple[ComboCheckpoint | None, list[str]]:
        """Where to continue, as the disk has it now, and lines to tell the user."""
        return choose_start(self.plain, self.fingerprint, self.digest, asdict(self.spec), CHECKPOINTS, self.journal.parent)

    def agree(self) -> None:
        """Make sure that all machines work on one run.

        Raises:
            InputError: in all processes, if one machine has other parameters or data.
        """
        mine = {"plain": self.plain, "digest": self.digest, "run": [self.fingerprint, self.params.train.epochs]}
        first, *others = all_gather_object(mine)
        for other in others:
            if other["run"] != first["run"]:
                keys = differences(first["plain"], other["plain"])
                keys += ["train.epochs"] if other["run"][1] != first["run"][1] else []
                keys += ["the bytes of data/fixed"] if other["digest"] != first["digest"] else []
                raise InputError("params.yaml: another machine would train another run; these differ: "
                                 f"{'; '.join(keys) or 'the files that it begins from'}. Copy params.yaml and data/ from the "
                                 "first machine to the others.")


def begin(state: TrainState, job: RunSpec, restart: int) -> None:
    """Put the state where the run is: the first process knows, and tells the others.

    Args:
        state: is changed in place; as new.
        job: what the processes of this machine were given. One of several reads the start from the disk: after a restart there
            is a later one.
        restart: how often the processes of the run have started again.
    """
    rank, size = rank_and_size()
    if rank == 0:
        start, lines = (job.start, []) if size == 1 else job.find_start()
        if restart > 0:
            print("", f"a training process died; restart {restart} of at most {job.params.runtime.max_restarts}", *lines,
                  sep="\n", flush=True)
        if start is not None:
            restore(state, start)
            if (start.params["train"]["ap_every_epochs"] > 0) != (job.params.train.ap_every_epochs > 0):
                state.best = None  # an AP is not to be compared with a loss
    if size > 1:
        shared = broadcast_object(snapshot(state, job.spec, job.fingerprint, job.digest, job.plain) if rank == 0 else None)
        if rank > 0:
            restore(state, shared)
