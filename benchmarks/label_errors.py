"""Plant errors in the labels of training images, train with them, and count how many `ssd labels` lists first: one table.

    python -m benchmarks.label_errors --dataset demo --dataset bccd.zip --seeds 1 2

Law: of 100 errors, 25 of each kind, at least 80 (demo) and 60 (BCCD) are among the first 120. BCCD has errors of its own, such
as cells without a box, which are listed as well.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.accuracy.cases import read_params
from benchmarks.accuracy.data import environment, link, prepare, run_command, write_params
from benchmarks.images import ROOT
from ssd_lib.annotations.coco import read_annotations
from ssd_lib.annotations.fix_annotations import write_split
from ssd_lib.annotations.table import Annotations, Boxes
from ssd_lib.checkpoint.weights import open_model
from ssd_lib.files import write_json
from ssd_lib.labels.command import search
from ssd_lib.labels.records import Record, records
from ssd_lib.labels.suspects import KINDS
from ssd_lib.manifest import FIXED_FOLDER, load_manifest

EACH = 25  # errors of each of `KINDS`
FIRST = 120  # suspects that count
LOOSE_IOU = (0.3, 0.6)  # of a shifted and resized box with the true one
LARGEST_SHIFT, LARGEST_SCALE = 0.5, 1.8  # of a side
APART_IOU = 0.1  # of a spurious box with any label, at most
SAME_PLACE_IOU = 0.5  # of what a suspect shows with the true box
TRIES = 10_000
EPOCHS = {"demo": 5, "other": 10}
DEMO, RECIPE = ROOT / "params.yaml", ROOT / "recipes/finetune.yaml"


class Planted(NamedTuple):
    """An error in the labels.

    Attributes:
        kind: of `KINDS`.
        file_name: of the image.
        annotation_id: of the wrong annotation; of a missing box, the id that it had.
        box: the true box, xywh in pixels; of a spurious box, that box.
    """

    kind: str
    file_name: str
    annotation_id: int
    box: list[float]


def main() -> None:
    """Train and count for every dataset and seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", action="append", metavar="DATA", help="demo, or a folder or zip file (default: demo)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="N", help="of the errors (default: 1)")
    parser.add_argument("--epochs", type=int, metavar="N", help="default: 5 for the demo, else 10")
    parser.add_argument("--threads", type=int, default=1, help="of torch, and loader processes (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/label_errors"), help="the folder of trainings and results")
    options = parser.parse_args()
    print(f"{'dataset':<12} {'seed':>4} {'epochs':>6} {'labels':>6}  " + "  ".join(f"{kind:>20}" for kind in KINDS)
          + f"  found among the first {FIRST}")
    for dataset in options.dataset or ["demo"]:
        for seed in options.seeds:
            print(_row(run(dataset, seed, options)), flush=True)


