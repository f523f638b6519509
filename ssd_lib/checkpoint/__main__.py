"""`python -m ssd_lib.checkpoint show PATH...`: what a checkpoint is."""

import argparse
import sys
from pathlib import Path

from ssd_lib.checkpoint.show import show
from ssd_lib.errors import InputError


def main() -> int:
    """Read the command line; 0 when every path could be shown."""
    parser = argparse.ArgumentParser(prog="python -m ssd_lib.checkpoint", description="Look into checkpoints.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("show", help="net, classes, position, metrics, parameters, fingerprint, versions; as YAML")
    command.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a checkpoint, or a folder of them")
    faults = 0
    for path in parser.parse_args().paths:
        try:
            print(show(path))
        except InputError as error:
            print(f"ERROR {error}", file=sys.stderr)
            faults += 1
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
