"""Suspects as records for people and programs, and as a COCO file to load into an annotation tool."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssd_lib.annotations.table import Annotations
from ssd_lib.evaluate.coco_eval import Predictions
from ssd_lib.evaluate.external import ExternalDataset, as_annotated
from ssd_lib.labels.suspects import KINDS, Suspects, images_of, overlaps

MARK = "suspect: "  # before the names of the classes that mark suspects in the COCO file
SCORE_DIGITS = 4


class Part(NamedTuple):
    """The suspects of one annotation file.

    Attributes:
        name: of the split, or of the file.
        annotations: the file.
        raw: its content.
        dataset: the same, repaired.
        predictions: the detections on its images.
        suspects: of `find_suspects`.
    """

    name: str
    annotations: Path
    raw: Annotations
    dataset: ExternalDataset
    predictions: Predictions
    suspects: Suspects


class Record(NamedTuple):
    """One suspect; boxes are xywh in the pixels that the annotation file refers to, rounded as in results.json.

    Attributes:
        split: name of the part.
        kind: of `KINDS`.
        score: in [0, 1]; the higher, the surer.
        cause: in words.
        file_name, image_id: of the image, as in the annotation file.
        annotation_id, label, label_box: what is annotated; None for a missing box.
        detected, detector_score, box: what the detector sees there; None for a spurious box.
    """

    split: str
    kind: str
    score: float
    cause: str
    file_name: str
    image_id: int
    annotation_id: int | None
    label: str | None
    label_box: list[float] | None
    detected: str | None
    detector_score: float | None
    box: list[float] | None


class Listed(NamedTuple):
    """A suspect in a list of several parts: its part, its index there, the index of its image, and its record."""

    part: Part
    at: int
    image: int
    record: Record


def listed(parts: Sequence[Part], limit: int) -> list[Listed]:
    """Return the suspects of all parts with the highest scores, the most certain first."""
    found = [Listed(part, at, image, record) for part in parts for at, (image, record) in enumerate(zip(
        images_of(part.dataset.fixed, part.predictions, part.suspects).tolist(), records(part), strict=True))]
    return sorted(found, key=lambda one: -one.record.score)[:limit]


def records(part: Part) -> list[Record]:
    """Return the suspects of a part in their order."""
    fixed, found = part.dataset.fixed, part.suspects
    seen, names = as_annotated(part.predictions, part.dataset), ("", *fixed.class_names)
    ids = annotation_ids(part.dataset)
    box_of = dict(zip(part.raw.boxes.ids[::-1].tolist(), part.raw.boxes.xywh[::-1].tolist(), strict=True))  # first of each id
    rows = zip(found.kinds.tolist(), found.scores.tolist(), found.detections.tolist(), found.objects.tolist(),
               images_of(fixed, part.predictions, found).tolist(), causes(part), strict=True)
    return [Record(
        part.name, KINDS[kind], round(score, SCORE_DIGITS), cause, fixed.file_name(image), int(fixed.image_ids[image]),
        *((ids[item], names[fixed.labels[item]], box_of[ids[item]]) if item >= 0 else (None,) * 3),
        *((names[seen.labels[at]], float(seen.scores[at]), seen.boxes[at].tolist()) if at >= 0 else (None,) * 3))
        for kind, score, at, item, image, cause in rows]


def causes(part: Part) -> list[str]:
    """Return for each suspect in words what the detector sees."""
    fixed, found, names = part.dataset.fixed, part.suspects, ("", *part.dataset.fixed.class_names)
    texts = []
    for kind, at, item, iou in zip(found.kinds.tolist(), found.detections.tolist(), found.objects.tolist(),
                                   overlaps(fixed, part.predictions, found).tolist(), strict=True):
        label = names[fixed.labels[item]]
        seen = f"{names[part.predictions.labels[at]]} {part.predictions.scores[at]:.2f}"
        texts.append((f"{seen} is seen where nothing is labelled", f"labelled {label}, {seen} is seen",
                      f"labelled {label}, {seen} is seen with another box, IoU {iou:.2f}",
                      f"labelled {label}, nothing like it is seen")[kind])
    return texts


def annotation_ids(dataset: ExternalDataset) -> list[int]:
    """Return the ids of the annotations in the order of the objects in `dataset.fixed`."""
    place = {number: index for index, number in enumerate(dataset.fixed.image_ids.tolist())}
    return [row["id"] for row in sorted(dataset.truth["annotations"], key=lambda row: place[row["image_id"]])]


def coco_tree(raw: Annotations, rows: Sequence[Record]) -> dict[str, Any]:
    """Return a COCO file of the images with suspects: their annotations as they are, and a further box for each suspect.

    The further boxes are of four classes, which `MARK` and the kind name; `score` and `attributes` say more.

    Args:
        raw: the annotations.
        rows: the suspects in them, the most certain first.
    """
    images, boxes = raw.images, raw.boxes
    wanted = {row.image_id for row in rows}
    is_wanted = np.isin(boxes.image_ids, list(wanted))
    first_id, first_class = (1 + max(numbers) for numbers in (boxes.ids.tolist(), [c.id for c in raw.categories]))
    own = [_annotation(*row) for row in zip(*(column[is_wanted].tolist() for column in (
        boxes.ids, boxes.image_ids, boxes.category_ids, boxes.xywh, boxes.is_crowd.astype(int))), strict=True)]
    marks = [_annotation(first_id + at, row.image_id, first_class + KINDS.index(row.kind), row.box or row.label_box or [], 0)
             | {"score": row.score, "attributes": {"rank": at + 1, "cause": row.cause}} for at, row in enumerate(rows)]
    return {
        "info": {"description": "the images with suspected label errors, see `ssd labels --help`"},
        "images": [{"id": number, "file_name": name, "width": width, "height": height} for number, name, (width, height)
                   in zip(images.ids.tolist(), images.file_names, images.sizes.tolist(), strict=True) if number in wanted],
        "annotations": own + marks,
        "categories": [{"id": category.id, "name": category.name} for category in raw.categories]
        + [{"id": first_class + at, "name": MARK + kind} for at, kind in enumerate(KINDS)]}


def _annotation(number: int, image: int, category: int, xywh: list[float], is_crowd: int) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": xywh, "area": xywh[2] * xywh[3],
            "iscrowd": is_crowd}
