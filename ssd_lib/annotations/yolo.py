"""The YOLO format: a text file for each image with a line `class cx cy w h` for each object, relative to the image's size.

A YAML file, as Ultralytics and Roboflow write it, or a list of classes names the classes; the YAML file may say where images
are.
"""

import codecs
import math
import posixpath
import re
import reprlib
from collections.abc import Iterable, Iterator, Set
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import yaml

from ssd_lib.annotations.account import count_matched, is_list
from ssd_lib.annotations.faults import Fault
from ssd_lib.annotations.files import (
    DatasetListing,
    below,
    check_class_names,
    describe_files,
    folders_of,
    is_image,
    parse_number,
    read_bytes,
    read_label_file,
    read_lines,
    stem,
)
from ssd_lib.annotations.names import fold, folded_base, folded_stem, match_names
from ssd_lib.annotations.splits import SPLIT_WORDS, is_val, matching, require_images, split_names, split_of
from ssd_lib.annotations.table import LABEL_ROW, Category, Images, ParsedPart, annotations_from_rows, rows_in_pixels
from ssd_lib.errors import InputError
from ssd_lib.images import read_sizes
from ssd_lib.manifest import Manifest, Part, PartKey
from ssd_lib.params import DataParams

EXPECTED_FILES = "data.yaml or dataset.yaml, or images/ with labels/*.txt, or images with a .txt beside each"
YAML_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
SPLIT_PATTERNS = ("{split}.txt", "images/{split}*", "{split}*/images", "{split}*")
CLASS_FILES = ("classes.txt", "obj.names")
# What PyYAML raises, besides its own errors, for `!!int ""`, `!!bool x`, `!!timestamp x`, an impossible date, nested brackets
YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
POSE_SAMPLE = 2000  # lines that are looked at, to tell pose labels from outlines
POSE_SLACK = 0.02  # points may leave their box by this much, [0, 1]
LINE_FORMAT = "a line is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for an outline"
LARGEST_CLASS = 10**9  # a larger class number is an error in the file


class Config(NamedTuple):
    """Content of the YAML file.

    Attributes:
        file: its name; "" if there is none.
        class_names: in the order of their numbers.
        base: `path`, which the other paths are relative to; "" if absent.
        entries: for "train" and "val": folders, or lists of images; empty if absent.
        keypoints: `kpt_shape`, number of points and of values for each; None if absent.
    """

    file: str
    class_names: tuple[str, ...]
    base: str
    entries: dict[str, tuple[str, ...]]
    keypoints: tuple[int, int] | None = None


class YoloRow(NamedTuple):
    """One object; its box as fractions of the image's width and height, [0, 1]."""

    line: int
    class_number: int
    cx: float
    cy: float
    width: float
    height: float


NO_CONFIG = Config("", (), "", {"train": (), "val": ()})


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


def read_config(root: Path, names: Set[str]) -> Config | None:
    """Read the YAML file of the dataset; None if no YAML file has class names.

    Guarantees: a file of a usual name, such as data.yaml, precedes others; without one, the file that has `names` is taken.

    Raises:
        InputError: several files qualify, or it is not YAML, or a value is not allowed.
    """
    candidates = sorted(name for name in names if "/" not in name and name.endswith((".yaml", ".yml")))
    candidates = [name for name in candidates if name in YAML_NAMES] or candidates
    trees = {name: _load_yaml(root / name) for name in candidates}
    found = [name for name, tree in trees.items() if name in YAML_NAMES or "names" in tree]
    if len(found) > 1:
        raise InputError(f"{root}: {len(found)} YAML files with names of classes, {', '.join(found)}; one is needed. Move the "
                         "others away.")
    return _parse_config(root, found[0], trees[found[0]]) if found else None


def names_of_entry(entry: str, base: str = "", *, is_image: bool = False) -> Iterator[str]:
    """Yield the names below the root that a path may mean, likeliest first; "" is the root itself.

    Guarantees: leading ".." are dropped; a path of another machine, or `base`, loses its leading folders one by one; an entry
    that is relative to `base` is kept whole.

    Args:
        entry: `train` or `val` of the YAML file, or a row of a list.
        base: the folder that it is relative to.
        is_image: it is a row of a list, which may lose all of its folders.
    """
    own = _path_parts(entry)
    whole = own if _is_absolute(entry) else _path_parts(posixpath.join(_forward_slashes(base), _forward_slashes(entry)))
    keep = min(1, len(own)) if is_image or _is_absolute(entry) else len(own)
    for cut in range(len(whole) - keep + 1):
        yield "/".join(whole[cut:])


