"""The work of the stage `validate`: check every image and every annotation of a manifest, and write what was found.
It changes and moves nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ssd_lib.annotations.faults import KINDS, Fault, count_bad, summarise
from ssd_lib.annotations.read import join_parts, read_splits
from ssd_lib.annotations.repair import merge_categories
from ssd_lib.annotations.table import Annotations, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.files import sha256, write_json
from ssd_lib.images import IMAGE_SUFFIXES
from ssd_lib.manifest import REPAIR_HINT, REPORT_PATH, Manifest
from ssd_lib.params import DataParams, RuntimeParams
from ssd_lib.processes import available_cores
from ssd_lib.validation.annotations import check_annotations, check_between, check_names
from ssd_lib.validation.duplicates import check_copies
from ssd_lib.validation.images import Photo, check_photos
from ssd_lib.validation.report.report import write_report
from ssd_lib.validation.report.summary import without_objects

COUNTED = ("images", "boxes", "crowds", "images_without_boxes")


def validate(manifest: Manifest, data: DataParams, runtime: RuntimeParams, path: Path = REPORT_PATH) -> dict[str, Any]:
    """Check all images and annotations and write the report, and beside it the same to look at: validation.html and .md.

    The numbers at the top of the report are what `dvc metrics show` prints; its lists are for `fix_annotations`. The same files
    give the same bytes.

    Returns:
        The report, as written to `path`.

    Raises:
        InputError: an annotation file cannot be read, or train and val disagree about the ids of classes; or, after the
            report was written, train or val have no objects, or more than `data.max_bad_fraction` of the images or of the
            boxes are bad.
    """
    readings = read_splits(manifest)
    splits = join_parts(readings)
    if "train" in splits and "val" in splits:
        merge_categories(splits["train"], splits["val"])  # fix_annotations would stop there; hours of decoding come first
    faults = list(check_photos(_photos(manifest, splits), _worker_count(runtime)))
    faults += _orphans(manifest, readings)
    faults += _changed_labels(manifest)
    for split, parts in readings.items():
        faults += _label_faults(parts, split)
    faults += check_names(category for annotations in splits.values() for category in annotations.categories)
    faults += check_copies(manifest, splits)
    if "train" in splits and "val" in splits:
        faults += check_between(splits["train"], splits["val"])
    report = _report(splits, faults)
    write_json(path, report, indent=1)
    write_report(path.parent, manifest, splits, faults, report, data)
    _refuse_no_objects(report, path)
    _refuse_too_many(report, data.max_bad_fraction, path)
    return report


def _label_faults(parts: Sequence[ParsedPart], split: str) -> Iterator[Fault]:
    """What is wrong with the annotations of a split, in the numbers and words of the files that they came in."""
    first = 0
    for reading in parts:
        yield from reading.faults
        yield from check_annotations(reading.annotations, split, first)
        first += len(reading.annotations.boxes)


def _changed_labels(manifest: Manifest) -> Iterator[Fault]:
    """Annotation files that are not those that were downloaded, or listed."""
    for split, parts in manifest.splits.items():
        for part in parts:
            for image, name in part.pairs.items() or [("", part.annotations)]:
                known, path = manifest.files.get(name), manifest.path(name)
                if known and path.is_file() and (path.stat().st_size, sha256(path)) != known:
                    yield Fault("changed_labels", (split, image or name), f"{split}: '{name}' has other bytes than the "
                                f"manifest says. {REPAIR_HINT}.", image)


def _photos(manifest: Manifest, splits: dict[str, Annotations]) -> list[Photo]:
    """Each file that an annotation names, once for each split."""
    rows: list[Photo] = []
    root = manifest.path("")
    for split, annotations in splits.items():
        images = annotations.images
        sizes = {name: (width, height) for name, (width, height) in
                 zip(reversed(images.file_names), images.sizes[::-1].tolist(), strict=True)}
        rows += [Photo(split, name, root / name, sizes[name], manifest.files.get(name)) for name in sorted(sizes)]
    return rows


def _orphans(manifest: Manifest, readings: dict[str, tuple[ParsedPart, ...]]) -> list[Fault]:
    parts = [reading for readings_of_split in readings.values() for reading in readings_of_split]
    named = {name for part in parts for name in (*part.annotations.images.file_names, *part.unasked)}
    return [Fault("orphan", (split, name), f"{name}: no annotation file lists it")
            for split in readings for name in sorted(_files(manifest, split) - named)
            if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]


def _files(manifest: Manifest, split: str) -> set[str]:
    """What lies in the folders of a split: by the manifest, and, where a folder is the split's own, on the disk."""
    names = set(manifest.images(split))
    for folder in {part.images for part in manifest.splits[split] if part.images}:
        top = manifest.path(folder)
        names.update(f"{folder}/{file.relative_to(top).as_posix()}" for file in top.rglob("*") if file.is_file())
    return names


def _report(splits: dict[str, Annotations], faults: list[Fault]) -> dict[str, Any]:
    counts = {split: _counts(annotations) for split, annotations in splits.items()}
    return {
        **{key: sum(numbers[key] for numbers in counts.values()) for key in COUNTED},
        "bad_images": count_bad(faults, "images"),
        "bad_boxes": count_bad(faults, "boxes"),
        "warnings": sum(not KINDS[fault.kind].is_bad for fault in faults),
        "splits": [{"split": split, **numbers} for split, numbers in counts.items()],
        "faults": summarise(faults),
        "unreadable": sorted({str(fault.subject[1]) for fault in faults if KINDS[fault.kind].leaves_out}),
    }


def _counts(annotations: Annotations) -> dict[str, int]:
    images, boxes = annotations.images, annotations.boxes
    empty = np.setdiff1d(images.ids, boxes.image_ids)
    return {"images": len(images), "boxes": len(boxes), "crowds": int(boxes.is_crowd.sum()),
            "images_without_boxes": len(empty) if len(boxes) else 0}


def _refuse_no_objects(report: dict[str, Any], path: Path) -> None:
    if empty := without_objects(report):
        rows = {row["split"]: row for row in report["splits"]}
        found = ", ".join(f"{split} has {rows[split]['images']} images and {rows[split]['boxes']} boxes"
                          f"{', all of them crowds' if rows[split]['boxes'] else ''}" for split in empty)
        raise InputError(f"{path}: {found}; train and val need one object each at least. Label some, or mend data.classes or "
                         "data.paths.")


def _refuse_too_many(report: dict[str, Any], allowed: float, path: Path) -> None:
    for of in ("images", "boxes"):
        bad, total = report[f"bad_{of}"], report[of]
        if bad > allowed * total:
            found = [fault for fault in report["faults"] if fault["bad"] and KINDS[fault["kind"]].of == of]
            first = "\n  ".join(f"{fault['kind']} ({fault['count']}): {fault['first'][0]}" for fault in found)
            raise InputError(f"{path}: {bad} of {total} {of} are bad ({bad / total:.1%}); data.max_bad_fraction allows "
                             f"{allowed:.1%}. Look at {path.with_suffix('.html')}, mend the files ({REPAIR_HINT}), or raise "
                             f"data.max_bad_fraction to go on without them. By kind, with the first of each:\n  {first}")


def _worker_count(runtime: RuntimeParams) -> int:
    return available_cores() if runtime.workers == "auto" else runtime.workers
