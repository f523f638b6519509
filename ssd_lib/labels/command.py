"""`ssd labels`: list suspected label errors, draw them, and write them for programs and for annotation tools."""

from collections import Counter
from pathlib import Path

import torch

from ssd_lib.annotations.coco import read_annotations
from ssd_lib.annotations.fixed_set import load_fixed
from ssd_lib.boxes.selection import PUBLISHED
from ssd_lib.checkpoint.weights import open_model
from ssd_lib.data.loader import worker_count
from ssd_lib.device import pick_device
from ssd_lib.errors import InputError, plural
from ssd_lib.evaluate.external import open_external, predict_external
from ssd_lib.files import write_json, write_text
from ssd_lib.labels.page import render_page
from ssd_lib.labels.records import Listed, Part, coco_tree, listed
from ssd_lib.labels.suspects import KINDS, find_suspects
from ssd_lib.manifest import FIXED_FOLDER, load_manifest
from ssd_lib.nets.model_file import MODEL_PATH, Model

SPLITS = ("train", "val")
BATCH_SIZE = 16
PAGE, TABLE = "labels.html", "labels.json"


def run(model: Path, annotations: Path | None, images: Path | None, out: Path, top: int, device: str) -> str:
    """Detect on all images, and write the suspects with the highest scores: labels.html, labels.json, and NAME.coco.json.

    Args:
        model: a model file, a checkpoint, or a folder with ssd.pt.
        annotations, images: as for `open_external`; None for train and val of this project.
        out: the folder for the files.
        top: the most suspects.
        device: "auto" | "cpu" | "cuda" | "cuda:1".

    Returns:
        Lines that say what was found and where it is.

    Raises:
        StateError: a file or the device is missing.
        InputError: the model or the dataset is invalid.
    """
    sources = _sources(annotations, images)
    torch_device = pick_device(device)
    opened = open_model(model / MODEL_PATH.name if model.is_dir() else model, torch_device)
    parts = [search(name, *paths, opened, torch_device, top) for name, paths in sources.items()]
    found = listed(parts, top)
    write_json(out / TABLE, [one.record._asdict() for one in found], indent=1)
    for part in parts:
        of_part = [one.record for one in found if one.part is part]
        write_json(out / _coco_name(part), coco_tree(part.raw, of_part))
    write_text(out / PAGE, render_page(parts, found))
    return _summary(parts, found, out, top)


def search(name: str, annotations: Path, images: Path, model: Model, device: torch.device, top: int) -> Part:
    """Detect on the images of an annotation file, and find its suspects; see `run`."""
    dataset = open_external(annotations, images, model.spec.class_names)
    if not len(dataset.fixed.labels):
        raise InputError(f"{annotations}: has no boxes of the classes of the model; labels are compared with detections. Give "
                         "a file with boxes.")
    own = model.postprocess
    postprocess = own._replace(score_threshold=min(own.score_threshold, PUBLISHED.score_threshold))
    found = predict_external(model.net, dataset, postprocess, BATCH_SIZE, device, worker_count("auto"),
                             model.spec.sixteen_bit_range)
    return Part(name, annotations, read_annotations(annotations), dataset, found, find_suspects(dataset.fixed, found, top))


def _sources(annotations: Path | None, images: Path | None) -> dict[str, tuple[Path, Path]]:
    """Return by name an annotation file and the folder of its images."""
    if (annotations is None) != (images is None):
        raise InputError("--annotations and --images belong together; give both, or neither for data/fixed of this project.")
    if annotations is not None and images is not None:
        return {annotations.stem: (annotations, images)}
    for split in SPLITS:
        load_fixed(split)  # says what to do if it is missing
    return {split: (FIXED_FOLDER / f"{split}.json", load_manifest().path("")) for split in SPLITS}


def _coco_name(part: Part) -> str:
    return f"{part.name}.coco.json"


def _summary(parts: list[Part], found: list[Listed], out: Path, top: int) -> str:
    lines = []
    for part in parts:
        counts = Counter(one.record.kind for one in found if one.part is part)
        kinds = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]) or "no suspects"
        lines.append(f"{part.annotations}: {plural(len(part.dataset.fixed), 'image')}, "
                     f"{plural(len(part.dataset.fixed.labels), 'label')}: {kinds}")
    files = ", ".join(_coco_name(part) for part in parts)
    if len(found) == top:
        lines.append(f"these are the {plural(top, 'suspect')} with the highest scores; --top {2 * top} lists more")
    return "\n".join([*lines, f"{out / PAGE} shows them, the most certain first; {TABLE} has the same, {files} "
                      "for annotation tools"])
