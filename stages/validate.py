"""Decode every image, check every annotation and write reports/validation.json, .html and .md. No input is changed."""

from ssd_lib.errors import plural
from ssd_lib.manifest import REPORT_PATH, load_manifest
from ssd_lib.params import load_params
from ssd_lib.validation.validate import validate
from stages.runner import run


def validate_data() -> str:
    """Check the dataset; fail above `data.max_bad_fraction`."""
    params = load_params("data")
    report = validate(load_manifest(), params.data, params.runtime)
    return (f"validate: {plural(report['images'], 'image')}, {plural(report['boxes'], 'box')}; "
            f"bad: {plural(report['bad_images'], 'image')}, {plural(report['bad_boxes'], 'box')}; "
            f"{plural(report['warnings'], 'warning')}. See {REPORT_PATH.with_suffix('.html')}.")


if __name__ == "__main__":
    run(validate_data)