def run(dataset: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Plant, train and count; what is finished is read from `result.json`."""
    name = Path(dataset).stem
    epochs = options.epochs or EPOCHS["demo" if dataset == "demo" else "other"]
    clean, folder = options.out.resolve() / name / "clean", options.out.resolve() / name / f"seed-{seed}-epochs-{epochs}"
    result = folder / "result.json"
    if not result.exists():
        if not prepare(clean, None if dataset == "demo" else Path(dataset)):
            sys.exit(f"{dataset}: cannot be read; {clean / 'failed.log'} says why")
        planted = plant_in_copy(clean, folder, seed)
        _train(clean, folder, DEMO if dataset == "demo" else RECIPE, epochs, options.threads)
        torch.set_num_threads(options.threads)
        images = folder / "data/raw" / load_manifest(folder / "data/manifest.json").root
        part = search("train", folder / FIXED_FOLDER / "train.json", images, open_model(folder / "models/ssd.pt"),
                      torch.device("cpu"), FIRST)
        listed = records(part)
        write_json(result, {"dataset": name, "seed": seed, "epochs": epochs, "labels": len(part.raw.boxes),
                            "found": count(planted, listed), "listed": [row._asdict() for row in listed]}, indent=1)
    return json.loads(result.read_text())


def plant_in_copy(clean: Path, folder: Path, seed: int) -> list[Planted]:
    """Write a copy of a dataset of `prepare` with errors in its training labels; the images are links."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / FIXED_FOLDER).mkdir(parents=True)
    (folder / "reports").mkdir()
    for name in ("data/raw", "data/manifest.json"):
        link(clean / name, folder / name)
    for name in ("labels.txt", "id_map.json", "val.json", "val.npz"):
        shutil.copyfile(clean / FIXED_FOLDER / name, folder / FIXED_FOLDER / name)
    wrong, planted = plant(read_annotations(clean / FIXED_FOLDER / "train.json"), EACH, np.random.default_rng(seed))
    write_split(folder / FIXED_FOLDER, "train", wrong)
    write_json(folder / "planted.json", [one._asdict() for one in planted], indent=1)
    return planted


def plant(annotations: Annotations, each: int, rng: np.random.Generator) -> tuple[Annotations, list[Planted]]:
    """Return the annotations with errors of each of `KINDS`, all at different objects.

    Objects are drawn at random from those that are not crowds. The first lose their box, the second get another class, drawn at
    random, the third are shifted and resized to an IoU in `LOOSE_IOU`, and copies of the fourth, with class and size, go to a
    random place of a random image where they overlap no label by more than `APART_IOU`.
    """
    boxes, owners = annotations.boxes, annotations.image_indices()
    rows = rng.permutation(np.flatnonzero(~boxes.is_crowd))[:len(KINDS) * each].reshape(len(KINDS), each)
    missing, renamed, loose, copied = rows
    classes = boxes.category_ids.copy()
    for row in renamed.tolist():
        classes[row] = rng.choice([category.id for category in annotations.categories if category.id != classes[row]])
    xywh = boxes.xywh.copy()
    for row in loose.tolist():
        xywh[row] = _loosened(boxes.xywh[row], annotations.images.sizes[owners[row]], rng)
    wrong = replace(boxes, category_ids=classes, xywh=xywh, areas=xywh[:, 2] * xywh[:, 3])
    spurious = _spurious(annotations, copied, rng)
    kept = wrong.take(np.setdiff1d(np.arange(len(boxes)), missing))
    joined = Boxes(*(np.concatenate([getattr(kept, name), getattr(spurious, name)]) for name in vars(kept)))
    names = dict(zip(annotations.images.ids.tolist(), annotations.images.file_names, strict=True))
    sources = (boxes.take(missing), boxes.take(renamed), boxes.take(loose), spurious)
    planted = [Planted(kind, names[image], number, box) for kind, source in zip(KINDS, sources, strict=True)
               for number, image, box in zip(source.ids.tolist(), source.image_ids.tolist(), source.xywh.tolist(), strict=True)]
    return replace(annotations, boxes=joined), planted


def count(planted: Sequence[Planted], listed: Sequence[Record]) -> dict[str, tuple[int, int]]:
    """Return for each of `KINDS` how many errors are listed, and how many of them with the right kind.

    An error is listed by a suspect that names its annotation, or that shows the true box, with an IoU of `SAME_PLACE_IOU`.
    """
    found = {kind: (0, 0) for kind in KINDS}
    for error in planted:
        kinds = {row.kind for row in listed if _names(row, error)}
        total, right = found[error.kind]
        found[error.kind] = (total + bool(kinds), right + (error.kind in kinds))
    return found


def _names(row: Record, error: Planted) -> bool:
    if row.annotation_id == error.annotation_id:
        return True
    return (row.file_name == error.file_name and row.box is not None
            and bool(_ious(np.array(row.box), np.array([error.box]))[0] >= SAME_PLACE_IOU))


def _train(clean: Path, folder: Path, recipe: Path, epochs: int, threads: int) -> None:
    """Train by the stage `train`, with the parameters of a recipe."""
    write_params(folder, recipe, {"data": read_params(clean)["data"]}, {
        "train": {"epochs": epochs, "ap_every_epochs": 0, "patience": 0},
        "runtime": {"workers": threads, "threads": threads, "device": "cpu"}})
    log = folder / "train.log"
    if not run_command([sys.executable, "-m", "stages.train"], folder, log, environment(threads)):
        sys.exit(f"{log}: the training failed:\n{log.read_text()[-1500:]}")


def _loosened(box: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a box of an image of (width, height) with an IoU in `LOOSE_IOU` with a true one."""
    def draw() -> np.ndarray:
        sides = box[2:] * LARGEST_SCALE ** rng.uniform(-1, 1, 2)
        middle = box[:2] + box[2:] * (0.5 + rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2))
        low, high = np.clip(middle - sides / 2, 0, size), np.clip(middle + sides / 2, 0, size)
        return np.concatenate([low, high - low])

    return _first(draw, lambda found: LOOSE_IOU[0] <= _ious(box, found[None])[0] <= LOOSE_IOU[1])


def _spurious(annotations: Annotations, rows: np.ndarray, rng: np.random.Generator) -> Boxes:
    """Return copies of some boxes at places without labels."""
    boxes, images, owners = annotations.boxes, annotations.images, annotations.image_indices()
    image_of, places = np.zeros(len(rows), dtype=np.int64), np.zeros((len(rows), 4))
    for at, row in enumerate(rows.tolist()):
        sides = boxes.xywh[row, 2:]

        def draw(sides: np.ndarray = sides) -> tuple[int, np.ndarray]:
            image = int(rng.integers(len(images)))
            return image, np.concatenate([rng.uniform(0, 1, 2) * (images.sizes[image] - sides), sides])

        def fits(found: tuple[int, np.ndarray], at: int = at) -> bool:
            image, box = found
            others = np.concatenate([boxes.xywh[owners == image], places[:at][image_of[:at] == image]])
            return bool((box[:2] >= 0).all() and (_ious(box, others) <= APART_IOU).all())

        image_of[at], places[at] = _first(draw, fits)
    numbers = boxes.ids.max() + 1 + np.arange(len(rows))
    return Boxes(numbers, images.ids[image_of], boxes.category_ids[rows], places, places[:, 2] * places[:, 3],
                 np.zeros(len(rows), dtype=bool))


def _first(draw: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
    """Return the first draw that fits."""
    for _ in range(TRIES):
        if fits(found := draw()):
            return found
    raise RuntimeError(f"none of {TRIES} draws fits")


def _ious(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU of a box, xywh, with (N, 4) others."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=1)
    return shared / (box[2:].prod() + others[:, 2:].prod(axis=1) - shared)


def _row(result: dict[str, Any]) -> str:
    cells = [f"{found} of {EACH}, kind {right}" for found, right in result["found"].values()]
    total = sum(found for found, _ in result["found"].values())
    return (f"{result['dataset']:<12} {result['seed']:>4} {result['epochs']:>6} {result['labels']:>6}  "
            + "  ".join(f"{cell:>20}" for cell in cells) + f"  {total} of {EACH * len(KINDS)}")


if __name__ == "__main__":
    main()
