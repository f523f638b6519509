"""Progress bars of transfers: they move on a terminal, and are a line every half minute elsewhere."""

import sys

from tqdm import tqdm

LINE_EVERY_S = 30.0


def transfer_bar(name: str, unit: str = "B", total: int | None = None) -> tqdm:
    """A bar of bytes or of other units, which goes away when it is closed."""
    every_s = 0.2 if sys.stderr.isatty() else LINE_EVERY_S
    return tqdm(desc=name, total=total, unit=unit, unit_scale=unit == "B", leave=False, dynamic_ncols=True, delay=every_s,
                mininterval=every_s)
