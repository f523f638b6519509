"""What a training run is given: data, net, parameters, and the checkpoint or the weights that it starts from."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ssd_lib.boxes.loss import Criterion
from ssd_lib.checkpoint.file import CHECKPOINTS, ComboCheckpoint
from ssd_lib.checkpoint.fingerprint import differences
from ssd_lib.checkpoint.resume import choose_start
from ssd_lib.checkpoint.store import runs_folder
from ssd_lib.data.dataset import DetectionDataset
from ssd_lib.data.loader import steps_per_epoch
from ssd_lib.distributed.collectives import all_gather_object, broadcast_object, rank_and_size
from ssd_lib.distributed.group import Group
from ssd_lib.errors import InputError, plural
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.schema import misfit
from ssd_lib.nets.ssd import frozen_names
from ssd_lib.nets.zoo import NETS
from ssd_lib.params import Params, TrainParams
from ssd_lib.train.state import TrainState, optimizer_fault, restore, snapshot

ROW_KEYS = {"epoch", "train_loss", "val_loss", "images_per_s", "learning_rate"}  # of every epoch in a checkpoint's history
KEYS_OF_THE_END = ("epochs", "patience", "ap_every_epochs")  # of `train`; not in the fingerprint, but all must end together
Measure = Callable[..., Mapping[str, Any]]  # (net, dataset, device=) -> metrics, "AP" among them
Draw = Callable[..., np.ndarray]  # (net, dataset, indices=, device=) -> (H, W, 3) uint8
WriteSamples = Callable[[DetectionDataset, np.ndarray, TrainParams], None]  # (training images, repeat factors, train)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSpec:
    """Everything that a training process is given.

    Attributes:
        params_dict: the groups data, fix, model, train, postprocess of `params` as plain values.
        repeat_factors: (N,) how often an epoch shows each training image, on average.
        resume_from: the checkpoint to continue. It is not sent to other processes: large tensors cannot be pickled well.
        weights: to start from if nothing is continued; None for new ones.
        measure, draw: compute AP and draw detections in validation; passed in, so that training does not import evaluation.
        write_samples: draws training samples before training; passed in for the same reason.
    """

    params: Params
    params_dict: dict[str, Any]
    net_spec: NetSpec
    train_set: DetectionDataset
    repeat_factors: np.ndarray
    val_set: DetectionDataset
    data_digest: str
    fingerprint: str
    resume_from: ComboCheckpoint | None
    weights: dict[str, Tensor] | None
    measure: Measure
    draw: Draw
    write_samples: WriteSamples

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"resume_from": None}

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of steps of an epoch."""
        return steps_per_epoch(self.repeat_factors, self.params.train.batch_size)

    @property
    def criterion(self) -> Criterion:
        """Return the assignment and the losses: those that the net is made for, where params.yaml says auto."""
        return criterion_of(self.net_spec.net, self.params.train)

    @property
    def resume_dir(self) -> Path:
        """Return runs/resume/<fingerprint>, where DVC does not roll checkpoints back."""
        return runs_folder() / "resume" / self.fingerprint

    def choose_start(self) -> ComboCheckpoint | None:
        """Return the checkpoint to continue, as the disk is now."""
        return choose_start(self.params_dict, self.fingerprint, self.data_digest, asdict(self.net_spec), CHECKPOINTS,
                            self.resume_dir, self._fault_of,
                            frozen_names(self.net_spec.build_shapes(), self.params.train.freeze))

    def _fault_of(self, checkpoint: ComboCheckpoint) -> str:
        """Return why a checkpoint cannot be restored into a state of this run; "" if it can."""
        net = self.net_spec.build_shapes()
        shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        if checkpoint.step > self.steps_per_epoch:
            return f"step: found {checkpoint.step}; an epoch has {plural(self.steps_per_epoch, 'step')}"
        if len(checkpoint.history) != checkpoint.epoch:
            return f"history: found {plural(len(checkpoint.history), 'epoch')}; epoch is {checkpoint.epoch}"
        if not all({key for key, value in row.items() if value is not None} >= ROW_KEYS for row in checkpoint.history):
            return f"history: an epoch lacks one of {', '.join(sorted(ROW_KEYS))}"
        if fault := misfit(checkpoint.weights, shapes):
            return f"weights: {fault}"
        averaged = {"n_averaged": ()} | {f"module.{key}": shape for key, shape in shapes.items()}
        if checkpoint.average and (fault := misfit(checkpoint.average, averaged)):
            return f"average: {fault}"
        return optimizer_fault(checkpoint, net, self.params.train)

    def check_machines_agree(self) -> None:
        """Check that all machines work on the same run.

        Raises:
            InputError: in all processes, if one machine has other parameters or data.
        """
        mine = {"params_dict": self.params_dict, "digest": self.data_digest,
                "run": [self.fingerprint, *(getattr(self.params.train, key) for key in KEYS_OF_THE_END)]}
        first, *others = all_gather_object(mine)
        for other in others:
            if other["run"] != first["run"]:
                keys = differences(first["params_dict"], other["params_dict"])
                pairs = zip(KEYS_OF_THE_END, other["run"][1:], first["run"][1:], strict=True)
                keys += [f"train.{key}" for key, its, our in pairs if its != our]
                keys += ["the bytes of data/fixed"] if other["digest"] != first["digest"] else []
                raise InputError("params.yaml: another machine would train another run; these differ: "
                                 f"{'; '.join(keys) or 'the files that it starts from'}. Copy params.yaml and data/ from the "
                                 "first machine to the others.")


def restore_run(state: TrainState, run_spec: RunSpec, group: Group) -> None:
    """Restore the state of the run: the first process reads it and sends it to the others.

    Args:
        state: new; is changed in place.
        run_spec: where our agent starts the processes, the first one chooses the checkpoint again: a restart may find a later
            one.
        group: the processes of the run.
    """
    rank, size = rank_and_size()
    if rank == 0:
        if group.restart > 0:
            log.info("\na training process died; restart %d of at most %d", group.restart, group.max_restarts)
        start = run_spec.resume_from if size == 1 or group.has_launcher else run_spec.choose_start()
        if start is not None:
            restore(state, start)
    if size > 1:
        now = snapshot(state, run_spec.net_spec, run_spec.fingerprint, run_spec.data_digest, run_spec.params_dict)
        shared = broadcast_object(now if rank == 0 else None)
        if rank > 0:
            restore(state, shared)


def criterion_of(net: str, train: TrainParams) -> Criterion:
    """Return the assignment and the losses of params.yaml; auto stands for what the net is made for."""
    asked = (train.assignment, train.class_loss, train.box_loss)
    return Criterion(*(own if word == "auto" else word for own, word in zip(NETS[net].criterion, asked, strict=True)))
