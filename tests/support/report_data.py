"""Small datasets, checked as validate does it, as input of the validation report."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from ssd_lib.annotations.faults import KINDS, Fault, count_bad
from ssd_lib.annotations.table import Annotations, Box
from ssd_lib.manifest import Manifest
from ssd_lib.validation.annotations import check_duplicates
from ssd_lib.validation.images import ImageFile, check_image
from support.rows import image_rows

MARKUP_NAME = "train/<b>bold<b> & \"a\" | `b` 図.png"  # characters with a meaning in HTML and Markdown


@dataclass(frozen=True)
class ReportInput:
    """The arguments of write_report."""

    manifest: Manifest
    splits: dict[str, Annotations]
    faults: list[Fault]
    report: dict[str, Any]


def png_bytes(seed: int, width: int = 60, height: int = 40) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def check_files(root: Path, contents: dict[str, bytes], splits: dict[str, Annotations], faults: list[Fault]) -> ReportInput:
    """Write the files, check them, and add the given faults."""
    for name, data in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    manifest = Manifest(source="local", root=str(root), splits={}, files={
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()})
    found = [fault for split, annotations in splits.items() for image in image_rows(annotations.images)
             for fault in check_image(ImageFile(split, image.file_name, root / image.file_name, image[2:], None))]
    found += [*check_duplicates(manifest, splits), *faults]
    rows = [{"split": split, "images": len(annotations.images), "boxes": len(annotations.boxes),
             "crowds": int(annotations.boxes.is_crowd.sum()), "images_without_boxes": 0}
            for split, annotations in splits.items()]
    report = {key: sum(row[key] for row in rows) for key in ("images", "boxes", "crowds", "images_without_boxes")}
    report |= {"bad_images": count_bad(found, "images"), "bad_boxes": count_bad(found, "boxes"), "splits": rows,
               "warnings": sum(not KINDS[fault.kind].is_bad for fault in found),
               "unreadable": [str(fault.subject[1]) for fault in found if KINDS[fault.kind].leaves_out]}
    return ReportInput(manifest, splits, found, report)


def boxes_on(images: int, category: int) -> list[Box]:
    return [Box(image, image, category, 5.0, 6.0, 20.0, 10.0, 200.0, False) for image in range(1, images + 1)]
