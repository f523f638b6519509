"""Read all annotations of a manifest, in any format; `READERS` has `read_parts` of each.

In every format `read_parts` reads what a manifest lists, and `parse_file` parses one file of labels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np

from ssd_lib.annotations import coco, open_images, voc, yolo
from ssd_lib.annotations.files import HALF_CHARACTER
from ssd_lib.annotations.table import Annotations, Category, ParsedPart, clean_name, merge
from ssd_lib.errors import InputError, visible
from ssd_lib.manifest import MAX_CLASSES, Manifest, PartKey
from ssd_lib.params import Format
from ssd_lib.plain_values import MAX_NAME

MAX_NAMES = 40  # classes in a message

# Each reads all parts of its format at once: if labels have no class numbers, the classes of one part depend on all.
READERS: Mapping[Format, Callable[[Manifest], dict[PartKey, ParsedPart]]] = {
    "coco": coco.read_parts,
    "voc": voc.read_parts,
    "yolo": yolo.read_parts,
    "open_images": open_images.read_parts,
}


def read_splits(manifest: Manifest) -> dict[str, tuple[ParsedPart, ...]]:
    """Read the parts of every split; of the classes only those of `data.classes`, if it names any.

    Raises:
        InputError: a file cannot be read, a part has more than MAX_CLASSES classes or a name that is too long or not
            Unicode, or `data.classes` names a class that the dataset does not have.
    """
    parsed: dict[PartKey, ParsedPart] = {}
    for form, read in READERS.items():
        parsed |= read(manifest) if manifest.parts(form) else {}
    splits = {split: tuple(parsed[split, number] for number in range(len(parts))) for split, parts in manifest.splits.items()}
    if not manifest.classes:
        _check_classes(manifest, splits)
        return splits
    declared = [name for parts in manifest.splits.values() for part in parts for name in part.class_names.values()]
    found = [category.name for parts in splits.values() for part in parts for category in part.annotations.categories]
    _refuse_unknown(manifest.classes, {clean_name(name) for name in declared + found})
    return {split: tuple(_keep_classes(part, manifest.classes) for part in parts) for split, parts in splits.items()}


def join_parts(splits: Mapping[str, Sequence[ParsedPart]]) -> dict[str, Annotations]:
    """Join the parts of each split. If every split has one part, it stays as it is; else classes are matched by name."""
    parts = {split: [part.annotations for part in parsed] for split, parsed in splits.items()}
    if all(len(annotations) == 1 for annotations in parts.values()):
        return {split: annotations[0] for split, annotations in parts.items()}
    names = dict.fromkeys(clean_name(category.name) for annotations in parts.values() for part in annotations
                          for category in part.categories if category.name.strip())
    categories = [Category(number, name, number) for number, name in enumerate(names, 1)]
    return {split: merge(annotations, categories) for split, annotations in parts.items()}


def only_classes(annotations: Annotations, names: Sequence[str]) -> Annotations:
    """Keep some classes, and drop the images whose objects are all of other classes.

    Images without any object are kept: they are known to show none of the classes.
    """
    categories = tuple(category for category in annotations.categories if clean_name(category.name) in names)
    others = {category.id for category in annotations.categories} - {category.id for category in categories}
    boxes = annotations.boxes
    is_other = np.isin(boxes.category_ids, list(others))
    ids = annotations.images.ids
    dropped = np.isin(ids, boxes.image_ids[is_other]) & ~np.isin(ids, boxes.image_ids[~is_other])
    new_index = np.cumsum(~is_other) - 1
    lines = annotations.source_lines
    return replace(annotations, images=annotations.images.take(np.flatnonzero(~dropped)), categories=categories,
                   boxes=boxes.take(~is_other), source_lines=None if lines is None else lines[~is_other],
                   unknown_classes={int(new_index[index]): name for index, name in annotations.unknown_classes.items()})


def _keep_classes(part: ParsedPart, classes: Sequence[str]) -> ParsedPart:
    kept = only_classes(part.annotations, classes)
    skipped = frozenset(part.annotations.images.file_names).difference(kept.images.file_names)
    return part._replace(annotations=kept, skipped_images=skipped)


def _check_classes(manifest: Manifest, splits: Mapping[str, Sequence[ParsedPart]]) -> None:
    for split, parts in splits.items():
        for number, part in enumerate(parts):
            if (count := len(part.annotations.categories)) > MAX_CLASSES:
                where = manifest.splits[split][number].annotations or f"the labels of {split}"
                raise InputError(f"{where}: {count} classes; at most {MAX_CLASSES} are allowed. Are these names of classes? If "
                                 "so, choose some with data.classes.")
            for category in part.annotations.categories:
                if len(category.name) > MAX_NAME or HALF_CHARACTER.search(category.name):
                    raise InputError(f"the class {visible(category.name, 60)!r}: its name has {len(category.name)} characters; "
                                     f"at most {MAX_NAME} are allowed, all of them Unicode. Rename it.")


def _refuse_unknown(wanted: Sequence[str], known: set[str]) -> None:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        by_letters = {name.casefold(): name for name in known}
        near = [get_close_matches(name.casefold(), by_letters, n=1, cutoff=0.5) for name in unknown]
        shown = [f"'{name}'{f' (did you mean {by_letters[found[0]]!r}?)' if found else ''}"
                 for name, found in zip(unknown, near, strict=True)]
        more = f" and {len(known) - MAX_NAMES} more" if len(known) > MAX_NAMES else ""
        there = "" if all(near) else f" It has {', '.join(sorted(known)[:MAX_NAMES]) + more or 'none'}."
        raise InputError(f"data.classes: the dataset has no class {', '.join(shown)}.{there} Names must be equal letter by "
                         "letter. Correct data.classes.")
