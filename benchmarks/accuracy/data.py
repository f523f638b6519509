"""The dataset of the comparison: read by the stages, its test split, a part of it to measure speed, the layout of YOLO."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.images import ROOT
from ssd_lib.annotations.fixed_set import FixedSet, load_fixed
from ssd_lib.evaluate.coco_eval import BOX_DIGITS, SCORE_DIGITS, Predictions, coco_metrics, run_coco
from ssd_lib.manifest import FIXED_FOLDER, load_manifest

TEST, VAL = (re.compile(rf"(?<![a-z])({words})(?![a-z])", re.I) for words in ("test", "val|valid|validation"))
LISTS = (".txt", ".json", ".csv")  # files that list a split
READING = ("download", "validate", "fix_annotations")


class Split(NamedTuple):
    """Images with their boxes.

    Attributes:
        fixed: as arrays.
        files: the file of each image.
        truth: the annotations in COCO format, parsed.
    """

    fixed: FixedSet
    files: list[Path]
    truth: dict[str, Any]


def environment(threads: int) -> dict[str, str]:
    """Return this process's environment for commands that import the project from any folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}


def run_command(command: Sequence[str], folder: Path, log: Path, environ: Mapping[str, str]) -> bool:
    """Run a command in a folder, with its output in a file, and return whether it succeeded."""
    with log.open("w") as file:
        return subprocess.run(command, cwd=folder, env=environ, stdout=file, stderr=subprocess.STDOUT).returncode == 0


def write_params(folder: Path, recipe: Path, *settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Write params.yaml from a recipe and settings of its groups, the later ones first."""
    tree = yaml.safe_load(recipe.read_text())
    for groups in settings:
        for group, values in groups.items():
            tree[group].update(values)
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))


def prepare(folder: Path, dataset: Path | None) -> bool:
    """Read a dataset by the stages up to fix_annotations, in a folder; nothing is done if that was finished before.

    Args:
        folder: gets params.yaml and data/.
        dataset: a folder or zip file as `data.paths` takes it; None generates the demo's images.

    Returns:
        Whether it can be read; else the log of the stage that failed is `failed.log` in the folder.
    """
    if (folder / FIXED_FOLDER / "id_map.json").exists():
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = {"source": "demo"} if dataset is None else {"source": "local", "paths": [str(dataset.resolve())]}
    write_params(folder, ROOT / "params.yaml", {"data": data})
    return all(run_command([sys.executable, "-m", f"stages.{stage}"], folder, folder / "failed.log", environment(1))
               for stage in READING)


def load_split(folder: Path, split: str) -> Split:
    """Return a split of a dataset that `prepare` has read."""
    manifest = load_manifest(folder / "data/manifest.json")
    fixed = load_fixed(split, folder / FIXED_FOLDER)
    root = folder / "data/raw" / manifest.root
    truth = json.loads((folder / FIXED_FOLDER / f"{split}.json").read_bytes())
    return Split(fixed, [root / fixed.file_name(index) for index in range(len(fixed))], truth)


def measured_split(folder: Path) -> tuple[Split, str]:
    """Return the test split of the dataset in `folder/data`, and "test"; if it has none with labels, val and "val"."""
    data, test, view = folder / "data", folder / "test", folder / "test-files"
    root = data / "data/raw" / load_manifest(data / "data/manifest.json").root
    if view_of_test(root, view) and prepare(test, view):
        split = load_split(test, "val")
        if split.fixed.class_names == load_fixed("train", data / FIXED_FOLDER).class_names:
            return split, "test"
        print("the test split has other classes than train and val; measured on val", file=sys.stderr)
    elif view.exists():
        print(f"the test split cannot be read ({test / 'failed.log'} says why); measured on val", file=sys.stderr)
    return load_split(data, "val"), "val"


def view_of_test(root: Path, view: Path) -> bool:
    """Make a copy of a dataset, of hard links where possible, whose val is its test split; return whether it has a test split.

    A test split is what a YAML file names as `test`, or else folders, lists and annotation files with that word.
    """
    if view.exists():
        return True
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    configs = {name: tree for name in names if name.endswith((".yaml", ".yml"))
               and isinstance(tree := yaml.safe_load((root / name).read_text()), dict) and tree.get("test")}
    renamed = {name: name for name in names if name not in configs} if configs else dict(as_val(names))
    if not configs and all(map(str.__eq__, renamed, renamed.values())):
        return False
    for name, new in renamed.items():
        (view / new).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link((root / name).resolve(), view / new)
        except OSError:  # another file system
            shutil.copyfile(root / name, view / new)
    for name, tree in configs.items():
        (view / name).parent.mkdir(parents=True, exist_ok=True)
        kept = {key: value for key, value in tree.items() if key not in ("test", "valid", "validation")}
        (view / name).write_text(yaml.safe_dump(kept | {"val": tree["test"]}))
    return True


def as_val(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the names of files without those of val, each with its name in a dataset whose val they are if they are of test."""
    for name in names:
        path = PurePosixPath(name)
        is_list = path.suffix.lower() in LISTS and "labels" not in path.parts
        words = name if is_list else f"{path.parent}/"
        if not VAL.search(words):
            yield name, (TEST.sub("val", words) if is_list else TEST.sub("val", words).removeprefix("./") + path.name)


def write_part(source: Path, folder: Path, limit: int) -> float:
    """Write the first images of a dataset that `prepare` has read as one of its own, and return their share of the images.

    Args:
        source: the dataset.
        folder: gets the part; its images stay where they are.
        limit: of the training images; val is cut in the same proportion.
    """
    share = min(1.0, limit / len(load_fixed("train", source / FIXED_FOLDER)))
    (folder / FIXED_FOLDER).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "params.yaml", folder / "params.yaml")
    for name in ("data/raw", "data/manifest.json"):
        link(source / name, folder / name)
    for name in ("labels.txt", "id_map.json", "train.json", "val.json"):
        shutil.copyfile(source / FIXED_FOLDER / name, folder / FIXED_FOLDER / name)
    for split in ("train", "val"):
        fixed = load_fixed(split, source / FIXED_FOLDER)
        np.savez(folder / FIXED_FOLDER / f"{split}.npz", **asdict(first_images(fixed, max(1, round(share * len(fixed))))))
    return share


