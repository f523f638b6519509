"""`python -m ssd_lib`: the command `ssd` for a clone that is not installed."""

from ssd_lib.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
