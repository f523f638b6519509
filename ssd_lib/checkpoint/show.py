"""What a checkpoint is, in words."""

import time
from pathlib import Path
from typing import Any

import yaml

from ssd_lib.checkpoint.file import ComboCheckpoint, read_checkpoint
from ssd_lib.checkpoint.kaboom import read_kaboom
from ssd_lib.errors import InputError


def show(path: Path) -> str:
    """Describe a checkpoint file, or each one below a folder, as YAML documents.

    Raises:
        InputError: there is none, or (of a single file) it cannot be read.
    """
    if not path.is_dir():
        return _document(path)
    paths = sorted(path.rglob("*.pt"))
    if not paths:
        raise InputError(f"{path}: no checkpoint (*.pt) is in this folder.")
    return "---\n".join(_line(each) for each in paths)


def _document(path: Path) -> str:
    about = {"file": str(path), **_about(path)}
    return yaml.safe_dump(about, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _line(path: Path) -> str:
    """The head of a document: enough to tell the checkpoints of a folder apart."""
    try:
        about = _about(path)
    except InputError as error:
        about = {"unreadable": str(error)}
    keys = ("file", "unreadable", "net", "position", "metrics", "fingerprint", "written")
    head = {key: value for key, value in {"file": str(path), **about}.items() if key in keys}
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = _about_combo(read_checkpoint(path))
    except InputError as error:
        try:
            foreign = read_kaboom(path)
        except InputError:
            raise error from None
        about = {"kind": "combo checkpoint of kaboom-labs/pytorch-ssd", "complete_epochs": foreign.epochs,
                 "tensors": len(foreign.weights), "values": sum(tensor.numel() for tensor in foreign.weights.values())}
    status = path.stat()
    return {**about, "megabytes": round(status.st_size / 1e6, 1),
            "written": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.st_mtime))}


def _about_combo(checkpoint: ComboCheckpoint) -> dict[str, Any]:
    spec, epochs = checkpoint.spec, checkpoint.params["train"]["epochs"]
    return {
        "kind": "combo checkpoint",
        "net": {key: spec[key] for key in ("net", "image_size", "width_mult")},
        "classes": list(spec["class_names"]),
        "position": {"complete_epochs": checkpoint.epoch, "of": epochs, "step": checkpoint.step},
        "metrics": {key: round(value, 4) for key, value in checkpoint.history[-1].items() if value is not None}
        if checkpoint.history else "no epoch is complete",
        "best": checkpoint.best,
        "has": [name for name in ("average", "optimizer", "scaler") if getattr(checkpoint, name)],
        "fingerprint": checkpoint.fingerprint,
        "data_digest": checkpoint.data_digest,
        "versions": dict(checkpoint.versions),
        "params": checkpoint.params,
    }
