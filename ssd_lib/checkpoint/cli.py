"""The commands `ssd checkpoint show` and `ssd checkpoint convert`. Torch is imported when a command runs, not before."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ssd_lib.errors import InputError, StateError


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


def _show(options: argparse.Namespace) -> int:
    """Print every path; one that cannot be shown is an error, and the others follow."""
    from ssd_lib.checkpoint.show import show

    code = 0
    for path in options.paths:
        try:
            print(show(path))
        except (InputError, StateError) as error:
            print(f"ERROR {error}", file=sys.stderr)
            code = 1
    return code


def _convert(options: argparse.Namespace) -> int:
    from ssd_lib.checkpoint.convert import convert

    print(convert(options.source, options.target, options.net, options.labels, options.image_size))
    return 0
