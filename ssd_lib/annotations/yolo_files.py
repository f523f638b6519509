"""The files of a dataset in YOLO format: the images of each split, with a label file each, and the class names."""

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from ssd_lib.annotations.account import count_matched, is_list
from ssd_lib.annotations.files import (
    below,
    check_class_names,
    describe_files,
    folders_of,
    is_image,
    not_one,
    read_bytes,
    read_lines,
    stem,
)
from ssd_lib.annotations.listing import DatasetListing
from ssd_lib.annotations.names import fold, folded_base, folded_stem, match_names
from ssd_lib.annotations.splits import is_val, matching, require_images, split_names, split_of
from ssd_lib.annotations.yolo_yaml import NO_CONFIG, YAML_NAMES, Config, read_config
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part
from ssd_lib.params import DataParams

EXPECTED_FILES = "data.yaml or dataset.yaml, or images/ with labels/*.txt, or images with a .txt beside each"
SPLIT_PATTERNS = ("{split}.txt", "images/{split}*", "{split}*/images", "{split}*")
CLASS_FILES = ("classes.txt", "obj.names")


def matches(names: frozenset[str]) -> bool:
    """Whether the names of the files look like a dataset in this format."""
    near = [name for name in names if is_image(name) and _is_near_root(name)]
    if any(name in names for name in YAML_NAMES) or any(label_of(name, names) for name in near):
        return True
    labels = {_label_key(name) for name in names if _is_label(name)} if near else set()
    return any(_label_key(name) in labels for name in near) if labels else False


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """Find the images of train and of val, each with its label file; "" for an image without one, which has no objects.

    Guarantees: the YAML file says where the images are; without one, folders named after the splits do. If val is not given,
    `data.val_fraction` of train becomes val. Files are only looked up below `root`, whatever a path says.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        data: `val_fraction`.

    Raises:
        InputError: no class names, an error in the YAML file, folders that do not exist, no images or no label files.
    """
    config = read_config(root, names)
    labels, matched = _labels_of_images(root, names)
    class_file, class_names = (config.file, config.class_names) if config else _class_list(root, names)
    train, val = _images_of_splits(root, names, config or NO_CONFIG)
    if val is None:
        train, val = _draw_val(train, labels, data.val_fraction)
    numbered = {str(number): name for number, name in enumerate(class_names)}
    splits: dict[str, tuple[Part, ...]] = {}
    for split, images in (("train", train), ("val", val)):
        require_images(str(root), split, images)
        pairs = {image: labels[image] for image in sorted(images)}
        _require_labels(root, split, pairs)
        splits[split] = (Part(format="yolo", pairs=pairs, class_names=numbered,
                              keypoints=config.keypoints if config else None),)
    used = {image for part in (train, val) for image in part}
    counts = count_matched({image: label for image, label in matched.items() if image in used})
    return DatasetListing(splits, frozenset([class_file]) | _lists(names, config or NO_CONFIG), counts)


def label_of(image: str, names: frozenset[str]) -> str:
    """Return the label file of an image: with the last images/ of its path replaced by labels/, or beside it; "" if absent."""
    head, slash, tail = f"/{stem(image)}".rpartition("/images/")
    in_labels = f"{head}/labels/{tail}.txt"[1:] if slash else ""
    return next((name for name in (in_labels, f"{stem(image)}.txt") if name in names), "")


def names_of_entry(entry: str, base: str = "", *, is_row: bool = False) -> Iterator[str]:
    """Yield the names below the root that a path may mean, likeliest first; "" is the root itself.

    Guarantees: leading ".." are dropped; a path of another machine, or `base`, loses its leading folders one by one; an entry
    that is relative to `base` is kept whole.

    Args:
        entry: `train` or `val` of the YAML file, or a row of a list.
        base: the folder that it is relative to.
        is_row: it is a row of a list, which may lose all of its folders.
    """
    own = _path_parts(entry)
    whole = own if _is_absolute(entry) else _path_parts(posixpath.join(_forward_slashes(base), _forward_slashes(entry)))
    keep = min(1, len(own)) if is_row or _is_absolute(entry) else len(own)
    for cut in range(len(whole) - keep + 1):
        yield "/".join(whole[cut:])