def first_images(fixed: FixedSet, count: int) -> FixedSet:
    """Return the first images of a split, at least one of them with objects if the split begins with such."""
    rows = slice(0, fixed.box_offsets[count])
    return replace(fixed, image_ids=fixed.image_ids[:count], name_offsets=fixed.name_offsets[:count + 1],
                   sizes=fixed.sizes[:count], box_offsets=fixed.box_offsets[:count + 1], boxes=fixed.boxes[rows],
                   labels=fixed.labels[rows], is_crowd=fixed.is_crowd[rows])


def link(target: Path, name: Path) -> None:
    """Make a symbolic link, unless there is one."""
    if not name.is_symlink():
        name.symlink_to(target.resolve())


def write_yolo(folder: Path, splits: Mapping[str, Split]) -> Path:
    """Write splits in the layout of Ultralytics: images are links named after their index; crowds are left out.

    Returns:
        The path of its YAML file.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for split, (fixed, files, _) in splits.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index, file in enumerate(files):
            link(file, folder / "images" / split / f"{index:06d}{file.suffix.lower()}")
            (folder / "labels" / split / f"{index:06d}.txt").write_text("".join(yolo_lines(fixed, index)))
    names = dict(enumerate(next(iter(splits.values())).fixed.class_names))
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({"path": str(folder.resolve()), **{s: f"images/{s}" for s in splits}, "names": names}))
    return path


def yolo_lines(fixed: FixedSet, index: int) -> Iterator[str]:
    """Yield `class cx cy w h` of each object of an image, relative to its size; classes are counted from 0."""
    height, width = fixed.sizes[index].tolist()
    for row in range(fixed.box_offsets[index], fixed.box_offsets[index + 1]):
        if not fixed.is_crowd[row]:
            x1, y1, x2, y2 = fixed.boxes[row].tolist()
            numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            yield " ".join([str(fixed.labels[row] - 1), *(f"{number:.6f}" for number in numbers)]) + "\n"


def read_detections(rows: Sequence[Mapping[str, Any]], images: int, classes: int) -> Predictions:
    """Return detections in COCO's results format as those of our measure, sorted by image.

    Args:
        rows: `image_id` is the index of the image, `category_id` the label in 1..K, `bbox` xywh in pixels.
        images: of the split.
        classes: K.

    Raises:
        ValueError: a row is of no image or class.
    """
    indices = np.array([int(row["image_id"]) for row in rows], dtype=np.int64)
    labels = np.array([int(row["category_id"]) for row in rows], dtype=np.int64)
    if len(rows) and (indices.min() < 0 or indices.max() >= images or labels.min() < 1 or labels.max() > classes):
        raise ValueError(f"detections of images {indices.min()} to {indices.max()} and labels {labels.min()} to "
                         f"{labels.max()}; they must be in 0 to {images - 1} and 1 to {classes}")
    scores = np.array([row["score"] for row in rows], dtype=np.float64).round(SCORE_DIGITS)
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4).round(BOX_DIGITS)
    order = np.argsort(indices, kind="stable")
    return Predictions(indices[order], labels[order], scores[order], boxes[order])


def measure(split: Split, predictions: Predictions) -> dict[str, Any]:
    """Return COCO's metrics of detections, and the AP50 of each class as {"class_AP50": {name: AP50}}."""
    result = run_coco(split.truth, split.fixed, predictions)
    by_class = result.eval["precision"][0, :, :, 0, -1].mean(axis=0)  # (K,) at IoU 0.50, of all areas and 100 detections
    names = [category["name"] for category in result.cocoGt.loadCats(result.params.catIds)]
    return {**coco_metrics(result),
            "class_AP50": {name: None if value == -1 else float(value) for name, value in zip(names, by_class, strict=True)}}
