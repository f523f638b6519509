"""Write reports/evaluation.html: how good the detector is, what it gets wrong, and what to try next."""

from pathlib import Path

from ssd_lib.evaluate.page.advice import advice_section
from ssd_lib.evaluate.page.images import best_images_section, worst_images_section
from ssd_lib.evaluate.page.inputs import PageInput
from ssd_lib.evaluate.page.sections import (
    classes_section,
    confusion_section,
    curves_section,
    exports_section,
    lost_section,
    run_section,
    scores_section,
    sizes_section,
    summary_section,
)
from ssd_lib.files import write_text
from ssd_lib.report.elements import Section
from ssd_lib.report.render import render_html

TITLE = "Evaluation report"
NAME = "evaluation.html"


def write_page(folder: Path, given: PageInput) -> None:
    """Write the page; the same input gives the same bytes.

    Raises:
        StateError: the disk is full, or the folder cannot be written.
    """
    write_text(folder / NAME, render_html(TITLE, page_sections(given)))


def page_sections(given: PageInput) -> list[Section]:
    """Return the sections of the page, the summary first."""
    sections = [summary_section(given), advice_section(given), lost_section(given), worst_images_section(given),
                classes_section(given), confusion_section(given), sizes_section(given), scores_section(given),
                curves_section(given), best_images_section(given), exports_section(given), run_section(given)]
    return [section for section in sections if section]
