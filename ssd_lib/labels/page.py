"""The page of suspected label errors: each drawn twice, with its cause."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ssd_lib.errors import plural
from ssd_lib.labels.records import Listed, Part
from ssd_lib.labels.suspects import KINDS, boxes_of, label_boxes
from ssd_lib.report.elements import Mark, Section, Table, Text, Thumbnails, Tile
from ssd_lib.report.render import render_html
from ssd_lib.report.thumbnails import View, read_thumbnail

TITLE = "Suspected label errors"
MEANINGS = ("an object is seen where nothing is labelled", "an object of another class is seen in the labelled box",
            "an object of this class is seen, but its box is another one", "nothing is seen where an object is labelled")
ROOM = 0.6  # around label and detection in the close-up, as a share of their longer side
CLOSEST_PX = 48  # a close-up shows at least this much


def render_page(parts: Sequence[Part], listed: Sequence[Listed]) -> str:
    """Return the page as HTML; the same input gives the same bytes.

    Args:
        parts: what was searched.
        listed: the suspects in them that are shown, the most certain first.
    """
    legend = Text("Left the image with its labels in blue, the suspect in red. Right a close-up: dashed red the label that is "
                  "suspect, green what the detector sees.")
    tiles = [_tile(rank, one) for rank, one in enumerate(listed, start=1)]
    pictures = [Section("Suspects, the most certain first", (legend, Thumbnails("", tiles)))] if tiles else []
    return render_html(TITLE, [_summary(parts, listed), *pictures])


def _summary(parts: Sequence[Part], listed: Sequence[Listed]) -> Section:
    labels = sum(int((~part.dataset.fixed.is_crowd).sum()) for part in parts)
    images = sum(len(part.dataset.fixed) for part in parts)
    counts = Counter((one.record.kind, one.record.split) for one in listed)
    head = ("kind", *(part.name for part in parts), "what it means")
    rows = [(kind, *(f"{counts[kind, part.name]:,}" for part in parts), meaning)
            for kind, meaning in zip(KINDS, MEANINGS, strict=True)]
    return Section("Summary", (
        Text(f"{plural(len(listed), 'suspect')} among {plural(labels, 'label')} of {plural(images, 'image')}.", "good"),
        Text("The detector contradicts these labels, or misses one; it may be wrong. Look at the most certain first, and stop "
             "where few of them are errors."),
        Table(head, rows)))


def _tile(rank: int, one: Listed) -> Tile:
    fixed, found = one.part.dataset.fixed, one.part.suspects
    image, item = one.image, int(found.objects[one.at])
    names, labelled = ("", *fixed.class_names), label_boxes(fixed)
    rows = range(int(fixed.box_offsets[image]), int(fixed.box_offsets[image + 1]))
    others = [Mark(_xywh(labelled[row]), names[fixed.labels[row]], tone="crowd" if fixed.is_crowd[row] else "box")
              for row in rows if row != item]
    box = _xywh(boxes_of(fixed, one.part.predictions, found)[one.at])
    label = [Mark(_xywh(labelled[item]), names[fixed.labels[item]], tone="missed")] if item >= 0 else []
    seen = [Mark(box, one.record.detected, tone="right")] if one.record.detected else []
    suspect = label[0].xywh if label else box
    path = one.part.dataset.images / fixed.file_name(image)
    whole = read_thumbnail(path, (Mark(suspect, one.record.label or "", is_faulty=True), *others))
    close = read_thumbnail(path, (*label, *seen), _close_up([mark.xywh for mark in (*label, *seen)], fixed.sizes[image]))
    return Tile((whole, close), f"{rank}. {one.record.kind}, score {one.record.score:.2f}",
                f"{one.record.cause} · {one.record.file_name}")


def _close_up(boxes: Sequence[View], size: np.ndarray) -> View:
    """Return the part of an image of (height, width) pixels around some boxes."""
    corners = np.array([(x, y, x + width, y + height) for x, y, width, height in boxes])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    reach = max((1 + ROOM) * float((high - low).max()), CLOSEST_PX) / 2
    middle, limit = (low + high) / 2, size[::-1].astype(float)
    low, high = np.clip(middle - reach, 0, limit).round(), np.clip(middle + reach, 0, limit).round()
    return _xywh(np.concatenate([low, high - low]))


def _xywh(row: np.ndarray) -> View:
    x, y, width, height = row.tolist()
    return x, y, width, height
