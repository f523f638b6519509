"""Turn the annotations into ones that can be trained on: data/fixed, with class ids 1..K and every box in its image."""

from ssd_lib.annotations.fix_annotations import fix_annotations, load_report
from ssd_lib.errors import plural
from ssd_lib.manifest import FIXED_FOLDER, load_manifest
from ssd_lib.params import load_params
from stages.runner import run


def fix() -> str:
    """Repair the annotations of train and val."""
    params = load_params("fix")
    fixed = fix_annotations(load_manifest(), load_report(), params.fix)
    counts = ", ".join(f"{split} {plural(len(part.images), 'image')}, {plural(len(part.boxes), 'box')}"
                       for split, part in fixed.items())
    return f"fix_annotations: {counts}; {plural(len(fixed['train'].categories), 'class')}. See {FIXED_FOLDER}."


if __name__ == "__main__":
    run(fix)
