"""Write reports/validation.html and .md: what validate found, the most important first."""

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
from ssd_lib.report.elements import Section
from ssd_lib.report.render import render_html, render_markdown
from ssd_lib.validation.report.classes import classes_section, scarce_classes
from ssd_lib.validation.report.objects import (
    image_sizes_section,
    object_shapes_section,
    object_sizes_section,
    objects_per_image_section,
)
from ssd_lib.validation.report.sections import (
    duplicate_images_section,
    faults_section,
    files_section,
    random_images_section,
    summary_section,
)
from ssd_lib.validation.report.statistics import count_classes, epoch_boxes, trainable

TITLE = "Validation report"
NAME = "validation"
BALANCE_MODES: tuple[Mode, ...] = ("downsample", "repeat")  # beside "none", which shows each image once


def write_report(folder: Path, manifest: Manifest, splits: Mapping[str, Annotations], faults: Sequence[Fault],
                 report: Mapping[str, Any], data: DataParams) -> None:
    """Write validation.md and validation.html; the same input gives the same bytes.

    Args:
        folder: where the files are written.
        manifest: gives the paths of the images.
        splits: the annotations as they were read; "train" and "val" are shown.
        faults: all faults of the images and annotations.
        report: the report of `validate`.
        data: the group `data`.

    Raises:
        StateError: the disk is full, or the folder cannot be written.
    """
    sections = _sections(manifest, splits, faults, report, data)
    write_text(folder / f"{NAME}.md", render_markdown(TITLE, sections))
    write_text(folder / f"{NAME}.html", render_html(TITLE, sections))


def _sections(manifest: Manifest, splits: Mapping[str, Annotations], faults: Sequence[Fault], report: Mapping[str, Any],
              data: DataParams) -> list[Section]:
    unreadable = set(report["unreadable"])
    shown = {split: trainable(annotations, unreadable) for split, annotations in splits.items() if split != "test"}
    if not shown:
        return [summary_section(report, data, ()), faults_section(manifest, splits, faults),
                files_section(report.get("files", ()))]
    first = next(iter(shown))
    classes = count_classes(shown)
    balance: dict[str, np.ndarray] = {
        mode: epoch_boxes(shown[first], classes.names, mode, data.balance_threshold) for mode in BALANCE_MODES}
    return [summary_section(report, data, scarce_classes(classes, first)), faults_section(manifest, splits, faults),
            files_section(report.get("files", ())),
            duplicate_images_section(manifest, splits),
            classes_section(classes, balance), objects_per_image_section(shown), object_sizes_section(shown),
            object_shapes_section(shown), image_sizes_section(shown),
            random_images_section(manifest, first, shown[first], {fault.image for fault in faults})]
