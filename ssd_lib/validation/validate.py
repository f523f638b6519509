"""The stage `validate`: check every image and every annotation of a manifest, and write a report. No input is changed."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssd_lib.annotations.faults import KINDS, Fault, count_bad, summarise
from ssd_lib.annotations.files import SHOWN, is_image
from ssd_lib.annotations.read import join_parts, read_splits
from ssd_lib.annotations.repair import merge_categories, turn_upright
from ssd_lib.annotations.table import Annotations, ParsedPart
from ssd_lib.errors import InputError
from ssd_lib.exif import UPRIGHT, turn_boxes
from ssd_lib.files import sha256, write_json
from ssd_lib.manifest import REPAIR_HINT, REPORT_PATH, FileCount, Manifest, Part
from ssd_lib.params import DataParams, RuntimeParams
from ssd_lib.processes import available_cores
from ssd_lib.validation.annotations import check_annotations, check_between, check_duplicates, check_names
from ssd_lib.validation.images import ImageFile, check_images
from ssd_lib.validation.plausibility import judge_part
from ssd_lib.validation.report.report import write_report
from ssd_lib.validation.verdict import file_notices, first_faults, stop_reason

logger = logging.getLogger(__name__)
COUNTED = ("images", "boxes", "crowds", "images_without_boxes")


def validate(manifest: Manifest, data: DataParams, runtime: RuntimeParams, path: Path = REPORT_PATH) -> dict[str, Any]:
    """Check all images and annotations and write the report as JSON, HTML and Markdown.

    `dvc metrics show` prints the numbers at the top of the report; its lists are for `fix_annotations`. The same files give
    the same bytes.

    Returns:
        The report, as written to `path`; the HTML and Markdown files are beside it.

    Raises:
        InputError: an annotation file cannot be read, or train and val use one class id for different classes; or, after the
            report is written: train or val has no objects, or more than `data.max_bad_fraction` of the images or of the
            boxes are bad, or of the label files belong to no image.
    """
    parts = read_splits(manifest)
    splits = join_parts(parts)
    if "train" in splits and "val" in splits:
        merge_categories(splits["train"], splits["val"])  # what would stop fix_annotations stops here, before hours of decoding
    workers = available_cores() if runtime.workers == "auto" else runtime.workers
    image_faults = list(check_images(_image_files(manifest, splits), workers))
    faults = [*image_faults, *_mixed_orientations(image_faults), *_other_faults(manifest, parts, splits)]
    report = {**_report(splits, faults), "max_bad_fraction": data.max_bad_fraction,
              "files": [count.model_dump() for count in (*manifest.counts, *_of_other_classes(parts))]}
    write_json(path, report, indent=1)
    write_report(path.parent, manifest, *_upright(splits, faults), report, data)
    for notice in file_notices(report):
        logger.warning(notice)
    if reason := stop_reason(report, data.max_bad_fraction):
        raise InputError(f"{path}: {reason} See {path.with_suffix('.html')}; after a change of the files, {REPAIR_HINT}."
                         f"{first_faults(report)}")
    return report


def _mixed_orientations(faults: Sequence[Fault]) -> Iterator[Fault]:
    """Yield a fault for each split in which the labels of some rotated images, but not of all, state the size as stored."""
    for split in dict.fromkeys(fault.subject[0] for fault in faults):
        stored, upright = ([fault.image for fault in faults if fault.kind == kind and fault.subject[0] == split]
                           for kind in ("labels_as_stored", "exif_rotated"))
        if stored and upright:
            yield Fault("mixed_orientations", (split, ""), f"{split}: of the images that EXIF turns, the labels of "
                        f"{len(stored):,} state the size as stored ({stored[0]}), those of {len(upright):,} the upright size "
                        f"or nothing that tells ({upright[0]}), so they may be meant as stored: compare both in the report")


def _upright(splits: dict[str, Annotations], faults: Sequence[Fault]) -> tuple[dict[str, Annotations], list[Fault]]:
    """Return annotations and faults with the boxes to draw on upright images; the texts keep the numbers of the labels."""
    turns = {fault.subject: fault.orientation for fault in faults if fault.orientation != UPRIGHT}
    sizes = {(split, name): size for split, annotations in splits.items() if turns
             for name, size in zip(reversed(annotations.images.file_names), annotations.images.sizes[::-1], strict=True)}

    def turned(fault: Fault) -> Fault:
        key = fault.subject[0], fault.image
        if key not in turns or fault.xywh is None:
            return fault
        box = turn_boxes(np.array([fault.xywh]), sizes[key][None], turns[key])[0]
        return fault._replace(xywh=tuple(box.tolist()))
    return ({split: turn_upright(annotations, {str(name): turn for (part, name), turn in turns.items() if part == split})
             for split, annotations in splits.items()}, [turned(fault) for fault in faults])


def _other_faults(manifest: Manifest, parts: dict[str, tuple[ParsedPart, ...]],
                  splits: dict[str, Annotations]) -> Iterator[Fault]:
    """Yield the faults that are found without decoding an image."""
    yield from _orphans(manifest, parts)
    yield from _changed_labels(manifest)
    for split, parts_of_split in parts.items():
        yield from _label_faults(parts_of_split, manifest.splits[split], split)
    yield from check_names(category for annotations in splits.values() for category in annotations.categories)
    yield from check_duplicates(manifest, splits)
    if "train" in splits and "val" in splits:
        yield from check_between(splits["train"], splits["val"])


def _label_faults(parts: Sequence[ParsedPart], sources: Sequence[Part], split: str) -> Iterator[Fault]:
    """Yield the faults of the annotations of a split; the texts use the numbers and names of their own files."""
    first = 0
    for part, source in zip(parts, sources, strict=True):
        yield from part.faults
        yield from judge_part(part.annotations, source.format, split, source.annotations)
        yield from check_annotations(part.annotations, split, first)
        first += len(part.annotations.boxes)


def _changed_labels(manifest: Manifest) -> Iterator[Fault]:
    """Yield a fault for each annotation file whose size or hash differs from the manifest."""
    for split, parts in manifest.splits.items():
        for part in parts:
            for image, name in part.pairs.items() or [("", part.annotations)]:
                known, path = manifest.files.get(name), manifest.path(name)
                if known and path.is_file() and (path.stat().st_size, sha256(path)) != known:
                    yield Fault("changed_labels", (split, image or name), f"{split}: '{name}' differs from the file "
                                f"that the manifest lists. {REPAIR_HINT}.", image)


def _image_files(manifest: Manifest, splits: dict[str, Annotations]) -> list[ImageFile]:
    """Return each file that the annotations list, once for each split."""
    files: list[ImageFile] = []
    root = manifest.path("")
    for split, annotations in splits.items():
        images = annotations.images
        sizes = {name: (width, height) for name, (width, height) in
                 zip(reversed(images.file_names), images.sizes[::-1].tolist(), strict=True)}
        files += [ImageFile(split, name, root / name, sizes[name], manifest.files.get(name)) for name in sorted(sizes)]
    return files


def _orphans(manifest: Manifest, parts: dict[str, tuple[ParsedPart, ...]]) -> list[Fault]:
    """Return a fault for each image file that no annotation lists."""
    listed = {name for parts_of_split in parts.values() for part in parts_of_split
              for name in (*part.annotations.images.file_names, *part.skipped_images)}
    return [Fault("orphan", (split, name), f"{name}: no annotation file lists it")
            for split in parts for name in sorted(_files(manifest, split) - listed)
            if is_image(name)]


def _of_other_classes(parts: dict[str, tuple[ParsedPart, ...]]) -> list[FileCount]:
    """Return the count of the images that were removed because all their objects are of classes not in `data.classes`."""
    skipped = sorted(name for of_split in parts.values() for part in of_split for name in part.skipped_images)
    kept = sum(len(part.annotations.images) for of_split in parts.values() for part in of_split)
    count = FileCount(kind="other_classes", count=len(skipped), of=len(skipped) + kept, first=tuple(skipped[:SHOWN]))
    return [count] if skipped else []


def _files(manifest: Manifest, split: str) -> set[str]:
    """Return the files of a split: those in the manifest, and those on the disk in the split's own image folders."""
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
        "turned": sorted([*fault.subject, fault.orientation] for fault in faults if fault.orientation != UPRIGHT),
        "unreadable": sorted({str(fault.subject[1]) for fault in faults if KINDS[fault.kind].leaves_out}),
    }


def _counts(annotations: Annotations) -> dict[str, int]:
    images, boxes = annotations.images, annotations.boxes
    empty = np.setdiff1d(images.ids, boxes.image_ids)
    return {"images": len(images), "boxes": len(boxes), "crowds": int(boxes.is_crowd.sum()),
            "images_without_boxes": len(empty) if len(boxes) else 0}