def read_yolo(manifest: Manifest) -> dict[PartKey, ParsedPart]:
    """Read all parts of format yolo; images are sorted by name, classes keep their numbers.

    Guarantees: boxes are in pixels of the upright image, rounded as `rows_in_pixels` does. An image of unknown size has size
    (0, 0) and no boxes; validation reports it. Of pose labels (`kpt_shape`) the box of each line is read.

    Raises:
        InputError: the lines of a part look like pose labels, and the YAML file has no `kpt_shape`.
    """
    return {key: _read_part(manifest, part, key[0]) for key, part in manifest.parts("yolo").items()}


def parse_yolo(data: bytes, where: str, keypoints: tuple[int, int] | None = None,
               outlines: list[tuple[str, list[float]]] | None = None) -> list[YoloRow]:
    """Parse one label file; an empty one has no objects.

    Guarantees: an outline, or the four corners of a rotated box, becomes its bounding box; a track id after the box, a whole
    number, is dropped. NaN, infinity and boxes beyond the image are accepted, and left for
    validation to report.

    Args:
        data: UTF-8 text, with or without byte order mark, or UTF-16 with one; lines end with LF, CR LF or CR.
        where: the name of the file, for errors.
        keypoints: number of points and of values for each that follow every box; None for labels without.
        outlines: the lines with more values than a box are appended to it, up to POSE_SAMPLE; None drops them.

    Raises:
        InputError: it is not such a file; names the line.
    """
    text = _decode(data, where).replace("\r\n", "\n").replace("\r", "\n")
    return [_parse_line(values, number, f"{where}: line {number}", keypoints, outlines)
            for number, line in enumerate(text.split("\n"), 1) if (values := line.split())]


# Finding the files


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
        raise InputError(f"{root}: {len(lists)} lists of classes that differ, {', '.join(lists[:5])}; one is needed. Write "
                         "classes.txt into this folder.")
    return lists[0], check_class_names(str(root / lists[0]), read_lines(root / lists[0]))


def _images_of_splits(root: Path, names: frozenset[str], config: Config) -> tuple[list[str], list[str] | None]:
    """Return the images of train and of val; None for val if nothing says which."""
    folders = folders_of(names)
    configured = [split for split in ("train", "val") if config.entries[split]]
    if configured:
        found = {split: _configured_images(root, names, folders, config, split) for split in configured}
    else:
        sources = {split: _source_of_split(root, names | folders, split) for split in ("train", "val")}
        found = {split: _images_of_source(root, names, folders, source) for split, source in sources.items() if source}
    if not found:
        return _images_in(names, next((name for name in sorted(folders) if name.lower() == "images"), "")), None
    if "train" not in found:
        raise InputError(f"{root}: images for val but none for train; train is needed; {describe_files(names)}. "
                         "Say where they are.")
    if found["train"] == found.get("val") and config.entries["train"] != config.entries["val"]:
        raise InputError(f"{root / config.file}: {', '.join(config.entries['train'])} for train and "
                         f"{', '.join(config.entries['val'])} for val are the same images below {root}; "
                         f"{describe_files(names)}. Correct the paths.")
    return found["train"], found.get("val")


def _configured_images(root: Path, names: frozenset[str], folders: set[str], config: Config, split: str) -> list[str]:
    """Return the images that the YAML file names for a split."""
    images: dict[str, None] = {}
    for entry in config.entries[split]:
        exact = {name: name for name in (*folders, *(name for name in names if name.lower().endswith(".txt")))}
        places = {fold(name): name for name in sorted(exact)} | exact
        source = next((places[key] for name in names_of_entry(entry, config.base) for key in (name, fold(name))
                       if key in places), None)
        if source is None:
            raise InputError(f"{root / config.file}: {split} is {entry!r:.200}, which is no folder with files and no .txt list "
                             f"below {root}; {describe_files(names)}. Correct it, or name the folder that holds all in "
                             "data.paths.")
        images |= dict.fromkeys(_images_of_source(root, names, folders, source, config.base))
    return list(images)


