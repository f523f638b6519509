"""Where the files of a data set in VOC form lie: an XML file for each image, and lists of the images of each split."""

import re
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

from ssd_lib.annotations.dataset_listing import DatasetListing
from ssd_lib.annotations.file_listing import SHOWN, is_image, join, stem
from ssd_lib.annotations.splits import require_images, split_names, split_of
from ssd_lib.annotations.text_files import check_class_names, read_lines
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part
from ssd_lib.params import DataParams

EXPECTED_FILES = "XML files in Annotations/, or beside images of the same name"
XML_FOLDER, PHOTO_FOLDERS = "annotations", ("jpegimages", "images")
LIST_FOLDERS = ("imagesets/main", "imagesets")
TRAIN_LISTS, VAL_LISTS = ("train", "trainval", "default"), ("val", "test")
FLAGS = {"-1", "0", "1"}  # the second column of a list for one class
CLASS_FILES = ("labels.txt", "labelmap.txt")


def fits(names: frozenset[str]) -> bool:
    """Are there XML files where those of VOC lie, going by their names?"""
    xmls = [name for name in names if name.lower().endswith(".xml") and (_has_home(name) or name.count("/") <= 1)]
    if any(map(_has_home, xmls)):
        return True
    photos = {stem(name) for name in names if is_image(name)} if xmls else set()
    return any(stem(name) in photos for name in xmls)


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """The images of train and of val, each with its XML file.

    Guarantees: train is what train.txt lists, else trainval.txt, else default.txt; val is val.txt, else test.txt, else a share of
    train. Without lists it goes by folders called after the splits, and without those val is a share of all. An XML file whose
    image is gone is kept, and so is an image that a list names and whose XML file is gone: validate tells of both. An image
    that no list names and that has no XML file is not labelled, and left out.

    Args:
        root: the folder that the names are below.
        names: all files in it.
        data: `val_fraction`.

    Raises:
        InputError: a list names what is not there, two images have one name, or a split has no images.
    """
    ordered = sorted(names)
    photos = _keyed(name for name in ordered if is_image(name))
    pairs = _pairs(root, photos, _keyed(name for name in ordered if name.lower().endswith(".xml")))
    lists = _list_files(names)
    if lists:
        pairs |= _without_text(root, photos, pairs)
    train, val = _by_lists(root, lists, photos.keys(), pairs) if lists else _by_folders(root, pairs)
    if val is None:
        train, val = split_names(train, data.val_fraction)
    splits: dict[str, tuple[Part, ...]] = {}
    for split, keys in (("train", train), ("val", val)):
        require_images(str(root), split, keys)
        splits[split] = (Part(format="voc", pairs=dict(sorted(pairs[key] for key in keys))),)
    return DatasetListing(splits)


def name_classes(root: Path, names: frozenset[str], folder: str, found: DatasetListing) -> DatasetListing:
    """The same with the names of the classes, where labels.txt or CVAT's labelmap.txt has them.

    Args:
        root: the folder that the names are below.
        names: all files in it.
        folder: where in it the data set lies, which may have a file of its own; else that of `root` counts.
        found: what was found in `folder`, with names below it.

    Raises:
        InputError: such a file has no names, or one twice.
    """
    candidates = [join(above, file) for above in (folder, "") for file in CLASS_FILES]
    place = next((name for name in candidates if name in names), None)
    if place is None:
        return found
    rows = check_class_names(str(root / place), list(_class_rows(root / place)))
    naming = {"class_names": {name: name for name in rows}}
    splits = {split: tuple(part.model_copy(update=naming) for part in parts) for split, parts in found.splits.items()}
    return DatasetListing(splits, found.others | {place})


