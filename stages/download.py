"""Bring the data set to data/raw and write data/manifest.json."""

import time

from ssd_lib.params import load_params
from ssd_lib.sources.download import download, summary
from stages.runner import run


def main() -> str:
    """Download; one line of summary."""
    params = load_params()
    start_s = time.monotonic()
    manifest = download(params.data, params.runtime)
    manifest.save()
    return summary(manifest, time.monotonic() - start_s)


if __name__ == "__main__":
    run(main)
