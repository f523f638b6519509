"""Small datasets made by hand, for the tests of the readers of VOC, YOLO and Open Images."""

from pathlib import Path

from PIL import Image as Pillow

from ssd_lib.annotations.table import Annotations
from ssd_lib.manifest import Manifest, Part


def add_image(root: Path, name: str, size: tuple[int, int]) -> None:
    """Write an image file of one colour."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Pillow.new("RGB", size).save(root / name)


def add_text(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def manifest_of(root: Path, classes: tuple[str, ...] = (), **parts: Part) -> Manifest:
    """Return a manifest of the files as they are, with one part a split."""
    names = sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())
    return Manifest(source="local", root=str(root), splits={split: (part,) for split, part in parts.items()}, classes=classes,
                    files={name: (0, "") for name in names})


def named_boxes(annotations: Annotations) -> list[tuple[str, str, list[float], bool]]:
    """Return every box as (image, class, xywh, crowd), in order; the class is "?" where it is not known."""
    name_of = {category.id: category.name for category in annotations.categories}
    boxes = annotations.boxes
    return [(annotations.images.file_names[owner], name_of.get(category, "?"), xywh, crowd) for owner, category, xywh, crowd in
            zip(annotations.image_indices().tolist(), boxes.category_ids.tolist(), boxes.xywh.tolist(), boxes.is_crowd.tolist(),
                strict=True)]
