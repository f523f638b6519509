"""The files of a dataset in PASCAL VOC format: the images of each split, with an XML file each, and the class names."""

import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

from ssd_lib.annotations.account import count_matched
from ssd_lib.annotations.files import SHOWN, check_class_names, is_image, join, read_lines, stem
from ssd_lib.annotations.listing import DatasetListing
from ssd_lib.annotations.names import fold, folded_stem, group_by, match_names
from ssd_lib.annotations.splits import require_images, split_names, split_of
from ssd_lib.errors import InputError, plural
from ssd_lib.manifest import Part
from ssd_lib.params import DataParams

EXPECTED_FILES = "XML files in Annotations/, or beside images of the same name"
XML_FOLDER, IMAGE_FOLDERS = "annotations", ("jpegimages", "images")
LIST_FOLDERS = ("imagesets/main", "imagesets")
TRAIN_LISTS, VAL_LISTS = ("train", "training", "trainval", "default"), ("val", "valid", "validation", "dev", "test", "test_val")
CLASS_FLAGS = {"-1", "0", "1"}  # the second column of a list for a single class
CLASS_FILES = ("labels.txt", "labelmap.txt")
Pairs = dict[str, tuple[str, str]]  # key of an image -> the image and its XML file; see `_key`


def matches(names: frozenset[str]) -> bool:
    """Whether the names of the files look like a dataset in this format."""
    xmls = [name for name in names if _is_xml(name) and (_is_in_xml_folder(name) or name.count("/") <= 1)]
    if any(map(_is_in_xml_folder, xmls)):
        return True
    images = {stem(name) for name in names if is_image(name)} if xmls else set()
    return any(stem(name) in images for name in xmls)


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """Find the images of train and of val, each with its XML file.

    Guarantees: train is train.txt, else trainval.txt, else default.txt; val is val.txt, else dev.txt, else test.txt, else
    `data.val_fraction` of train. Without lists, folders named after the splits decide; without such folders, a fraction of all
    images becomes val. An XML file without its image is kept, and so is a listed image without its XML file: validation reports
    both. An image without an XML file that no list names is unlabelled, and not used.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        data: `val_fraction`.

    Raises:
        InputError: a list names a file that does not exist, two images have the same name, or a split has no images.
    """
    ordered = sorted(names)
    images = group_by(filter(is_image, ordered), _key)
    xmls = group_by(filter(_is_xml, ordered), _key)
    matched = match_names(images, xmls, fold, lambda key: folded_stem(f"{key}.xml"),
                          exact={key: key for key in images if key in xmls})
    images = {matched.get(key, key): files for key, files in images.items()}  # the key of the XML file
    pairs = _pairs(root, images, xmls)
    lists = _list_files(names)
    if lists:
        pairs |= _images_without_xml(root, images, pairs)
    train, val = _splits_of_lists(root, lists, images.keys(), pairs) if lists else _splits_of_folders(root, pairs)
    if val is None:
        train, val = split_names(train, data.val_fraction)
    splits: dict[str, tuple[Part, ...]] = {}
    for split, keys in (("train", train), ("val", val)):
        require_images(str(root), split, keys)
        splits[split] = (Part(format="voc", pairs=dict(sorted(pairs[key] for key in keys))),)
    return DatasetListing(splits, frozenset(), count_matched({images[key][0]: xmls[key][0] for key in matched.values()}))


