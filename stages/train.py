"""Train the net, or continue training it; models/ssd.pt appears when the run is complete."""

import argparse
from functools import partial

from ssd_lib.boxes.selection import Postprocess
from ssd_lib.data.loader import worker_count
from ssd_lib.evaluate.coco_eval import measure
from ssd_lib.evaluate.preview import write_samples
from ssd_lib.evaluate.validation_sheet import validation_sheet
from ssd_lib.manifest import FIXED_FOLDER, load_manifest
from ssd_lib.params import load_params
from ssd_lib.train.fit import fit
from stages.runner import run


def main() -> str:
    """Train, and return a line of summary. The functions of evaluation that validation uses are passed in here."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("--join", action="store_true", help="the run of the machine at runtime.rendezvous")
    joins = parser.parse_args().join
    params = load_params("data", "fix", "model", "train", "postprocess")
    postprocess = Postprocess(**params.postprocess.model_dump())
    workers = worker_count(params.runtime.workers)
    return fit(
        params, load_manifest(),
        measure=partial(measure, gt_path=FIXED_FOLDER / "val.json", postprocess=postprocess,
                        batch_size=params.train.batch_size, workers=workers),
        draw=partial(validation_sheet, postprocess=postprocess),
        write_samples=write_samples,
        joins=joins,
    )


if __name__ == "__main__":
    run(main)
