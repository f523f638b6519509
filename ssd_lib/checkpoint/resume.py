"""Choose the checkpoint from which a run continues, and keep those that it does not continue."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ssd_lib.checkpoint.best_epoch import compares_ap, stop_reason
from ssd_lib.checkpoint.file import BEST, LAST, PREVIOUS, ComboCheckpoint, read_checkpoint
from ssd_lib.checkpoint.fingerprint import MODES, Groups, differences, resume_path
from ssd_lib.checkpoint.kaboom import read_kaboom
from ssd_lib.errors import InputError, plural
from ssd_lib.files import link_or_copy, sha256

FaultOf = Callable[[ComboCheckpoint], str]
log = logging.getLogger(__name__)


def choose_start(params: Groups, fingerprint: str, digest: str, spec: Mapping[str, Any], folder: Path,
                 resume_dir: Path, fault_of: FaultOf = lambda _: "", frozen: Sequence[str] = ()) -> ComboCheckpoint | None:
    """Return the checkpoint to continue, or None, and log which.

    It is the latest intact one of this run in `folder` and `resume_dir`; else the one that `train.resume` names. A checkpoint
    of a run with more epochs is never taken for a shorter run, but is kept and found again by a run that is long enough. All
    other checkpoints are moved to runs/resume.

    Args:
        params: the groups data, fix, model, train, postprocess as plain values.
        fingerprint, digest: of this run and of its data.
        spec: `NetSpec` of this run as plain values.
        folder: models/checkpoints.
        resume_dir: runs/resume/<fingerprint>.
        fault_of: returns why a checkpoint of this run, or the one that `train.resume` names, cannot be restored; "" if it can.
        frozen: the submodules that `train.freeze` does not train.

    Raises:
        InputError: `train.resume` names a file that cannot be continued.
    """
    resume, epochs = params["train"]["resume"], params["train"]["epochs"]

    def is_mine(checkpoint: ComboCheckpoint | None) -> bool:
        return (checkpoint is not None and resume != "never" and checkpoint.fingerprint == fingerprint
                and _epochs(checkpoint) <= epochs)

    def fault_of_mine(checkpoint: ComboCheckpoint) -> str:
        return fault_of(checkpoint) if is_mine(checkpoint) else ""
    found = _read_all([place / name for place in (folder, resume_dir) for name in (LAST, PREVIOUS, BEST)], fault_of_mine)
    candidates = found | _read_kept(resume_dir, found, fault_of_mine)
    mine = {path: checkpoint for path, checkpoint in candidates.items() if checkpoint is not None and is_mine(checkpoint)}
    start = max(mine.values(), key=lambda c: (c.position, _epochs(c)), default=None)
    named = None
    if start is not None:
        mine = {path: checkpoint for path, checkpoint in mine.items() if _is_before(checkpoint, start)}
    elif resume not in MODES:
        named = read_named_checkpoint(resume, params, digest, spec, fault_of, frozen)
    for path in found.keys() - mine.keys():
        _set_aside(path, found[path], fingerprint, resume_dir.parent)
    if start is not None:
        _share(mine, start, folder, resume_dir)
    last = next((path for path in (folder / LAST, resume_dir / LAST) if found.get(path)), None)
    other = found[last] if last is not None and last not in mine else None
    if start is not None and other is not None and other.fingerprint != fingerprint:
        other = None  # `dvc exp run` has rolled `folder` back to the run in dvc.lock
    if start is not None and compares_ap(start.params["train"]) != compares_ap(params["train"]):
        start = replace(start, best=None)  # an AP cannot be compared with a loss
    if text := _start_text(start, named, other, params, fingerprint, digest, resume_dir.parent):
        log.info(text)
    return start or named


def read_named_checkpoint(resume: str, params: Groups, digest: str, spec: Mapping[str, Any],
                          fault_of: FaultOf, frozen: Sequence[str]) -> ComboCheckpoint:
    """Read the checkpoint that `train.resume` names, to continue it with the parameters as they are now.

    Its best metric is dropped, and an epoch that other data or another batch size cut differently starts again.

    Args:
        resume: `train.resume`.
        params: the groups data, fix, model, train, postprocess as plain values.
        digest: of the data.
        spec: `NetSpec` of this run as plain values.
        fault_of, frozen: see `choose_start`.

    Raises:
        InputError: it cannot be read, or its net, classes, size or optimizer are not those of the run; each is named.
    """
    path = resume_path(resume)
    try:
        start = read_checkpoint(path)
    except InputError:
        if _is_kaboom(path):
            raise InputError(
                f"params.yaml: train.resume is '{resume}', a combo checkpoint of kaboom-labs/pytorch-ssd, whose optimizer and "
                f"scheduler cannot be continued. Start from its weights: set model.weights: {resume} and train.resume: auto; "
                f"or convert it to a model file: ssd checkpoint convert {resume} ssd.pt --net NET --labels FILE") from None
        raise
    _check_structure(start, resume, params, spec)
    # Frozen parts start as they are in the model that the checkpoint would become; else the average would still change them.
    prefixes, final = tuple(f"{name}." for name in frozen), start.final_weights
    weights: dict[str, Tensor] = {key: final[key] if key.startswith(prefixes) else value
                                  for key, value in start.weights.items()}
    start = replace(start, best=None, weights=weights)
    if start.data_digest != digest or start.params["train"].get("batch_size") != params["train"]["batch_size"]:
        start = replace(start, step=0, totals=start.totals * 0)
    if fault := fault_of(start):
        raise InputError(f"{resume}: cannot be continued: {fault}. Change params.yaml or train.resume.")
    return start


def _is_kaboom(path: Path) -> bool:
    try:
        read_kaboom(path)
    except InputError:
        return False
    return True


def _check_structure(start: ComboCheckpoint, resume: str, params: Groups, spec: Mapping[str, Any]) -> None:
    structure = ("net", "image_size", "width_mult", "class_names")
    faults = [f"{key} {start.spec.get(key)} is not {spec[key]}" for key in structure if start.spec.get(key) != spec[key]]
    if start.spec.get("scores", "softmax") != spec["scores"]:
        faults.append("its class loss needs other class heads (train.class_loss)")
    if start.spec.get("prior_sizes", ()) != spec["prior_sizes"]:
        faults.append("its priors have other sizes (model.priors); its weights can be used with model.weights")
    before, now = start.params["train"].get("optimizer"), params["train"]["optimizer"]
    if before != now:
        faults.append(f"optimizer {before} is not {now}")
    if start.epoch >= params["train"]["epochs"]:
        faults.append(f"it has {plural(start.epoch, 'epoch')}, and train.epochs is {params['train']['epochs']}")
    if faults:
        raise InputError(f"{resume}: cannot be continued: {'; '.join(faults)}. Change params.yaml or train.resume.")


def _read_all(paths: Iterable[Path], fault_of: FaultOf) -> dict[Path, ComboCheckpoint | None]:
    """Read the checkpoints of those paths that exist; None for a damaged one, which is logged."""
    found: dict[Path, ComboCheckpoint | None] = {}
    for path in filter(Path.exists, paths):
        try:
            found[path] = checkpoint = read_checkpoint(path)
            if fault := fault_of(checkpoint):
                raise InputError(f"{path}: cannot be continued: {fault}.")
        except InputError as error:
            found[path] = None
            log.warning("%s It is skipped and kept.", error)
    return found


def _read_kept(resume_dir: Path, found: Mapping[Path, ComboCheckpoint | None], fault_of: FaultOf
               ) -> dict[Path, ComboCheckpoint | None]:
    """Read the checkpoints that `_set_aside` kept for a run of another length than those in `found`.

    One of the same length was given up for those in `found`, with `train.resume: never`.
    """
    newer = {_epochs(checkpoint) for checkpoint in found.values() if checkpoint is not None}
    kept = _read_all(sorted(resume_dir.glob("kept-*.pt")), fault_of)
    return {path: checkpoint for path, checkpoint in kept.items()
            if checkpoint is not None and _epochs(checkpoint) not in newer}


def _epochs(checkpoint: ComboCheckpoint) -> int:
    """Return the length of the run that wrote it."""
    return int(checkpoint.params["train"]["epochs"])


def _is_before(checkpoint: ComboCheckpoint, start: ComboCheckpoint) -> bool:
    """Return whether `checkpoint` is `start`, or `start` was trained from it: their histories, with times, agree."""
    rows = len(checkpoint.history)
    return (repr(checkpoint.history) == repr(start.history[:rows])
            and (rows > 0 or _epochs(checkpoint) == _epochs(start) or checkpoint is start))


def _start_text(start: ComboCheckpoint | None, named: ComboCheckpoint | None, other: ComboCheckpoint | None, params: Groups,
                fingerprint: str, digest: str, resume_root: Path) -> str:
    """Say from where this run starts; and of the last run, if it is not continued, where it is kept and what continues it."""
    epochs, resume = params["train"]["epochs"], params["train"]["resume"]
    lines = []
    if start is not None:
        lines = [_position_text(start, params["train"])]
    elif named is not None:
        lines = [_position_text(named, params["train"], f"{resume} ")]
    elif other is not None:
        lines = [f"starting a new run: {_difference(other, params, fingerprint, digest)}"]
    if other is not None:
        position = (f"complete, {plural(other.epoch, 'epoch')}" if other.position == (_epochs(other), 0) else
                    f"epoch {other.epoch + 1}/{_epochs(other)}, step {other.step}")
        lines.append(f"the last run ({position}) is kept in {resume_root / other.fingerprint}"
                     + ("; its parameters continue it" if other.fingerprint != fingerprint else
                        f"; train.epochs: {_epochs(other)} continues it" if _epochs(other) != epochs else ""))
    return "\n".join(lines)


def _position_text(start: ComboCheckpoint, train: Mapping[str, Any], name: str = "") -> str:
    before, epochs = _epochs(start), train["epochs"]
    if start.position == (epochs, 0):
        return f"the run is complete: its checkpoint has {plural(epochs, 'epoch')}"
    if start.step == 0 and (reason := stop_reason(start.history, start.best, train)):
        return (f"the run is complete: it ended after {start.epoch} of {plural(epochs, 'epoch')}, since {reason}; a higher one "
                "continues")
    extended = f"; extended from {plural(before, 'epoch')}: the learning rate follows the schedule of {epochs} from here on"
    return f"continuing {name}at epoch {start.epoch + 1}/{epochs}, step {start.step}" + (extended if before < epochs else "")


def _difference(other: ComboCheckpoint, params: Groups, fingerprint: str, digest: str) -> str:
    """Say why the run of `other` is not continued."""
    if other.fingerprint != fingerprint:
        keys = differences(other.params, params) + (["the bytes of data/fixed"] if other.data_digest != digest else [])
        return f"these differ: {'; '.join(keys) or 'the content of a file that params.yaml names'}"
    if _epochs(other) > params["train"]["epochs"]:
        return f"train.epochs is {params['train']['epochs']}, the last run's {_epochs(other)}"
    return f"train.resume is {params['train']['resume']}"


def _set_aside(path: Path, checkpoint: ComboCheckpoint | None, fingerprint: str, resume_root: Path) -> None:
    """Move a checkpoint that this run does not continue to runs/resume.

    A run of another fingerprint stays under its own, where its parameters find it again, unless a later state of it, or one of
    another length, is already there. A checkpoint with this run's fingerprint gets a name of its own, and so does a damaged
    one. Its time is set to now, so that it is kept for `runtime.keep_days` from now on.
    """
    if checkpoint is None:
        target = resume_root / "damaged" / f"{path.stem}-{sha256(path)[:8]}.pt"
    else:
        target = resume_root / checkpoint.fingerprint / path.name
        if checkpoint.fingerprint == fingerprint or not _may_replace(target, path, checkpoint):
            place = f"epoch-{checkpoint.epoch}-step-{checkpoint.step}"
            target = target.with_name(f"kept-{path.stem}-{place}-{sha256(path)[:8]}.pt")
    if not (target.exists() and sha256(target) == sha256(path)):  # best.pt and last.pt may be there as one file with two names
        link_or_copy(path, target)
    path.unlink()
    os.utime(target)


def _may_replace(target: Path, path: Path, checkpoint: ComboCheckpoint) -> bool:
    """Return whether nothing is lost when `path`, which holds `checkpoint`, replaces `target`."""
    if not target.exists() or target.samefile(path) or sha256(target) == sha256(path):
        return True
    try:
        existing = read_checkpoint(target)
    except InputError:
        return False
    return (existing.position < checkpoint.position
            and existing.params["train"]["epochs"] == checkpoint.params["train"]["epochs"])


def _share(mine: Mapping[Path, ComboCheckpoint], start: ComboCheckpoint, folder: Path, resume_dir: Path) -> None:
    """Make both folders hold the same files: the start as last, and the latest previous and best before it.

    Kept files of a run that is continued get their usual names again.
    """
    sources: dict[str, Path] = {}
    for name in (LAST, PREVIOUS, BEST):
        paths = [path for path in mine if _usual_name(path) == name or (name == LAST and mine[path] is start)]
        if paths:
            sources[name] = max(paths, key=lambda path: (mine[path].position, mine[path] is start))
    for name, latest in sources.items():
        for place in (folder, resume_dir):
            link_or_copy(latest, place / name)
    for path in sources.values():
        if path.name.startswith("kept-"):
            path.unlink()


def _usual_name(path: Path) -> str:
    """Return last.pt for kept-last-epoch-1-step-2-0123abcd.pt, and the name itself for others."""
    return f"{path.stem.split('-')[1]}.pt" if path.name.startswith("kept-") else path.name