def _lists(names: frozenset[str], config: Config) -> set[str]:
    """Return the lists of the images of train and of val."""
    if any(config.entries.values()):
        return {name for entries in config.entries.values() for entry in entries
                for name in names_of_entry(entry, config.base) if name in names}
    return {source for split in ("train", "val") for source in matching(names, split, SPLIT_PATTERNS[:1])}


def _source_of_split(root: Path, candidates: Iterable[str], split: str) -> str:
    """Return the folder or the list that is named after a split; "" if there is none."""
    found = matching(candidates, split, SPLIT_PATTERNS)
    innermost = [name for name in found if not any(other.startswith(f"{name}/") for other in found)]
    if len(innermost) > 1:
        raise InputError(f"{root}: {len(innermost)} places with the images of {split}, {', '.join(innermost)}; one is needed. "
                         "Write a data.yaml that says which.")
    return innermost[0] if innermost else ""


def _images_of_source(root: Path, names: frozenset[str], folders: set[str], source: str, base: str = "") -> list[str]:
    """Return the images in a folder, or in a list of them."""
    return _images_in(names, source) if source in folders else _listed_images(root, names, source, base)


def _images_in(names: frozenset[str], folder: str) -> list[str]:
    return sorted(name for name in below(folder, names) if is_image(name))


def _listed_images(root: Path, names: frozenset[str], file: str, base: str) -> list[str]:
    rows = [row for row in read_lines(root / file) if row]
    beside = file.rpartition("/")[0]
    found = {row: next((name for folder in (beside, base) for name in names_of_entry(row, folder, is_image=True)
                        if name in names), "") for row in rows}
    missing = [row for row, image in found.items() if not image]
    if missing:
        found |= match_names(missing, [name for name in names if is_image(name)], fold, folded_base)
        missing = [row for row in missing if not found[row]]
    if missing:
        raise InputError(f"{root / file}: {len(missing)} images that do not exist, the first is {missing[0]!r:.200}; all "
                         "that are listed must exist. Remove these lines, or add the images.")
    return list(dict.fromkeys(found.values()))


def _require_labels(root: Path, split: str, pairs: dict[str, str]) -> None:
    if not any(pairs.values()):
        image = next(iter(pairs))
        raise InputError(f"{root}: none of {len(pairs)} images for {split} has a label file (such as {image!r}); it "
                         "has the same name with .txt, in labels/ in place of images/ or beside it. Put the labels there.")


# The YAML file


def _load_yaml(path: Path) -> dict[Any, Any]:
    data = read_bytes(path)
    try:
        tree = yaml.safe_load(data)
    except YAML_ERRORS as error:
        text = "".join(filter(str.isprintable, " ".join(str(error).split())))  # it quotes the file, with whatever is there
        raise InputError(f"{path}: not YAML: {text:.300}. Correct it.") from error
    return tree if isinstance(tree, dict) else {}


def _parse_config(root: Path, file: str, tree: dict[Any, Any]) -> Config:
    path = root / file
    class_names = check_class_names(f"{path}: names", _names_in_order(path, tree.get("names")))
    count = tree.get("nc", len(class_names))
    if count != len(class_names):
        raise InputError(f"{path}: nc is {_shown(count)}, but there are {len(class_names)} names; they must agree. Correct "
                         "one of them.")
    base = tree.get("path") or ""
    if not isinstance(base, str):
        raise InputError(f"{path}: path is {_shown(base)}; it must be the name of a folder. Correct it.")
    entries = {split: _entries(path, tree, split) for split in ("train", "val")}
    return Config(file, class_names, base, entries, _kpt_shape(path, tree.get("kpt_shape")))


def _kpt_shape(path: Path, shape: object) -> tuple[int, int] | None:
    if shape is None:
        return None
    numbers = [number for number in shape if type(number) is int] if isinstance(shape, list) else []
    if not isinstance(shape, list) or len(numbers) != len(shape) or len(numbers) != 2 or numbers[0] < 1 or numbers[1] not in (2,
                                                                                                                              3):
        shown = numbers if isinstance(shape, list) and len(numbers) == len(shape) < 9 else _shown(shape)
        raise InputError(f"{path}: kpt_shape is {shown}; it must be the number of points and 2 or 3, such as [17, 3]. Correct "
                         f"it.")
    return numbers[0], numbers[1]


