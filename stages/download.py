"""Bring the data set to data/raw, whole and verified; data/manifest.json says what it is made of."""

import time

from ssd_lib.params import load_params
from ssd_lib.sources.download import download, summary
from stages.runner import run


def download_data() -> str:
    """Have the data set of the `data` group on the disk."""
    params = load_params("data")
    start_s = time.monotonic()
    manifest = download(params.data, params.runtime)
    manifest.save()
    return summary(manifest, time.monotonic() - start_s)


if __name__ == "__main__":
    run(download_data)
