"""The commands `ssd checkpoint show` and `ssd checkpoint convert`. Torch is imported when a command runs, not before."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ssd_lib.errors import InputError, StateError, visible_lines

if TYPE_CHECKING:
    from ssd_lib.checkpoint.file import ComboCheckpoint

HEAD_KEYS = ("file", "unreadable", "net", "position", "metrics", "fingerprint", "megabytes", "written")  # of a folder


def add_commands(commands: Any) -> None:
    """Add `show` and `convert`; each sets `run`, a function from the parsed options to the exit code.

    Args:
        commands: what `add_subparsers` of the parser of `ssd checkpoint` gives.
    """
    about = "show net, classes, position, metrics, parameters, fingerprint and versions as YAML"
    add = commands.add_parser("show", help=about, description=f"{about[0].upper()}{about[1:]}.").add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="a checkpoint, or a folder of them")
    commands.choices["show"].set_defaults(run=_show)
    about = "write a model file (.pt), or a state dict under upstream's names (.pth)"
    add = commands.add_parser("convert", help=about, description=f"{about[0].upper()}{about[1:]}.").add_argument
    add("source", type=Path, metavar="FILE",
        help="a combo checkpoint, an ssd.pt, or a .pth of qfgaohao, dusty-nv or kaboom-labs")
    add("target", type=Path, metavar="NEW", help="a new file name that ends in .pt or .pth")
    add("--net", help="the net of a .pth, which does not name it: mb1-ssd, ...")
    add("--labels", type=Path, metavar="FILE", help="the classes of a .pth, one name a line; BACKGROUND may be the first")
    add("--image-size", type=int, default=300, metavar="PX", help="the input size of a .pth (default: %(default)s)")
    commands.choices["convert"].set_defaults(run=_convert)


def show(path: Path) -> str:
    """Describe a checkpoint file, or each one below a folder, as YAML documents.

    Raises:
        InputError: the folder has none, or the file cannot be read.
    """
    if not path.is_dir():
        return _as_yaml({"file": str(path), **_describe(path)})
    paths = sorted(path.rglob("*.pt"))
    if not paths:
        raise InputError(f"{path}: no checkpoint (*.pt) is in this folder.")
    return "---\n".join(_head(each) for each in paths)


def _show(options: argparse.Namespace) -> int:
    """Print every path; one that cannot be shown is an error, and the others follow."""
    code = 0
    for path in options.paths:
        try:
            print(visible_lines(show(path)))
        except (InputError, StateError) as error:
            print(visible_lines(f"ERROR {error}"), file=sys.stderr)
            code = 1
    return code


def _convert(options: argparse.Namespace) -> int:
    from ssd_lib.checkpoint.weights import convert

    convert(options.source, options.target, options.net, options.labels, options.image_size)
    return 0


def _as_yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def _head(path: Path) -> str:
    """Describe a file just enough to tell the checkpoints of a folder apart."""
    try:
        values = {"file": str(path), **_describe(path)}
    except InputError as error:
        values = {"file": str(path), "unreadable": str(error)}
    return _as_yaml({key: value for key, value in values.items() if key in HEAD_KEYS})


def _describe(path: Path) -> dict[str, Any]:
    from ssd_lib.checkpoint.file import read_checkpoint
    from ssd_lib.checkpoint.kaboom import read_kaboom

    try:
        values = _describe_combo(read_checkpoint(path))
    except InputError as error:
        try:
            kaboom = read_kaboom(path)
        except InputError:
            raise error from None
        values = {"kind": "combo checkpoint of kaboom-labs/pytorch-ssd", "complete_epochs": kaboom.epochs,
                  "tensors": len(kaboom.weights), "values": sum(tensor.numel() for tensor in kaboom.weights.values())}
    status = path.stat()
    return {**values, "megabytes": round(status.st_size / 1e6, 1),
            "written": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.st_mtime))}


def _describe_combo(checkpoint: "ComboCheckpoint") -> dict[str, Any]:
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
        "threads": checkpoint.threads,
        "params": checkpoint.params,
    }
