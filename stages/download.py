"""Fetch the dataset to data/raw, complete and verified, and list its files in data/manifest.json. With --stats-only, print how
many images and boxes Open Images has of each class and how many the limits would take, and download no image."""

import argparse
import time

from ssd_lib.download.download import download, summary
from ssd_lib.download.later_stages import batch_warning, check_before_download
from ssd_lib.download.open_images import statistics
from ssd_lib.export.packages import formats_fault
from ssd_lib.nets.imagenet import imagenet_fault
from ssd_lib.params import load_params
from stages.runner import run


def download_data() -> str:
    """Fetch what the section `data` names; return one line of summary."""
    parser = argparse.ArgumentParser(prog="python -m stages.download", description=__doc__)
    parser.add_argument("--stats-only", action="store_true", help="for data.source: open_images")
    stats_only = parser.parse_args().stats_only
    params = load_params("data")
    if stats_only:
        return statistics(params.data)
    check_before_download(imagenet_fault, formats_fault)
    start_s = time.monotonic()
    manifest = download(params.data, params.runtime)
    manifest.save()
    return summary(manifest, time.monotonic() - start_s) + batch_warning(len(manifest.images("train")))


if __name__ == "__main__":
    run(download_data)
