"""Decode every image, check every annotation and write reports/validation.json, .html and .md. No input is changed."""

from ssd_lib.manifest import REPORT_PATH, load_manifest
from ssd_lib.params import load_params
from ssd_lib.validation.validate import validate
from stages.runner import run


def validate_data() -> str:
    """Check the dataset; fail above `data.max_bad_fraction`."""
    params = load_params("data")
    report = validate(load_manifest(), params.data, params.runtime)
    return (f"validate: {report['images']} images, {report['boxes']} boxes; bad: {report['bad_images']} images, "
            f"{report['bad_boxes']} boxes; {report['warnings']} warnings. See {REPORT_PATH.with_suffix('.html')}.")


if __name__ == "__main__":
    run(validate_data)