def _names_in_order(path: Path, names: object) -> list[object]:
    if names is None or names == {}:
        return []
    if isinstance(names, list):
        return names
    if not isinstance(names, dict):
        raise InputError(f"{path}: names is {_shown(names)}; it must be a list, or numbers with a name each. Correct it.")
    names = {int(key) if isinstance(key, str) and key.isascii() and key.isdigit() else key: name
             for key, name in names.items()} if all(isinstance(key, str) for key in names) else names
    numbers = [key for key in names if type(key) is int]
    if len(numbers) < len(names) or sorted(numbers) != list(range(len(numbers))):
        keys = ", ".join(map(_shown, list(names)[:10]))
        raise InputError(f"{path}: names has the keys {keys}; they must be 0, 1, 2, ... without a gap. Correct them.")
    return [names[number] for number in range(len(numbers))]


def _entries(path: Path, tree: dict[Any, Any], split: str) -> tuple[str, ...]:
    value: object = next((tree[word] for word in SPLIT_WORDS[split] if tree.get(word)), [])
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and entry for entry in entries):
        raise InputError(f"{path}: {split} is {_shown(value)}; it must be a folder, a list of folders, or a .txt file. "
                         "Correct it.")
    return tuple(entries)


def _shown(value: object) -> str:
    """Return a value for a message, shortened: a few lines of YAML can describe an endless one."""
    is_short = isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**12)
    return reprlib.repr(value) if is_short else f"of type {type(value).__name__}"


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).anchor)


def _forward_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _path_parts(path: str) -> list[str]:
    return [part for part in posixpath.normpath(_forward_slashes(path)).split("/") if part not in ("", ".", "..")]


# Reading the labels


def _read_part(manifest: Manifest, part: Part, split: str) -> ParsedPart:
    folder, names = manifest.path(""), sorted(part.pairs)
    rows, faults = _read_rows(folder, part, split, names)
    sizes = read_sizes(folder / name for name in names)
    images = Images(np.arange(1, len(names) + 1), tuple(names), sizes)
    categories = tuple(Category(int(number), name, int(number)) for number, name in part.class_names.items())
    return ParsedPart(annotations_from_rows(images, rows_in_pixels(rows, sizes), categories, "line", part.pairs), faults)


def _read_rows(folder: Path, part: Part, split: str, names: list[str]) -> tuple[np.ndarray, tuple[Fault, ...]]:
    """Return the objects of the images as LABEL_ROW with relative boxes, and the label files that cannot be read."""
    faults = []
    outlines: list[tuple[str, list[float]]] = []

    def rows() -> Iterator[tuple]:
        for image, name in enumerate(names):
            file = part.pairs[name]
            try:
                found = parse_yolo(read_label_file(folder, file), file, part.keypoints, outlines) if file else []
            except InputError as error:
                faults.append(Fault("broken_labels", (split, name), str(error), image=name))
                continue
            for line, number, cx, cy, width, height in found:
                yield image, number, (cx - width / 2, cy - height / 2, width, height), False, line

    table = np.fromiter(rows(), LABEL_ROW)
    _refuse_pose(folder, outlines)
    return table, tuple(faults)


def _refuse_pose(folder: Path, outlines: list[tuple[str, list[float]]]) -> None:
    """Refuse lines that would be read as outlines, but are boxes with points in them."""
    if shape := _pose_shape([values for _, values in outlines]):
        where, values = outlines[0]
        raise InputError(f"{folder / where} has {len(values) + 1} values; all {len(outlines)} such lines look like pose "
                         f"labels, a "
                         f"box and {shape[0]} points in it, not like outlines, and there is no kpt_shape. Write `kpt_shape: "
                         f"[{shape[0]}, {shape[1]}]` into the YAML file, and the box of each line is read.")


def _pose_shape(lines: list[list[float]]) -> tuple[int, int] | None:
    """Return the shape of the points if lines look like pose labels rather than outlines, else None.

    All of them have the same length, and their points lie in the box that the first four values describe. That is so for many
    small outlines too, but there width and height, read as the second point, lie among the other points.
    """
    if not lines or len({len(values) for values in lines}) > 1:
        return None
    table = np.array(lines)
    for size in (3, 2):
        count, rest = divmod(table.shape[1] - 4, size)
        if rest or count < 1 or (count == 1 and len(table) < 5):
            continue
        points = table[:, 4:].reshape(len(table), count, size)
        if size == 3 and not np.isin(points[..., 2], (0, 1, 2)).all():
            continue
        is_seen = (points[..., :2] != 0).any(axis=2)
        centre, sides = table[:, None, :2], table[:, None, 2:4]
        is_inside = (np.abs(points[..., :2] - centre) <= sides / 2 + POSE_SLACK).all(axis=2) | ~is_seen
        others = np.concatenate([centre, np.where(is_seen[..., None], points[..., :2], centre)], axis=1)
        low, high = others.min(axis=1), others.max(axis=1)
        is_far = ((sides[:, 0] < 2 * low - high) | (sides[:, 0] > 2 * high - low)).any(axis=1)
        if is_inside.all(axis=1).mean() >= 0.9 and (size == 3 or is_far.mean() >= (0.2 if count > 3 else 0.5)):
            return count, size
    return None