def _labels_of_images(root: Path, names: frozenset[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the label file of every image, "" for none; and those of them whose names are written differently."""
    labels = {image: label_of(image, names) for image in sorted(names) if is_image(image)}
    image_of: dict[str, str] = {}
    for image, label in labels.items():
        if label and image_of.setdefault(label, image) != image:
            raise InputError(f"{root}: {image_of[label]!r} and {image!r} have the same label file {label!r}, so the labels are "
                             "ambiguous. Remove or rename one.")
    exact = {image: label for image, label in labels.items() if label}
    if len(exact) == len(labels):
        return labels, {}
    candidates = [name for name in names if _is_label(name)]
    matched = match_names(labels, candidates, _label_key, folded_stem, exact=exact)
    return labels | matched, matched


def _draw_val(images: list[str], labels: dict[str, str], fraction: float) -> tuple[list[str], list[str]]:
    """Return the images of train and of val; both get labelled images if two have labels."""
    labelled = [image for image in images if labels[image]]
    train, val = split_names(labelled or images, fraction)
    rest = [image for image in images if labelled and not labels[image]]
    held_out = {image for image in rest if is_val(image, fraction)}
    return sorted([*train, *(image for image in rest if image not in held_out)]), sorted([*val, *held_out])


def _is_label(name: str) -> bool:
    """Whether a file may be a label file: a text that is no list of classes or of a split."""
    return name.lower().endswith(".txt") and not is_list(name)


def _label_key(name: str) -> str:
    """Return what an image and its label file have in common: "a" for images/a.jpg and Labels/a.TXT."""
    path = f"/{stem(fold(name))}"
    at = max(path.rfind("/images/"), path.rfind("/labels/"))
    return (path[:at] + path[at + len("/images"):] if at >= 0 else path)[1:]


def _is_near_root(image: str) -> bool:
    """Whether an image is so near to the root that the root is the folder of its dataset."""
    top, slash, rest = image.partition("/")
    return not slash or top.lower() == "images" or "/" not in rest or bool(split_of(top))


def _class_list(root: Path, names: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Return the list of classes and its names: that of the root, or else of the folders below if they all agree."""
    lists = sorted((name for name in names if name.rpartition("/")[2].lower() in CLASS_FILES),
                   key=lambda name: (name.count("/"), name))
    if not lists:
        raise InputError(f"{root}: no names of classes; label files have only numbers. Looked for a YAML file with `names`, "
                         f"{' and '.join(CLASS_FILES)}; {describe_files(names)}. Write classes.txt, one name per line.")
    if "/" in lists[0] and len({read_bytes(root / name) for name in lists}) > 1:
        raise not_one(root, "lists of classes that differ", lists, "Write classes.txt into this folder.")
    return lists[0], check_class_names(str(root / lists[0]), read_lines(root / lists[0]))


def _images_of_splits(root: Path, names: frozenset[str], config: Config) -> tuple[list[str], list[str] | None]:
    """Return the images of train and of val; None for val if nothing says which."""
    places = names | folders_of(names)
    is_told = any(config.entries.values())
    sources = {split: _configured_sources(root, names, config, split) if is_told else _sources_by_name(root, places, split)
               for split in ("train", "val")}
    found = {split: list(dict.fromkeys(image for source in some for image in _images_of(root, names, source, config.base)))
             for split, some in sources.items() if some}
    if not found:
        return _images_of(root, names, next((name for name in sorted(places) if name.lower() == "images"), "")), None
    if "train" not in found:
        raise InputError(f"{root}: images for val but none for train; train is needed; {describe_files(names)}. "
                         "Say where they are.")
    if found["train"] == found.get("val") and config.entries["train"] != config.entries["val"]:
        raise InputError(f"{root / config.file}: {', '.join(config.entries['train'])} for train and "
                         f"{', '.join(config.entries['val'])} for val are the same images below {root}; "
                         f"{describe_files(names)}. Correct the paths.")
    return found["train"], found.get("val")


def _configured_sources(root: Path, names: frozenset[str], config: Config, split: str) -> list[str]:
    """Return the folders and lists that the YAML file names for a split."""
    sources = []
    exact = {name: name for name in (*folders_of(names), *(name for name in names if name.lower().endswith(".txt")))}
    places = {fold(name): name for name in sorted(exact)} | exact
    for entry in config.entries[split]:
        keys = (key for name in names_of_entry(entry, config.base) for key in (name, fold(name)) if key in places)
        if (key := next(keys, None)) is None:
            raise InputError(f"{root / config.file}: {split} is {entry!r:.200}, which is no folder with files and no .txt list "
                             f"below {root}; {describe_files(names)}. Correct it, or name the folder that holds all in "
                             "data.paths.")
        sources.append(places[key])
    return sources


def _lists(names: frozenset[str], config: Config) -> set[str]:
    """Return the lists of the images of train and of val."""
    if any(config.entries.values()):
        return {name for entries in config.entries.values() for entry in entries
                for name in names_of_entry(entry, config.base) if name in names}
    return {source for split in ("train", "val") for source in matching(names, split, SPLIT_PATTERNS[:1])}


def _sources_by_name(root: Path, places: Iterable[str], split: str) -> list[str]:
    """Return the folder or the list that is named after a split, if there is one."""
    found = matching(places, split, SPLIT_PATTERNS)
    innermost = [name for name in found if not any(other.startswith(f"{name}/") for other in found)]
    if len(innermost) > 1:
        raise not_one(root, f"places with the images of {split}", innermost, "Write a data.yaml that says which.")
    return innermost


def _images_of(root: Path, names: frozenset[str], source: str, base: str = "") -> list[str]:
    """Return the images in a folder, or in a list whose rows are relative to the list or to `base`."""
    if source not in names:
        return sorted(name for name in below(source, names) if is_image(name))
    rows = [row for row in read_lines(root / source) if row]
    beside = source.rpartition("/")[0]
    found = {row: next((name for folder in (beside, base) for name in names_of_entry(row, folder, is_row=True)
                        if name in names), "") for row in rows}
    missing = [row for row, image in found.items() if not image]
    if missing:
        found |= match_names(missing, [name for name in names if is_image(name)], fold, folded_base)
        missing = [row for row in missing if not found[row]]
    if missing:
        raise InputError(f"{root / source}: {len(missing)} images that do not exist, the first is {missing[0]!r:.200}; all "
                         "that are listed must exist. Remove these lines, or add the images.")
    return list(dict.fromkeys(found.values()))


def _require_labels(root: Path, split: str, pairs: dict[str, str]) -> None:
    if not any(pairs.values()):
        image = next(iter(pairs))
        raise InputError(f"{root}: none of {len(pairs)} images for {split} has a label file (such as {image!r}); it "
                         "has the same name with .txt, in labels/ in place of images/ or beside it. Put the labels there.")


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).anchor)


def _forward_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _path_parts(path: str) -> list[str]:
    return [part for part in posixpath.normpath(_forward_slashes(path)).split("/") if part not in ("", ".", "..")]
