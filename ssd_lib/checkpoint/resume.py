"""Which checkpoint a run continues from, and what becomes of the ones that it does not."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssd_lib.checkpoint.explicit_resume import given_path, read_named_checkpoint, weights_path
from ssd_lib.checkpoint.file import BEST, LAST, PREVIOUS, ComboCheckpoint, read_checkpoint
from ssd_lib.data.pixel_cache_entries import cache_name
from ssd_lib.errors import InputError
from ssd_lib.files import in_project, link_or_copy, sha256

# Keys of `train` that do not shape the weights of an epoch: changing them continues a run.
NOT_IN_FINGERPRINT = {"epochs", "checkpoint_minutes", "ap_every_epochs", "select", "resume"}
# Keys of `train` that older checkpoints lack, with the value that does what those did: with it they do not count.
DEFAULTS_OF_NEW_KEYS = {"sync_batch_norm": False, "compile": False}
MODES = ("auto", "never")


def runs_folder() -> Path:
    """runs/ of the main repository, out of reach of DVC, which rolls the workspace back before `dvc exp run`."""
    return in_project("runs")


def data_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files of data/fixed, which themselves hold a digest of the images."""
    rows = [(path.relative_to(folder).as_posix(), sha256(path)) for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def make_fingerprint(params: Mapping[str, Mapping[str, Any]], digest: str) -> str:
    """Name a run by all that shapes its result: `model`, `train` without NOT_IN_FINGERPRINT and DEFAULTS_OF_NEW_KEYS, and the data.

    The groups `data` and `fix` count through the bytes of data/fixed that they lead to (and `data.balance` and `data.cache` by
    themselves), so that the same images from another mirror continue a run. Files that a run begins from count by their
    content, too.

    Raises:
        InputError: such a file is not there.
    """
    shaping = {"model": dict(params["model"]), "train": _shaping(params["train"]), "data": digest}
    if params["data"]["balance"] != "none":  # the order of the images follows from it
        shaping["balance"] = [params["data"]["balance"], params["data"]["balance_threshold"]]
    if (cache := params["data"]["cache"]) != "none":  # its entries have other pixels
        shaping["cache"] = cache_name(cache, params["model"]["image_size"])
    resume = params["train"]["resume"]
    if resume not in MODES:
        shaping["parent"] = sha256(given_path(resume))
    for key, plain in (("weights", ("none",)), ("backbone_weights", ("none", "imagenet"))):
        if (source := params["model"][key]) not in plain:
            shaping[key] = sha256(weights_path(key, source))
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]


def choose_start(params: Mapping[str, Mapping[str, Any]], fingerprint: str, digest: str, spec: Mapping[str, Any],
                 folder: Path, journal: Path) -> tuple[ComboCheckpoint | None, list[str]]:
    """Find where to continue.

    Of the checkpoints in `folder` and in the run's journal, the latest one that is whole and belongs to this run; else the
    one that `train.resume` names; else none. A checkpoint of a run with more epochs is never taken for a shorter one.

    Args:
        params: the groups data, fix, model, train as plain values.
        fingerprint, digest: of this run and of its data.
        spec: `NetSpec` of this run as plain values.
        folder: models/checkpoints.
        journal: runs/resume.

    Returns:
        The checkpoint or None, and lines to tell the user.

    Raises:
        InputError: `train.resume` names a file that cannot be continued.
    """
    resume, epochs, own = params["train"]["resume"], params["train"]["epochs"], journal / fingerprint
    found, lines = _read_all([place / name for place in (folder, own) for name in (LAST, PREVIOUS, BEST)])
    mine = {path: c for path, c in found.items() if c is not None and resume != "never"
            and c.fingerprint == fingerprint and c.params["train"]["epochs"] <= epochs}
    start = max(mine.values(), key=lambda c: c.position, default=None)
    given = None
    if start is not None:
        lines.append(_continuing(start, epochs))
    elif resume not in MODES:
        given, line = read_named_checkpoint(resume, params, digest, spec)
        lines.append(line)
    for path in found.keys() - mine.keys():
        _set_aside(path, found[path], fingerprint, journal)
    other = found.get(folder / LAST) or found.get(own / LAST)
    if other is not None and start is None:
        lines += [_why_not(other, params, fingerprint, digest, resume), f"it is kept in {journal / other.fingerprint}"]
    if start is not None:
        _share(mine, start, folder, own)
    return start or given, lines