def _keyed(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by what an image and its XML file have in common: "a" for JPEGImages/a.jpg and Annotations/a.xml."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_key(name), []).append(name)
    return found


def _pairs(root: Path, photos: Mapping[str, list[str]], texts: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
    """Image and XML file by what they have in common; an image that is not there is called what it ought to be."""
    images = {key: _only(root, photos[key]) for key in texts if key in photos}
    if not images:
        raise InputError(f"{root}: none of {len(texts)} XML files has an image (such as {next(iter(texts.values()))[0]!r}); it "
                         "has the same name, in JPEGImages/, in images/ or beside it. Put the images there.")
    homes = {name.partition("/")[0] for name in images.values()}
    home = min((folder for folder in homes if folder.lower() in PHOTO_FOLDERS), default="JPEGImages")
    return {key: (images.get(key) or _expected(files[0], home), _only(root, files)) for key, files in texts.items()
            if key in images or any(map(_needs_image, files))}


def _without_text(root: Path, photos: Mapping[str, list[str]],
                  pairs: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The other images, and what their XML files ought to be called, going by that of another."""
    key, (_, text) = next(iter(pairs.items()))
    before, after = text[:len(text) - len(key) - len(".xml")], text[-len(".xml"):]
    return {other: (_only(root, files), before + other + after) for other, files in photos.items() if other not in pairs}


def _only(root: Path, files: list[str]) -> str:
    if len(files) > 1:
        raise InputError(f"{root}: {' and '.join(map(repr, files))} have the same name but for suffix and "
                         "folder; which of them is meant cannot be told. Remove or rename one.")
    return files[0]


def _has_home(name: str) -> bool:
    """Does an XML file lie in Annotations/, be it of the whole or, such as train/Annotations/, of a split?"""
    parts = name.lower().split("/")
    return parts[0] == XML_FOLDER or (len(parts) > 2 and parts[1] == XML_FOLDER and bool(split_of(parts[0])))


def _needs_image(name: str) -> bool:
    """Is an XML file a label even if its image is gone? Elsewhere it may be anything, such as build.xml."""
    return _has_home(name) or bool(split_of(name.rpartition("/")[0]))


def _key(name: str) -> str:
    """A name without suffix, and without the folder of its kind."""
    parts = stem(name).split("/")
    at = 1 if len(parts) > 2 and split_of(parts[0]) else 0
    if len(parts) > at + 1 and parts[at].lower() in (XML_FOLDER, *PHOTO_FOLDERS):
        del parts[at]
    return "/".join(parts)


def _expected(xml: str, home: str) -> str:
    """Where the image of an XML file in Annotations/ ought to be."""
    return re.sub(rf"(^|/){XML_FOLDER}/", rf"\g<1>{home}/", stem(xml), count=1, flags=re.I) + ".jpg"


def _list_files(names: frozenset[str]) -> dict[str, str]:
    """The lists of images by their names without ".txt", in small letters; of ImageSets/Main/ if there is one."""
    for folder in LIST_FOLDERS:
        found = {stem(name)[len(folder) + 1:].lower(): name for name in names
                 if name.lower().startswith(f"{folder}/") and name.lower().endswith(".txt")}
        if found:
            return {word: name for word, name in found.items() if "/" not in word}
    return {}


def _by_lists(root: Path, lists: Mapping[str, str], photos: Set[str],
              pairs: Mapping[str, tuple[str, str]]) -> tuple[list[str], list[str] | None]:
    """What the images of train and val are called by in `pairs`; None for val if no list says so."""
    known = photos | pairs.keys()
    rows = {word: _listed(root / lists[word], known) for word in (*TRAIN_LISTS, *VAL_LISTS) if word in lists}
    train = next((word for word in TRAIN_LISTS if rows.get(word)), None)
    val = next((word for word in VAL_LISTS if rows.get(word)), None)
    if train is None:
        raise InputError(f"{root}: no list of the images for train, or an empty one; that is train.txt, trainval.txt or "
                         f"default.txt in ImageSets/Main/; there are {', '.join(sorted(lists.values())[:SHOWN])}. Add one.")
    held_back = set(rows[val]) if val and train != "train" else set()
    return ([key for key in rows[train] if key in pairs and key not in held_back],
            [key for key in rows[val] if key in pairs] if val else None)


def _listed(path: Path, known: Set[str]) -> list[str]:
    """What the images in a list are called by, each once."""
    rows = [row for row in read_lines(path) if row]
    columns = [row.rsplit(maxsplit=1) for row in rows]
    if all(len(column) > 1 and column[1] in FLAGS for column in columns) and not all(_spellings(row, known) for row in rows):
        rows = [name for name, _ in columns]
    found = {row: next(iter(_spellings(row, known)), "") for row in rows}
    missing = [row for row, key in found.items() if not key]
    if missing:
        raise InputError(f"{path}: {len(missing)} names without an image and an XML file, the first is {missing[0]!r:.200}; "
                         "all that are listed must be there. Remove these lines, or add the files.")
    return list(dict.fromkeys(found.values()))


def _spellings(row: str, known: Set[str]) -> list[str]:
    """What of `known` a row may mean: a name or a path, of this folder or of another machine, with or without suffix."""
    parts = row.replace("\\", "/").split("/")
    homes = [at for at, part in enumerate(parts) if part.lower() in (XML_FOLDER, *PHOTO_FOLDERS)]
    tails = ["/".join(parts), *("/".join(parts[at + 1:]) for at in homes[-1:])]
    if ":" in parts[0] or not parts[0] or ".." in parts:
        tails.append(parts[-1])
    bare = (stem(tail) for tail in tails if is_image(tail) or tail.lower().endswith(".xml"))
    return [tail for tail in (*tails, *bare) if tail in known]


def _by_folders(root: Path, pairs: Mapping[str, tuple[str, str]]) -> tuple[list[str], list[str] | None]:
    """As `_by_lists`, by the folders that images lie in; where none is called after a split, all for train."""
    splits: dict[str, list[str]] = {}
    for key in pairs:
        splits.setdefault(split_of(key.rpartition("/")[0]), []).append(key)
    if set(splits) == {""}:
        return splits[""], None
    if "" in splits:
        raise InputError(f"{root}: {len(splits[''])} images such as {pairs[splits[''][0]][0]!r} are in no split, others are in "
                         "folders called after one; each must be in one. Move them to train/ or val/.")
    if "train" not in splits:
        raise InputError(f"{root}: no folder train/, but {', '.join(sorted(splits))}; train is needed. Rename a folder.")
    return splits["train"], splits.get("val") or splits.get("test")


def _class_rows(path: Path) -> Iterator[str]:
    lines = read_lines(path)
    if path.name == "labelmap.txt":  # CVAT's: name:colour:parts:actions
        lines = [line.split(":")[0].strip() for line in lines if not line.startswith("#")]
    elif len(lines) == 1:  # the predecessors' own: names with commas between them
        lines = [name.strip() for name in lines[0].split(",")]
    yield from (line for line in lines if line and line.lower() != "background")
