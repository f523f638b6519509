"""`train.resume: PATH`: a checkpoint, ours or of kaboom-labs, that is continued on purpose, with the parameters as they are."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssd_lib.checkpoint.file import CHECKPOINTS, ComboCheckpoint, read_checkpoint
from ssd_lib.checkpoint.kaboom import read_kaboom
from ssd_lib.checkpoint.weights import UNIT_PIXELS, classes_of
from ssd_lib.errors import InputError
from ssd_lib.files import in_project, why_unreadable
from ssd_lib.nets.input_scale import rescale_input
from ssd_lib.nets.model_file import NetSpec
from ssd_lib.nets.ssd import FROZEN_PARTS
from ssd_lib.nets.upstream import from_upstream

Groups = Mapping[str, Mapping[str, Any]]


def given_path(resume: str) -> Path:
    """The file that `train.resume` names; a relative path begins at the root of the main repository.

    Raises:
        InputError: it is no file, or one that the run would overwrite.
    """
    path = in_project(resume)
    if path.parent.resolve() == CHECKPOINTS.resolve():
        raise InputError(f"params.yaml: train.resume is '{resume}', which the run itself would overwrite; a file in another "
                         f"folder is needed. Copy it: cp {resume} my.pt")
    if not path.is_file():
        raise InputError(f"params.yaml: train.resume is '{resume}', which is no file ({path}); allowed are auto, never, "
                         "or the path of a combo checkpoint.")
    return path


def weights_path(key: str, source: str) -> Path:
    """The file that `model.weights` or `model.backbone_weights` names.

    Raises:
        InputError: it is no file.
    """
    path = in_project(source)
    if reason := why_unreadable(path):
        raise InputError(f"params.yaml: model.{key} is '{source}', which is no file to read ({path}: {reason}); allowed are "
                         f"none{', imagenet' if key == 'backbone_weights' else ''}, or the path of a file of weights.")
    return path


def read_named_checkpoint(resume: str, params: Groups, digest: str, spec: Mapping[str, Any]) -> tuple[ComboCheckpoint, str]:
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
    start = replace(start, best=None, weights=_as_delivered(start, params["train"]["freeze"]))  # its best.pt is another run's
    if start.data_digest == digest and start.params["train"]["batch_size"] == params["train"]["batch_size"]:
        return start, line
    return replace(start, step=0, totals=start.totals * 0), line


def _as_delivered(start: ComboCheckpoint, freeze: str) -> dict[str, Tensor]:
    """Its weights, the frozen parts as they are in the model that it would become: else the average would still move there."""
    final, parts = start.final_weights, FROZEN_PARTS[freeze]
    return {key: final[key] if key.split(".")[0] in parts else value for key, value in start.weights.items()}


def _check(start: ComboCheckpoint, resume: str, params: Groups, spec: Mapping[str, Any]) -> None:
    """Refuse what cannot be continued, by name."""
    structure = ("net", "image_size", "width_mult", "class_names")
    faults = [f"{key} {start.spec.get(key)} is not {spec[key]}" for key in structure if start.spec.get(key) != spec[key]]
    if start.spec.get("prior_sizes", ()) != spec["prior_sizes"]:
        faults.append("its priors have other sizes (model.priors; as model.weights it may be begun from)")
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
    net = NetSpec.from_plain(spec, str(path)).build()
    own, where = net.state_dict(), str(path)
    weights = from_upstream(foreign.weights, own, where)
    if (classes := classes_of(weights, own, net.classes)) != net.classes:
        raise InputError(f"{where}: cannot be continued: it is of {classes} classes, and the data has {net.classes}. To begin "
                         "from its backbone, give it as model.weights, and set train.resume: auto.")
    start = ComboCheckpoint(
        fingerprint="", params=dict(params), data_digest=digest, spec=dict(spec), epoch=foreign.epochs, step=0,
        weights=rescale_input(weights, net, *UNIT_PIXELS), average={}, optimizer={}, scaler={},
        totals=torch.zeros(3, dtype=torch.float64), best=None, history=[], versions={})
    return start, (
        f"WARNING {path} is a combo checkpoint of kaboom-labs/pytorch-ssd. Its weights and its {foreign.epochs} epochs are "
        "taken. Its scheduler is not to be trusted (once resumed, it drove a copy of the optimizer): the learning rate is that "
        "of params.yaml, and the optimizer begins anew. Its weights were trained on pixels in [0, 1]; the first convolution is "
        f"rescaled to those of this net, (x - {net.mean[0].item():g}) / {net.std[0].item():g}.")
