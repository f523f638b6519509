"""reports/validation.md and .html: what validate found, the most important first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.table import Annotations
from ssd_lib.data.balance import Mode
from ssd_lib.files import write_text
from ssd_lib.manifest import Manifest
from ssd_lib.params import DataParams
from ssd_lib.validation.report.classes import classes_section
from ssd_lib.validation.report.elements import Section
from ssd_lib.validation.report.fault_section import copies_section, faults_section
from ssd_lib.validation.report.markdown import markdown_page
from ssd_lib.validation.report.page import html_page
from ssd_lib.validation.report.sample import sample_section
from ssd_lib.validation.report.shapes import counts_section, images_section, ratios_section, sides_section
from ssd_lib.validation.report.statistics import count_classes, epoch_boxes, trainable
from ssd_lib.validation.report.summary import verdict

TITLE = "What validate found"
NAME = "validation"
BALANCES: tuple[Mode, ...] = ("downsample", "repeat")  # beside "none", which shows each image once


def write_report(folder: Path, manifest: Manifest, splits: Mapping[str, Annotations], faults: Sequence[Fault],
                 report: Mapping[str, Any], data: DataParams) -> None:
    """Write validation.md and validation.html; the same input gives the same bytes.

    Args:
        folder: where to.
        manifest: where the images lie.
        splits: the annotations as they were read; "train" and "val" are shown.
        faults: all that were found in them.
        report: of `validate`.
        data: the group `data`.

    Raises:
        StateError: the disk is full, or the folder cannot be written.
    """
    sections = _sections(manifest, splits, faults, report, data)
    write_text(folder / f"{NAME}.md", markdown_page(TITLE, sections))
    write_text(folder / f"{NAME}.html", html_page(TITLE, sections))


def _sections(manifest: Manifest, splits: Mapping[str, Annotations], faults: Sequence[Fault], report: Mapping[str, Any],
              data: DataParams) -> list[Section]:
    left_out = set(report["unreadable"])
    seen = {split: trainable(annotations, left_out) for split, annotations in splits.items() if split != "test"}
    if not seen:
        return [verdict(report, data), faults_section(manifest, splits, faults)]
    first = next(iter(seen))
    classes = count_classes(seen)
    balance: dict[str, np.ndarray] = {
        mode: epoch_boxes(seen[first], classes.names, mode, data.balance_threshold) for mode in BALANCES}
    return [verdict(report, data), faults_section(manifest, splits, faults), copies_section(manifest, splits),
            classes_section(classes, balance), counts_section(seen), sides_section(seen), ratios_section(seen),
            images_section(seen),
            sample_section(manifest, first, seen[first], {fault.image for fault in faults} | left_out)]