def differences(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The keys that shape the result and differ, as "train.lr: 0.03 -> 0.01"."""
    def flat(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        return {f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()
                if not (name == "train" and key in NOT_IN_FINGERPRINT)}
    old, new = ({f"train.{key}": value for key, value in DEFAULTS_OF_NEW_KEYS.items()} | flat(groups) for groups in (before, now))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in sorted(old | new) if old.get(key) != new.get(key)]


def _shaping(train: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in train.items()
            if key not in NOT_IN_FINGERPRINT and not (key in DEFAULTS_OF_NEW_KEYS and value == DEFAULTS_OF_NEW_KEYS[key])}


def _read_all(paths: Sequence[Path]) -> tuple[dict[Path, ComboCheckpoint | None], list[str]]:
    """The checkpoints of those paths that exist, None where one is damaged, and a line for each of those."""
    found: dict[Path, ComboCheckpoint | None] = {}
    lines = []
    for path in paths:
        if path.exists():
            try:
                found[path] = read_checkpoint(path)
            except InputError as error:
                found[path] = None
                lines.append(f"WARNING {error} It is passed over and kept.")
    return found, lines


def _continuing(start: ComboCheckpoint, epochs: int) -> str:
    before = start.params["train"]["epochs"]
    if start.position == (epochs, 0):
        return f"the run is complete: {epochs} epochs are in its checkpoint"
    line = f"continuing at epoch {start.epoch + 1}/{epochs}, step {start.step}"
    if before < epochs:
        line += f"; extended from {before} epochs: the learning rate follows the schedule of {epochs} from here on"
    return line


def _why_not(other: ComboCheckpoint, params: Mapping[str, Any], fingerprint: str, digest: str, resume: str) -> str:
    before, now = other.params["train"]["epochs"], params["train"]["epochs"]
    if other.fingerprint == fingerprint:
        reason = f"a run of {before} epochs is not one of {now}" if before > now else f"train.resume is {resume}"
    else:
        keys = differences(other.params, params)
        if other.data_digest != digest:
            keys.append("the bytes of data/fixed")
        reason = "these differ: " + ("; ".join(keys) or "the checkpoint it continued from")
    return f"not continuing the run at epoch {other.epoch}, step {other.step}: {reason}"


def _set_aside(path: Path, checkpoint: ComboCheckpoint | None, fingerprint: str, journal: Path) -> None:
    """Move a checkpoint that this run does not continue out of its way, into the journal.

    A run of another fingerprint stays under its own, where its parameters find it again, unless another state of it is
    there that is not older. What has the fingerprint of the new run gets a name of its own, and so does what cannot be read. It
    counts as written now, so that it is kept for `runtime.keep_days` from now on.
    """
    if checkpoint is None:
        target = journal / "damaged" / f"{path.stem}-{sha256(path)[:8]}.pt"
    else:
        target = journal / checkpoint.fingerprint / path.name
        if checkpoint.fingerprint == fingerprint or not _may_become(target, path, checkpoint):
            place = f"epoch-{checkpoint.epoch}-step-{checkpoint.step}"
            target = target.with_name(f"kept-{path.stem}-{place}-{sha256(path)[:8]}.pt")
    link_or_copy(path, target)
    path.unlink()
    os.utime(target)


def _may_become(target: Path, path: Path, checkpoint: ComboCheckpoint) -> bool:
    """Whether nothing is lost when `path`, which holds `checkpoint`, takes the place of `target`."""
    if not target.exists() or target.samefile(path) or sha256(target) == sha256(path):
        return True
    try:
        there = read_checkpoint(target)
    except InputError:
        return False
    return there.position < checkpoint.position and there.params["train"]["epochs"] == checkpoint.params["train"]["epochs"]


def _share(mine: Mapping[Path, ComboCheckpoint], start: ComboCheckpoint, folder: Path, own: Path) -> None:
    """Let the folder and the run's journal hold the same: the start as last, and the latest previous and best."""
    for name in (LAST, PREVIOUS, BEST):
        paths = [path for path in mine if path.name == name or (name == LAST and mine[path] is start)]
        if paths:
            latest = max(paths, key=lambda path: mine[path].position)
            for place in (folder, own):
                link_or_copy(latest, place / name)