def add_class_names(root: Path, names: frozenset[str], folder: str, listing: DatasetListing) -> DatasetListing:
    """Return the listing with the class names of labels.txt or of CVAT's labelmap.txt, if there is one.

    Args:
        root: the folder that the names are relative to.
        names: all files in it.
        folder: the folder of the dataset within `root`; its own file of class names precedes that of `root`.
        listing: the dataset in `folder`, with names relative to `root`.

    Raises:
        InputError: the file has no names, or a name twice.
    """
    candidates = [join(above, file) for above in (folder, "") for file in CLASS_FILES]
    file = next((name for name in candidates if name in names), None)
    if file is None:
        return listing
    rows = check_class_names(str(root / file), list(_class_rows(root / file)))
    class_names = {"class_names": {name: name for name in rows}}
    splits = {split: tuple(part.model_copy(update=class_names) for part in parts) for split, parts in listing.splits.items()}
    return DatasetListing(splits, listing.others | {file}, listing.counts)


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _is_in_xml_folder(name: str) -> bool:
    """Whether an XML file is in Annotations/, of the dataset or, such as train/Annotations/, of a split."""
    parts = name.lower().split("/")
    return parts[0] == XML_FOLDER or (len(parts) > 2 and parts[1] == XML_FOLDER and bool(split_of(parts[0])))


def _is_label_without_image(name: str) -> bool:
    """Whether an XML file counts as a label even without its image; elsewhere it may be anything, such as build.xml."""
    return _is_in_xml_folder(name) or bool(split_of(name.rpartition("/")[0]))


def _key(name: str) -> str:
    """Return what an image and its XML file have in common: "a" for JPEGImages/a.jpg and Annotations/a.xml."""
    parts = stem(name).split("/")
    at = 1 if len(parts) > 2 and split_of(parts[0]) else 0
    if len(parts) > at + 1 and parts[at].lower() in (XML_FOLDER, *IMAGE_FOLDERS):
        del parts[at]
    return "/".join(parts)


def _pairs(root: Path, images: Mapping[str, list[str]], xmls: Mapping[str, list[str]]) -> Pairs:
    """Pair images with XML files; an image that does not exist gets the name that it should have."""
    existing = {key: _single(root, images[key]) for key in xmls if key in images}
    if not existing:
        raise InputError(f"{root}: none of {len(xmls)} XML files has an image (such as {next(iter(xmls.values()))[0]!r}); it "
                         "has the same name, in JPEGImages/, in images/ or beside it. Put the images there.")
    tops = {name.partition("/")[0] for name in existing.values()}
    image_folder = min((folder for folder in tops if folder.lower() in IMAGE_FOLDERS), default="JPEGImages")
    return {key: (existing.get(key) or _expected_image(files[0], image_folder), _single(root, files))
            for key, files in xmls.items() if key in existing or any(map(_is_label_without_image, files))}


def _images_without_xml(root: Path, images: Mapping[str, list[str]], pairs: Pairs) -> Pairs:
    """Return the other images, each with the name that its XML file should have, formed like an existing one."""
    key, (_, xml) = next(iter(pairs.items()))
    before, after = xml[:len(xml) - len(key) - len(".xml")], xml[-len(".xml"):]
    return {other: (_single(root, files), before + other + after) for other, files in images.items() if other not in pairs}


def _single(root: Path, files: list[str]) -> str:
    if len(files) > 1:
        raise InputError(f"{root}: {' and '.join(map(repr, files))} have the same name but for suffix and "
                         "folder, so the labels are ambiguous. Remove or rename one.")
    return files[0]


def _expected_image(xml: str, image_folder: str) -> str:
    """Return the name that the image of an XML file in Annotations/ should have."""
    return re.sub(rf"(^|/){XML_FOLDER}/", rf"\g<1>{image_folder}/", stem(xml), count=1, flags=re.I) + ".jpg"


def _list_files(names: frozenset[str]) -> dict[str, str]:
    """Return the lists of images by their lower-case names without ".txt"; those of ImageSets/Main/ if there are any."""
    for folder in LIST_FOLDERS:
        found = {stem(name)[len(folder) + 1:].lower(): name for name in names
                 if name.lower().startswith(f"{folder}/") and name.lower().endswith(".txt")}
        if found:
            return {word: name for word, name in found.items() if "/" not in word}
    return {}


