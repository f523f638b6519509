"""Bring the data set to data/raw, whole and verified; data/manifest.json says what it is made of. With --stats-only nothing is
brought but the numbers: how many images and boxes of each class Open Images has, and what the limits would take of them."""

import argparse
import time

from ssd_lib.download.download import download, summary
from ssd_lib.download.open_images_stats import statistics
from ssd_lib.params import load_params
from stages.runner import run


def download_data() -> str:
    """Have the data set of the `data` group on the disk."""
    parser = argparse.ArgumentParser(prog="python -m stages.download", description=__doc__)
    parser.add_argument("--stats-only", action="store_true", help="for data.source: open_images")
    stats_only = parser.parse_args().stats_only
    params = load_params("data")
    if stats_only:
        return statistics(params.data)
    start_s = time.monotonic()
    manifest = download(params.data, params.runtime)
    manifest.save()
    return summary(manifest, time.monotonic() - start_s)


if __name__ == "__main__":
    run(download_data)
