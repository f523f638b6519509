"""`python -m ssd_lib.checkpoint show PATH...` says what a checkpoint is; `... convert FILE NEW` makes another file of it."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ssd_lib.checkpoint.convert import convert
from ssd_lib.checkpoint.show import show
from ssd_lib.errors import InputError, StateError


def main() -> int:
    """Read the command line; 0 when all could be done."""
    parser = argparse.ArgumentParser(prog="python -m ssd_lib.checkpoint", description="Look into checkpoints; convert them.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("show", help="net, classes, position, metrics, parameters, fingerprint, versions; as YAML")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a checkpoint, or a folder of them")
    command.set_defaults(run=_show)
    command = commands.add_parser("convert", help="write a model file (.pt), or a state dict under upstream's names (.pth)")
    command.add_argument("source", type=Path, metavar="FILE",
                         help="a combo checkpoint, an ssd.pt, or a .pth of qfgaohao, dusty-nv or kaboom-labs")
    command.add_argument("target", type=Path, metavar="NEW", help="a name that ends in .pt or .pth")
    command.add_argument("--net", help="of a .pth, which does not say: mb1-ssd, ...")
    command.add_argument("--labels", type=Path, metavar="FILE", help="of a .pth: a class name a line; BACKGROUND may be there")
    command.add_argument("--image-size", type=int, default=300, metavar="PX", help="of a .pth (default: %(default)s)")
    command.set_defaults(run=_convert)
    options = parser.parse_args()
    return options.run(options)


def _show(options: argparse.Namespace) -> int:
    return 1 if not all([_told(partial(show, path)) for path in options.paths]) else 0


def _convert(options: argparse.Namespace) -> int:
    return 0 if _told(lambda: convert(options.source, options.target, options.net, options.labels, options.image_size)) else 1


def _told(text: Callable[[], str]) -> bool:
    """Print a text, or why there is none; whether there was one."""
    try:
        print(text())
    except (InputError, StateError) as error:
        print(f"ERROR {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
