"""Decide whether a dataset can be used for training, and say why not: the exact cause first."""

from collections.abc import Mapping
from typing import Any

from ssd_lib.annotations.account import FILE_KINDS
from ssd_lib.annotations.faults import KINDS
from ssd_lib.errors import plural

FEW_BAD = 5  # so many bad images or boxes stop nothing, if they are no more than FEW_BAD_SHARE
FEW_BAD_SHARE = 0.1
TOLD_FIRST = ("unused_labels", "unlabelled", "unlabelled_unused", "unreadable_images", "unused_images", "other_classes",
              "class_folders")


def stop_reason(report: Mapping[str, Any], allowed: float) -> str:
    """Return why validate stops, in a sentence with its remedy; "" if it does not.

    Args:
        report: the report of `validate`.
        allowed: `data.max_bad_fraction`; 0 allows no bad image or box at all, 1 any, and labels that look like another format.
    """
    faults = report.get("faults", ())
    implausible = [fault for fault in faults if fault["kind"] == "implausible_boxes"]
    if implausible and allowed < 1:
        return (f"{implausible[0]['first'][0]}. Correct the labels, or export them again; if they are right as they are, set "
                "`data.max_bad_fraction` to 1.")
    unused = next((count for count in report.get("files", ()) if count["kind"] == "unused_labels"), None)
    if unused and unused["count"] > allowed * unused["of"]:
        return (f"{unused['count']:,} of {unused['of']:,} label files are used by no image, the first is {unused['first'][0]}; "
                "each needs an image of the same name. Rename it or its image, remove it, or set `data.max_bad_fraction` to "
                f"{_rounded_up(unused['count'] / unused['of'])} to train without them.")
    if empty := splits_without_objects(report):
        broken = [fault for fault in faults if fault["kind"] == "broken_labels"]
        if broken:
            return (f"{broken[0]['first'][0]} {plural(broken[0]['count'], 'label file')} cannot be read, so there are no "
                    f"objects in {' and '.join(empty)}.")
        rows = {row["split"]: row for row in report["splits"]}
        found = ", ".join(f"{split} has {plural(rows[split]['images'], 'image')} and {plural(rows[split]['boxes'], 'box')}"
                          f"{', all of them crowds' if rows[split]['boxes'] else ''}" for split in empty)
        return (f"no objects in {' and '.join(empty)}: {found}; train and val need at least one object each. Add annotations, "
                "or correct data.classes or data.paths.")
    for unit in ("images", "boxes"):
        bad, total = report[f"bad_{unit}"], report[unit]
        if bad > most_bad(total, allowed):
            return (f"{bad:,} of {total:,} {unit} are bad ({bad / total:.1%}); `data.max_bad_fraction` allows {allowed:.1%}. "
                    f"Repair them, or set `data.max_bad_fraction` to {_rounded_up(bad / total)} to train without them.")
    return ""


def most_bad(total: int, allowed: float) -> float:
    """Return how many bad ones of `total` images or boxes stop nothing: a share, but in small sets a few."""
    return max(allowed * total, min(FEW_BAD, FEW_BAD_SHARE * total)) if allowed else 0


def first_faults(report: Mapping[str, Any]) -> str:
    """Return the first fault of each bad kind, a line each, after a head line; "" without faults."""
    lines = [f"\n  {fault['kind']} ({fault['count']}): {fault['first'][0]}" for fault in report["faults"]
             if fault["bad"] and KINDS[fault["kind"]].of in ("images", "boxes")]
    return "".join([" The first fault of each kind:", *lines]) if lines else ""


def file_notices(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each kind of files that should have been used and are not, or lack a label file."""
    return [f"{_of(count)} {FILE_KINDS[count['kind']]}. The first: "
            f"{', '.join(count['first'][:3])}." for count in report.get("files", ()) if count["kind"] in TOLD_FIRST]


def splits_without_objects(report: Mapping[str, Any]) -> list[str]:
    """Return which of train and val have no boxes, or crowds only."""
    return [row["split"] for row in report["splits"] if row["split"] != "test" and row["boxes"] == row["crowds"]]


def _rounded_up(share: float) -> str:
    return f"{min(1.0, (int(share * 100) + 1) / 100):g}"


def _of(count: Mapping[str, Any]) -> str:
    return f"{count['count']:,} of {count['of']:,}" if count["of"] else f"{count['count']:,}"
