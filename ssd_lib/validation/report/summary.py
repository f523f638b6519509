"""Whether the data set can be trained on, in one sentence, and how large it is."""

from collections.abc import Mapping
from typing import Any

from ssd_lib.params import DataParams
from ssd_lib.validation.report.elements import Section, Table, Text, percent, plural


def verdict(report: Mapping[str, Any], data: DataParams) -> Section:
    """The first thing to read.

    Args:
        report: of `validate`.
        data: says how much may be bad.
    """
    rows = [(row["split"], *(f"{row[key]:,}" for key in ("images", "boxes", "crowds", "images_without_boxes")))
            for row in report["splits"]]
    return Section("Verdict", (_sentence(report, data.max_bad_fraction),
                               Table(("split", "images", "boxes", "crowds", "images without objects"), rows)))


def without_objects(report: Mapping[str, Any]) -> list[str]:
    """Which of train and val have nothing to learn from, or to measure with."""
    return [row["split"] for row in report["splits"] if row["split"] != "test" and row["boxes"] == row["crowds"]]


def _sentence(report: Mapping[str, Any], allowed: float) -> Text:
    if empty := without_objects(report):
        return Text(f"Stopped: no objects in {' and '.join(empty)}; train and val need one each at least.", "bad")
    for of in ("images", "boxes"):
        bad, total = report[f"bad_{of}"], report[of]
        if bad > allowed * total:
            return Text(f"Stopped: {bad:,} of {total:,} {of} are bad ({percent(bad, total)}); `data.max_bad_fraction` allows "
                        f"{percent(allowed, 1)}. Mend them, or raise it to go on without them.", "bad")
    noted = f", with {plural(report['warnings'], 'warning')} to look at" if report["warnings"] else ""
    bad = " and ".join(plural(report[f"bad_{of}"], f"bad {one}") for of, one in (("images", "image"), ("boxes", "box"))
                       if report[f"bad_{of}"])
    if bad:
        return Text(f"Fit to train on, once `fix_annotations` has mended or left out {bad}{noted}.", "good")
    return Text(f"Fit to train on: nothing is bad{noted}.", "good")
