"""`train.resume: PATH`: a checkpoint, ours or of kaboom-labs, that is continued on purpose, with the parameters as they are."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ssd_lib.checkpoint.combo import CHECKPOINTS, ComboCheckpoint, read_checkpoint
from ssd_lib.checkpoint.kaboom import read_kaboom
from ssd_lib.errors import InputError
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.upstream import from_upstream

Groups = Mapping[str, Mapping[str, Any]]


def given_path(resume: str) -> Path:
    """The file that `train.resume` names; a relative path begins at the root of the main repository.

    Raises:
        InputError: it is no file, or one that the run would overwrite.
    """
    path = Path(resume).expanduser()
    if not path.is_absolute():
        path = Path(os.environ.get("DVC_ROOT", ".")) / path
    if path.parent.resolve() == CHECKPOINTS.resolve():
        raise InputError(f"params.yaml: train.resume is '{resume}', which the run itself would overwrite; a file in another "
                         f"folder is needed. Copy it: cp {resume} my.pt")
    if not path.is_file():
        raise InputError(f"params.yaml: train.resume is '{resume}', which is no file ({path}); allowed are auto, never, "
                         "or the path of a combo checkpoint.")
    return path


def read_given(resume: str, params: Groups, digest: str, spec: Mapping[str, Any]) -> tuple[ComboCheckpoint, str]:
    """Read the checkpoint that `train.resume` names.

    Args:
        resume: `train.resume`.
        params: the groups data, fix, model, train as plain values.
        digest: of the data.
        spec: `NetSpec` of this run as plain values.

    Returns:
        Where to start, and a line to tell the user. An epoch that other data or other batches cut up is begun again.

    Raises:
        InputError: it cannot be read, or its net, classes, size or optimizer are not the run's; each is named.
    """
    path = given_path(resume)
    try:
        start, line = read_checkpoint(path), f"continuing from {resume}"
    except InputError as error:
        start, line = _from_kaboom(path, error, params, digest, spec)
    _check(start, resume, params, spec)
    start = replace(start, best=None)  # its best.pt is another run's
    if start.data_digest == digest and start.params["train"]["batch_size"] == params["train"]["batch_size"]:
        return start, line
    return replace(start, step=0, totals=start.totals * 0), line


def _check(start: ComboCheckpoint, resume: str, params: Groups, spec: Mapping[str, Any]) -> None:
    """Refuse what cannot be continued, by name."""
    faults = [f"{key} {start.spec[key]} is not {spec[key]}" for key in ("net", "image_size", "width_mult", "class_names")
              if start.spec[key] != spec[key]]
    before, now = start.params["train"]["optimizer"], params["train"]["optimizer"]
    if before != now:
        faults.append(f"optimizer {before} is not {now}")
    if start.epoch >= params["train"]["epochs"]:
        faults.append(f"it has {start.epoch} epochs, and train.epochs is {params['train']['epochs']}")
    if faults:
        raise InputError(f"{resume}: cannot be continued: {'; '.join(faults)}. Change params.yaml or train.resume.")


def _from_kaboom(path: Path, reason: InputError, params: Groups, digest: str,
                 spec: Mapping[str, Any]) -> tuple[ComboCheckpoint, str]:
    """The weights and epochs of a file of kaboom-labs, as a checkpoint of ours."""
    try:
        foreign = read_kaboom(path)
    except InputError:
        raise reason from None
    net = NetSpec(**spec).build()
    start = ComboCheckpoint(
        fingerprint="", params=dict(params), data_digest=digest, spec=dict(spec), epoch=foreign.epochs, step=0,
        weights=from_upstream(foreign.weights, net, str(path)), average={}, optimizer={}, scaler={},
        totals=torch.zeros(3, dtype=torch.float64), best=None, history=[], versions={})
    return start, (
        f"WARNING {path} is a combo checkpoint of kaboom-labs/pytorch-ssd. Its weights and its {foreign.epochs} epochs are "
        "taken. Its scheduler is not to be trusted (once resumed, it drove a copy of the optimizer): the learning rate is that "
        "of params.yaml, and the optimizer begins anew. Its weights saw pixels in [0, 1]; this net sees "
        f"(x - {net.mean[0].item():g}) / {net.std[0].item():g}, and needs some epochs to get used to that.")
