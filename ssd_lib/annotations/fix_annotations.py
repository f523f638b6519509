"""The stage `fix_annotations`: read the annotations, repair them, write data/fixed. Training reads no others."""

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from ssd_lib.annotations.coco import write_annotations
from ssd_lib.annotations.fixed_set import BACKGROUND_NAME, write_fixed
from ssd_lib.annotations.read import join_parts, read_splits
from ssd_lib.annotations.repair import fix_and_count, merge_categories, turn_upright
from ssd_lib.annotations.table import Annotations, Category
from ssd_lib.errors import InputError, StateError, plural
from ssd_lib.files import write_json, write_text
from ssd_lib.manifest import FIXED_FOLDER, REPORT_PATH, Manifest
from ssd_lib.params import FixParams

SPLITS = ("train", "val")
LOGGER = logging.getLogger(__name__)


def fix_annotations(manifest: Manifest, report: dict[str, Any], params: FixParams,
                    folder: Path = FIXED_FOLDER) -> dict[str, Annotations]:
    """Write train.json and val.json, each with its .npz, labels.txt and id_map.json; the same input gives the same bytes.

    Args:
        manifest: of the downloaded files.
        report: of `validate`; its `unreadable` images are left out, and the boxes of those that are `turned` are turned.
        params: the group `fix`.
        folder: where to write.

    Returns:
        The fixed annotations of "train" and "val".

    Raises:
        InputError: no objects are left in train or val, or the two disagree about their classes.
    """
    splits = join_parts(read_splits(manifest.model_copy(update={"splits": {s: manifest.splits[s] for s in SPLITS}})))
    splits = {split: turn_upright(annotations, {name: turn for part, name, turn in report.get("turned", ()) if part == split})
              for split, annotations in splits.items()}
    categories = merge_categories(splits["train"], splits["val"])
    unreadable = set(report["unreadable"])
    limit = float(report.get("max_bad_fraction", 0))
    fixed = {split: _fix_split(split, replace(annotations, categories=categories), unreadable, params, manifest, limit)
             for split, annotations in splits.items()}
    for split, annotations in fixed.items():
        _require_objects(split, annotations, splits[split])
    for split, annotations in fixed.items():
        write_split(folder, split, annotations)
    _write_labels(folder, fixed["train"].categories)
    return fixed


def load_report(path: Path = REPORT_PATH) -> dict[str, Any]:
    """Read the report of the stage `validate`.

    Raises:
        StateError: the file is missing, incomplete or not such a report.
    """
    try:
        report = json.loads(path.read_bytes())
        return {**report, "unreadable": list(report["unreadable"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path}: not a report of validate: {error}. `dvc repro --force --single-item validate` "
                         "makes it.") from error


def write_split(folder: Path, split: str, annotations: Annotations) -> None:
    """Write one split twice: in COCO format, for evaluation and for people, and as arrays, for training."""
    write_annotations(folder / f"{split}.json", annotations)
    write_fixed(folder / f"{split}.npz", annotations)


def images_sha256(manifest: Manifest, annotations: Annotations) -> str:
    """Return one hash of the names, sizes and hashes of all images; it changes when the bytes of any image do."""
    rows = [[name, *manifest.files.get(name, (0, ""))] for name in sorted(annotations.images.file_names)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _fix_split(split: str, annotations: Annotations, unreadable: set[str], params: FixParams, manifest: Manifest,
               limit: float) -> Annotations:
    """Repair a split, and say what was removed: as a warning where it is a larger share than `limit`."""
    fixed, removed = fix_and_count(annotations, unreadable, params.min_box_px)
    counts = (("images", len(annotations.images), len(fixed.images)), ("boxes", len(annotations.boxes), len(fixed.boxes)))
    if any(after < before for _, before, after in counts):
        texts = [f"{before - after:,} of {before:,} {unit} ({(before - after) / before:.1%})"
                 for unit, before, after in counts if after < before]
        reasons = "; ".join(f"{plural(number, 'box')} because {why}" for why, number in removed.items())
        is_much = any(before - after > limit * before for _, before, after in counts)
        LOGGER.log(logging.WARNING if is_much else logging.INFO, "%s: removed %s%s", split, " and ".join(texts),
                   f": {reasons}" if reasons else "")
    return replace(fixed, info={"source": manifest.source, "images_sha256": images_sha256(manifest, fixed)})


def _require_objects(split: str, fixed: Annotations, before: Annotations) -> None:
    if not fixed.boxes.is_crowd.all():
        return
    raise InputError(f"{split}: nothing is left of {plural(len(before.images), 'image')} and "
                     f"{plural(len(before.boxes), 'box')} but {plural(len(fixed.images), 'image')} and no objects; at "
                     "least one object is needed. See reports/validation.json for the faults, and fix.min_box_px.")


def _write_labels(folder: Path, categories: tuple[Category, ...]) -> None:
    """Write labels.txt, whose line n, counted from 0, names label n, and id_map.json, to the original ids and back."""
    write_text(folder / "labels.txt", "".join(f"{name}\n" for name in (BACKGROUND_NAME, *(c.name for c in categories))))
    write_json(folder / "id_map.json", {
        "to_source": {str(category.id): category.source_id for category in categories},
        "from_source": {str(category.source_id): category.id for category in categories}}, indent=1)
