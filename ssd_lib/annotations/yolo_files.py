"""Where the files of a YOLO data set lie: a text for each image, and a YAML file or a list of classes."""

from collections.abc import Iterable
from pathlib import Path

from ssd_lib.annotations.dataset_listing import DatasetListing
from ssd_lib.annotations.file_listing import below, folders_of, is_image, shown, stem
from ssd_lib.annotations.splits import matching, require_images, split_names, split_of
from ssd_lib.annotations.text_files import check_class_names, read_bytes, read_lines
from ssd_lib.annotations.yolo_yaml import USUAL, Config, places, read_config
from ssd_lib.errors import InputError
from ssd_lib.manifest import Part
from ssd_lib.params import DataParams

EXPECTED_FILES = "data.yaml or dataset.yaml, or images/ with labels/*.txt, or images with a .txt beside each"
SPLIT_PLACES = ("{split}.txt", "images/{split}*", "{split}*/images", "{split}*")
CLASS_FILES = ("classes.txt", "obj.names")
NONE = Config("", (), "", {"train": (), "val": ()})


def fits(names: frozenset[str]) -> bool:
    """Is there a YAML file of the usual name, or an image with a text where those of YOLO lie, going by their names?"""
    return any(name in names for name in USUAL) or any(_is_near(name) and label_of(name, names) for name in names
                                                       if is_image(name))


def find(root: Path, names: frozenset[str], data: DataParams) -> DatasetListing:
    """The images of train and of val, each with the text of its objects; "" where it has none, and so no objects.

    Guarantees: the YAML file says where images are; without one it goes by folders called after the splits. Where val is not said,
    a share of train becomes val. Whatever a path says, files are only looked for below `root`.

    Args:
        root: the folder that the names are below.
        names: all files in it.
        data: `val_fraction`.

    Raises:
        InputError: no names of classes, a fault in the YAML, folders that are not there, no images or no texts.
    """
    config = read_config(root, names)
    class_file, class_names = (config.file, config.class_names) if config else _class_list(root, names)
    train, val = _images_of_both(root, names, config or NONE)
    if val is None:
        train, val = split_names(train, data.val_fraction)
    numbered = {str(number): name for number, name in enumerate(class_names)}
    splits: dict[str, tuple[Part, ...]] = {}
    for split, images in (("train", train), ("val", val)):
        require_images(str(root), split, images)
        pairs = {image: label_of(image, names) for image in sorted(images)}
        _require_labels(root, split, pairs)
        splits[split] = (Part(format="yolo", pairs=pairs, class_names=numbered),)
    return DatasetListing(splits, frozenset([class_file]))


def label_of(image: str, names: frozenset[str]) -> str:
    """The text of an image: in labels/ in place of images/, the last one in its path, or beside it; "" if there is none."""
    head, slash, tail = f"/{stem(image)}".rpartition("/images/")
    swapped = f"{head}/labels/{tail}.txt"[1:] if slash else ""
    return next((name for name in (swapped, f"{stem(image)}.txt") if name in names), "")


def _is_near(image: str) -> bool:
    """Is an image so near to the root that the root is its data set's?"""
    top, slash, rest = image.partition("/")
    return not slash or top == "images" or "/" not in rest or bool(split_of(top))


def _class_list(root: Path, names: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """The list of classes and the names in it: the one in the root, or else those deeper down if they all say the same."""
    lists = sorted((name for name in names if name.rpartition("/")[2] in CLASS_FILES), key=lambda name: (name.count("/"), name))
    if not lists:
        raise InputError(f"{root}: no names of classes; labels have numbers alone. Looked for a YAML file with `names`, "
                         f"{' and '.join(CLASS_FILES)}; {shown(names)}. Write classes.txt, a name a line.")
    if "/" in lists[0] and len({read_bytes(root / name) for name in lists}) > 1:
        raise InputError(f"{root}: {len(lists)} lists of classes that differ, {', '.join(lists[:5])}; one is needed. Write "
                         "classes.txt into this folder.")
    return lists[0], check_class_names(str(root / lists[0]), read_lines(root / lists[0]))


def _images_of_both(root: Path, names: frozenset[str], config: Config) -> tuple[list[str], list[str] | None]:
    """Images of train and of val; None for val if nothing says which."""
    folders = folders_of(names)
    told = [split for split in ("train", "val") if config.entries[split]]
    if told:
        found = {split: _told(root, names, folders, config, split) for split in told}
    else:
        homes = {split: _split_place(root, names | folders, split) for split in ("train", "val")}
        found = {split: _seen(root, names, folders, home) for split, home in homes.items() if home}
    if not found:
        return _images_in(names, ["images" if "images" in folders else ""]), None
    if "train" not in found:
        raise InputError(f"{root}: images for val but none for train; train is needed; {shown(names)}. Say where they are.")
    if found["train"] == found.get("val") and config.entries["train"] != config.entries["val"]:
        raise InputError(f"{root / config.file}: {', '.join(config.entries['train'])} for train and "
                         f"{', '.join(config.entries['val'])} for val are the same images below {root}; {shown(names)}. "
                         "Correct the paths.")
    return found["train"], found.get("val")


def _told(root: Path, names: frozenset[str], folders: set[str], config: Config, split: str) -> list[str]:
    """The images that the YAML names for a split."""
    images: dict[str, None] = {}
    for entry in config.entries[split]:
        place = next((place for place in places(entry, config.base)
                      if place in folders or (place in names and place.endswith(".txt"))), None)
        if place is None:
            raise InputError(f"{root / config.file}: {split} is {entry!r:.200}, which is no folder with files and no .txt list "
                             f"below {root}; {shown(names)}. Correct it, or name the folder that holds all in data.paths.")
        images |= dict.fromkeys(_seen(root, names, folders, place, config.base))
    return list(images)


def _split_place(root: Path, candidates: Iterable[str], split: str) -> str:
    """The folder or the list of a split, going by its name; "" if there is none."""
    found = matching(candidates, split, SPLIT_PLACES)
    inner = [place for place in found if not any(other.startswith(f"{place}/") for other in found)]
    if len(inner) > 1:
        raise InputError(f"{root}: {len(inner)} places with the images of {split}, {', '.join(inner)}; one is needed. Write a "
                         "data.yaml that says which.")
    return inner[0] if inner else ""


def _seen(root: Path, names: frozenset[str], folders: set[str], place: str, base: str = "") -> list[str]:
    """The images in a folder, or in a list of them."""
    return _images_in(names, [place]) if place in folders else _listed(root, names, place, base)


def _images_in(names: frozenset[str], folders: Iterable[str]) -> list[str]:
    return sorted(name for folder in folders for name in below(folder, names) if is_image(name))


def _listed(root: Path, names: frozenset[str], file: str, base: str) -> list[str]:
    rows = [row for row in read_lines(root / file) if row]
    near = file.rpartition("/")[0]
    found = {row: next((place for folder in (near, base) for place in places(row, folder, is_image=True) if place in names), "")
             for row in rows}
    missing = [row for row, image in found.items() if not image]
    if missing:
        raise InputError(f"{root / file}: {len(missing)} images that are not there, the first is {missing[0]!r:.200}; all "
                         "that are listed must be. Remove these lines, or add the images.")
    return list(dict.fromkeys(found.values()))


def _require_labels(root: Path, split: str, pairs: dict[str, str]) -> None:
    if not any(pairs.values()):
        image = next(iter(pairs))
        raise InputError(f"{root}: none of {len(pairs)} images for {split} has a text with its objects (such as {image!r}); it "
                         "has the same name with .txt, in labels/ in place of images/ or beside it. Put the labels there.")