def _splits_of_lists(root: Path, lists: Mapping[str, str], images: Set[str],
                     pairs: Pairs) -> tuple[list[str], list[str] | None]:
    """Return the keys of the images of train and of val; None for val if there is no list for it."""
    known = images | pairs.keys()
    rows = {word: _read_list(root / lists[word], known) for word in (*TRAIN_LISTS, *VAL_LISTS) if word in lists}
    train = next((word for word in TRAIN_LISTS if rows.get(word)), None)
    val = next((word for word in VAL_LISTS if rows.get(word)), None)
    if train is None:
        raise InputError(f"{root}: no list of the images for train, or an empty one; that is train.txt, trainval.txt or "
                         f"default.txt in ImageSets/Main/; there are {', '.join(sorted(lists.values())[:SHOWN])}. Add one.")
    held_out = set(rows[val]) if val and train not in ("train", "training") else set()
    return ([key for key in rows[train] if key in pairs and key not in held_out],
            [key for key in rows[val] if key in pairs] if val else None)


def _read_list(path: Path, known: Set[str]) -> list[str]:
    """Return the keys of the images in a list, each once; a row may be written differently if that is one to one."""
    rows = [row for row in read_lines(path) if row]
    columns = [row.rsplit(maxsplit=1) for row in rows]
    has_flags = all(len(column) > 1 and column[1] in CLASS_FLAGS for column in columns)
    if has_flags and not all(_keys_of_row(row, known) for row in rows):
        rows = [name for name, _ in columns]
    found = {row: next(iter(_keys_of_row(row, known)), "") for row in rows}
    missing = [row for row, key in found.items() if not key]
    if missing:
        by_fold = group_by(known, fold)
        for row in missing:
            keys = by_fold.get(fold(row)) or by_fold.get(stem(fold(row))) or []
            found[row] = keys[0] if len(keys) == 1 else ""
        missing = [row for row in missing if not found[row]]
    if missing:
        raise InputError(f"{path}: {len(missing)} names without an image and an XML file, the first is {missing[0]!r:.200}; "
                         "all that are listed must exist. Remove these lines, or add the files.")
    return list(dict.fromkeys(found.values()))


def _keys_of_row(row: str, known: Set[str]) -> list[str]:
    """Return the known keys that a row may mean: a name or a path, of this machine or another, with or without suffix."""
    parts = row.replace("\\", "/").split("/")
    folders = [at for at, part in enumerate(parts) if part.lower() in (XML_FOLDER, *IMAGE_FOLDERS)]
    tails = ["/".join(parts), *("/".join(parts[at + 1:]) for at in folders[-1:])]
    if ":" in parts[0] or not parts[0] or ".." in parts:
        tails.append(parts[-1])
    without_suffix = (stem(tail) for tail in tails if is_image(tail) or _is_xml(tail))
    return [tail for tail in (*tails, *without_suffix) if tail in known]


def _splits_of_folders(root: Path, pairs: Pairs) -> tuple[list[str], list[str] | None]:
    """Return keys as `_splits_of_lists`, by the folders of the images; all for train if no folder is named after a split."""
    splits: dict[str, list[str]] = {}
    for key in pairs:
        splits.setdefault(split_of(key.rpartition("/")[0]), []).append(key)
    if set(splits) == {""}:
        return splits[""], None
    if "" in splits:
        raise InputError(f"{root}: {plural(len(splits['']), 'image')} in no split, such as {pairs[splits[''][0]][0]!r}; "
                         "others are in folders named after one. Each must be in one: move them to train/ or val/.")
    if "train" not in splits:
        raise InputError(f"{root}: no folder train/, but {', '.join(sorted(splits))}; train is needed. Rename a folder.")
    return splits["train"], splits.get("val") or splits.get("test")


def _class_rows(path: Path) -> Iterator[str]:
    lines = read_lines(path)
    if path.name == "labelmap.txt":  # CVAT's: name:color:parts:actions
        lines = [line.split(":")[0].strip() for line in lines if not line.startswith("#")]
    elif len(lines) == 1:  # names separated by commas, as qfgaohao/pytorch-ssd and its forks write them
        lines = [name.strip() for name in lines[0].split(",")]
    yield from (line for line in lines if line and line.lower() != "background")
