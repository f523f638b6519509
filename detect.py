"""Find objects in images and videos: `python detect.py photo.jpg`, the same as `ssd detect photo.jpg`."""

import argparse
import sys

from ssd_lib.cli import add_detect_arguments, run_command


def main(arguments: list[str] | None = None) -> int:
    """Run `ssd detect`, without installing the package; give its exit code."""
    parser = argparse.ArgumentParser(prog="detect.py", description="Find objects in images and videos, and draw them.")
    add_detect_arguments(parser)
    return run_command(parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
