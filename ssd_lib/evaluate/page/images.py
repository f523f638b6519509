"""The worst and the best images: ground truth beside detections, and under them what went wrong, in words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from ssd_lib.errors import plural
from ssd_lib.evaluate.analysis import Analysis
from ssd_lib.evaluate.error_kinds import MISSED, NO_ERROR, WRONG_CLASS
from ssd_lib.evaluate.matching import CROWD, NOTHING
from ssd_lib.evaluate.page.inputs import PageInput
from ssd_lib.evaluate.page.words import TITLES
from ssd_lib.report.elements import Mark, Section, Text, Thumbnails, Tile
from ssd_lib.report.thumbnails import MAX_MARKS, read_thumbnail

WORST, BEST = 24, 12
LISTED = 3  # errors of a kind that are named under an image
LEGEND = ("Left the ground truth: green if found, dashed red if not, grey if a crowd. Right the detections at the "
          "thresholds of the table of classes: green if right, red if wrong.")


def worst_images_section(given: PageInput) -> Section:
    """Return the images with the most errors, weighted by their share."""
    badness, _ = _ranks(given.analysis)
    chosen = [row for row in np.argsort(-badness, kind="stable")[:WORST].tolist() if badness[row]]
    if not chosen:
        return Section("Worst images", (Text("No image has an error."),))
    return Section(f"{plural(len(chosen), 'worst image')}", (Text(LEGEND), Thumbnails("", _tiles(given, chosen))))


def best_images_section(given: PageInput) -> Section:
    """Return the images without errors that have the most objects."""
    badness, right = _ranks(given.analysis)
    chosen = [row for row in np.lexsort((-right, badness))[:BEST].tolist() if right[row] and not badness[row]]
    if not chosen:
        return Section("Best images", (Text("No image with objects is without errors."),))
    return Section(f"{plural(len(chosen), 'best image')}", (Text("Without errors, those with the most objects first."),
                                                            Thumbnails("", _tiles(given, chosen))))


def cause(analysis: Analysis, image: int) -> str:
    """Return in words what is wrong with the detections of an image; "" if nothing is."""
    names = analysis.fixed.class_names
    errors, scores = analysis.errors, analysis.predictions.scores
    rows = [row for row in np.flatnonzero(analysis.predictions.images == image).tolist() if errors.kinds[row] != NO_ERROR]
    found: list[tuple[int, str]] = []
    for row in sorted(rows, key=lambda row: (int(errors.kinds[row]), -scores[row])):
        kind, name = int(errors.kinds[row]), names[analysis.predictions.labels[row] - 1]
        meant = f" for {names[analysis.fixed.labels[errors.targets[row]] - 1]}" if kind == WRONG_CLASS else ""
        found.append((kind, f"{name}{meant} {scores[row]:.2f}"))
    missed = Counter(names[analysis.fixed.labels[row] - 1] for row in _objects(analysis, image) if errors.is_missed[row])
    found += [(MISSED, f"{count} {name}") for name, count in missed.most_common()]
    return "; ".join(_listed(TITLES[kind], [text for _, text in group]) for kind, group in groupby(found, lambda one: one[0]))


def _listed(title: str, texts: Sequence[str]) -> str:
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return f"{title}: {', '.join(texts[:LISTED])}{more}"


def _ranks(analysis: Analysis) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) of each image: its errors times (1 - F1), and its right detections."""
    fixed, images = analysis.fixed, analysis.predictions.images
    wrong = np.bincount(images[analysis.errors.kinds != NO_ERROR], minlength=len(fixed))
    right = np.bincount(images[analysis.shown & (analysis.matched >= 0)], minlength=len(fixed))
    missed = np.bincount(fixed.image_indices()[~(analysis.errors.is_found | fixed.is_crowd)], minlength=len(fixed))
    errors = wrong + missed
    return errors ** 2 / np.maximum(1, errors + 2 * right), right


def _tiles(given: PageInput, images: Sequence[int]) -> list[Tile]:
    fixed = given.analysis.fixed
    tiles = []
    for image in images:
        name = fixed.file_name(image)
        plain = read_thumbnail(given.dataset.path_of(name), ())
        sides = [replace(plain, marks=marks[:MAX_MARKS]) for marks in (_truth(given.analysis, image),
                                                                       _detections(given.analysis, image))]
        tiles.append(Tile(tuple(sides), name, cause(given.analysis, image) or "no errors"))
    return tiles


def _objects(analysis: Analysis, image: int) -> range:
    return range(int(analysis.fixed.box_offsets[image]), int(analysis.fixed.box_offsets[image + 1]))


def _truth(analysis: Analysis, image: int) -> tuple[Mark, ...]:
    fixed, marks = analysis.fixed, []
    for row in _objects(analysis, image):
        x, y, right, bottom = fixed.boxes[row].astype(float).tolist()
        tone = "crowd" if fixed.is_crowd[row] else "right" if analysis.errors.is_found[row] else "missed"
        marks.append(Mark((x, y, right - x, bottom - y), fixed.class_names[fixed.labels[row] - 1], tone=tone))
    return tuple(marks)


def _detections(analysis: Analysis, image: int) -> tuple[Mark, ...]:
    _, labels, scores, boxes = analysis.predictions
    rows = np.flatnonzero((analysis.predictions.images == image) & analysis.shown).tolist()
    return tuple(Mark(tuple(boxes[row].tolist()), f"{analysis.fixed.class_names[labels[row] - 1]} {scores[row]:.2f}",
                      tone={CROWD: "crowd", NOTHING: "wrong"}.get(analysis.matched[row], "right")) for row in rows)