def _decode(data: bytes, where: str) -> str:
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n?|\n", data[:error.start]))
        raise InputError(f"{where}: line {line} has the byte 0x{data[error.start]:02x}, which is not UTF-8; labels are plain "
                         "text. Is it another file?") from error
    if "\0" in text:
        line = 1 + len(re.findall(r"\r\n?|\n", text[:text.index("\0")]))
        raise InputError(f"{where}: line {line} has a zero byte; labels are plain text. Is it another file?")
    return text


def _parse_line(values: list[str], line: int, where: str, keypoints: tuple[int, int] | None,
                outlines: list[tuple[str, list[float]]] | None) -> YoloRow:
    if keypoints is None:
        values = _without_track_id(values, where)
        if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
            hint = " Pose labels need `kpt_shape` in the YAML file." if len(values) > 7 and (len(values) - 5) % 3 == 0 else ""
            raise InputError(f"{where} has {len(values)} value{'s'[:len(values) > 1]}, {' '.join(values)!r:.60}; "
                             f"{LINE_FORMAT}. "
                             f"Correct it.{hint}")
    elif len(values) != 5 + math.prod(keypoints):
        raise InputError(f"{where} has {len(values)} value{'s'[:len(values) > 1]}, {' '.join(values)!r:.60}; with kpt_shape "
                         f"{list(keypoints)} a line is `class cx cy w h` and {keypoints[0]} x {keypoints[1]} values, "
                         f"{5 + math.prod(keypoints)} in all. Correct the line or kpt_shape.")
    numbers = [parse_number(value) for value in values]
    fractions = [number for number in numbers if number is not None]
    if len(fractions) < len(numbers):
        raise InputError(f"{where} has {values[numbers.index(None)]!r:.60}; {LINE_FORMAT}, all numbers. Correct it.")
    if keypoints is not None:
        fractions = fractions[:5]
    elif len(fractions) > 5 and outlines is not None and len(outlines) < POSE_SAMPLE:
        outlines.append((where, fractions[1:]))
    return YoloRow(line, _class_number(fractions[0], values[0], where), *_box(fractions[1:]))


def _without_track_id(values: list[str], where: str) -> list[str]:
    """Return the values of a line without a track id, a whole number after the box.

    Raises:
        InputError: the values are a prediction, with a confidence, and perhaps a track id after it.
    """
    if len(values) == 6 and values[5].isascii() and values[5].isdigit():
        return values[:5]
    if len(values) == 6 and None not in map(parse_number, values):
        raise InputError(f"{where} has 6 values; {LINE_FORMAT}. With a confidence at the end these are "
                         "predictions, not labels.")
    if len(values) == 7 and values[6].isascii() and values[6].isdigit() and int(values[6][:9]) > 1:
        raise InputError(f"{where} has 7 values, the last is {values[6]!r:.20}; {LINE_FORMAT}. With a confidence and a track "
                         f"id at the end these are predictions, not labels.")
    return values


def _class_number(number: float, text: str, where: str) -> int:
    if not number.is_integer() or abs(number) > LARGEST_CLASS:
        raise InputError(f"{where} has the class {text!r:.60}; it must be a whole number, an index of the class names. "
                         "Correct it.")
    return int(number)


def _box(fractions: list[float]) -> tuple[float, float, float, float]:
    """Return (cx, cy, width, height), of four such numbers or of the points of an outline."""
    if len(fractions) == 4:
        cx, cy, width, height = fractions
        return cx, cy, width, height
    if not all(map(math.isfinite, fractions)):
        return math.nan, math.nan, math.nan, math.nan
    left, right, top, bottom = min(fractions[::2]), max(fractions[::2]), min(fractions[1::2]), max(fractions[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
