"""How accurate detectors are after the same minutes, or the same passes, of training on the same photographs: one table.

    python -m benchmarks.accuracy DATA.zip --minutes 12 --seeds 1 2 3
    python -m benchmarks.accuracy DATA.zip --passes 20 --cases mb2-scratch torchvision torchvision-8
    python -m benchmarks.accuracy --minutes 5                       # on the demo's images
    python -m benchmarks.accuracy DATA.zip --cases yolo11n --ultralytics-python /other/venv/bin/python
    python -m benchmarks.accuracy DATA.zip --cases ours no-average --also no-average train.ema_decay=0

Every case trains on train with its own recipe; the images of test (of val, if the dataset has no test split) are measured once,
at the end, with COCO's measure. A case's epochs follow from the minutes and its speed, which is measured once; the minutes hold
all of the training command: its start, validation and checkpoints. Finished trainings stay in the folder of results, and the
same command goes on after them. docs/accuracy.md has results.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.accuracy.cases import CASES, Case, Job, has_ultralytics, ours, parse_settings, train_ultralytics
from benchmarks.accuracy.data import measure, measured_split, prepare, write_part
from benchmarks.accuracy.report import read_results, table
from ssd_lib.files import write_json
from ssd_lib.processes import available_cores

PROBE_IMAGES, PROBE_EPOCHS = 240, (1, 3)  # how the speed of a case is measured
DEFAULT_CASES = ("ours", "ours-ssd", "torchvision", "predecessor", "yolo11n")


def main() -> None:
    """Train what is not trained yet, measure it, and print the table."""
    options = parse_arguments()
    cases = chosen_cases(options)
    name = "demo" if options.dataset is None else options.dataset.stem
    folder: Path = options.out / name
    if not prepare(folder / "data", options.dataset):
        sys.exit(f"{options.dataset or 'the demo'} cannot be read:\n{(folder / 'data/failed.log').read_text()[-1500:]}")
    budget = f"{options.passes}-passes" if options.passes else f"{options.minutes:g}-minutes"
    results = folder / budget
    for seed in options.seeds:
        for case_name, case in cases.items():
            run_once(results / f"{case_name}-{seed}", folder, case_name, case, seed, options)
    rows = read_results(results)
    write_json(results / "results.json", rows, indent=1)
    print(f"\n{name}: {budget.replace('-', ' ')}, {options.threads} threads, torch {torch.__version__}, torchvision "
          f"{torchvision.__version__}; measured on {' and '.join(sorted({row['split'] for row in rows}))}\n\n{table(rows)}\n\n"
          f"all numbers: {results / 'results.json'}")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path, help="a folder or zip file, as data.paths takes it; default: the demo")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=12, help="of each training")
    budget.add_argument("--passes", type=int, default=0, help="over the training images, instead of minutes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--cases", nargs="+", default=list(DEFAULT_CASES), metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--also", nargs="+", action="append", default=[], metavar=("NAME", "group.key=value"),
                        help="a further case: ours with other values; may be repeated")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of torch, and loader processes")
    parser.add_argument("--ultralytics-python", default=sys.executable, metavar="PATH", help="a Python with that package")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"), help="the folder of results")
    options = parser.parse_args()
    if options.dataset is not None and not options.dataset.exists():
        parser.error(f"{options.dataset}: does not exist")
    options.out = options.out.resolve()
    return options


def chosen_cases(options: argparse.Namespace) -> dict[str, Case]:
    """Return the cases by name, without those of Ultralytics where that package is not installed."""
    known = dict(CASES)
    for name, *words in options.also:
        try:
            known[name] = Case(f"ours, {' '.join(words)}", ours(**parse_settings(words)))
        except ValueError as error:
            sys.exit(f"--also: {error}")
    if unknown := [name for name in options.cases if name not in known]:
        sys.exit(f"--cases: {unknown[0]!r} is no case; there are {', '.join(known)}")
    yolo = [name for name in options.cases if getattr(known[name].train, "func", None) is train_ultralytics]
    if yolo and not has_ultralytics(options.ultralytics_python):
        print(f"without {', '.join(yolo)}: {options.ultralytics_python} has no package ultralytics", file=sys.stderr)
        options.cases = [name for name in options.cases if name not in yolo]
    return {name: known[name] for name in options.cases}


def run_once(result: Path, folder: Path, name: str, case: Case, seed: int, options: argparse.Namespace) -> None:
    """Train a case with a seed and measure it, unless that is finished.

    Raises:
        SystemExit: what is finished had another recipe or another number of threads.
    """
    path = result.with_suffix(".json")
    if path.exists():
        kept = json.loads(path.read_text())
        if (kept["recipe"], kept["threads"]) != (case.recipe, options.threads):
            sys.exit(f"{path}: of {kept['recipe']} with {kept['threads']} threads, now it is {case.recipe} with "
                     f"{options.threads}; give another folder with --out, or delete this file")
        return
    if options.passes:
        epochs, speed = options.passes, None
    else:
        speed = measured_speed(folder, name, case, options)
        epochs = epochs_of(options.minutes * 60, speed)
    test, split = measured_split(folder)
    test_at = folder / "test" if split == "test" else folder / "data"
    print(f"{name}, seed {seed}: {epochs} epochs", file=sys.stderr, flush=True)
    trained = case.train(Job(emptied(result), folder / "data", test, test_at, epochs, seed, options.threads,
                             options.ultralytics_python))
    assert trained.predictions is not None
    write_json(path, {
        "case": name, "recipe": case.recipe, "start": trained.start, "seed": seed, "epochs": epochs,
        "minutes": trained.seconds / 60, "parameters": trained.parameters, "threads": options.threads, "speed": speed,
        "split": split, "images": len(test.fixed), "metrics": measure(test, trained.predictions)}, indent=1)
    for rest in ("models/checkpoints", "runs", "dataset"):  # large, and of no further use
        shutil.rmtree(result / rest, ignore_errors=True)


def measured_speed(folder: Path, name: str, case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Return {"start_s", "epoch_s"} of a case, from two short trainings on some images; measured once for all seeds."""
    path = folder / "speed" / f"{name}-{options.threads}.json"
    if not path.exists():
        share = write_part(folder / "data", folder / "part", PROBE_IMAGES)
        short, long = (case.train(Job(emptied(folder / "speed" / name), folder / "part", None, None, epochs, 1, options.threads,
                                      options.ultralytics_python)).seconds for epochs in PROBE_EPOCHS)
        shutil.rmtree(folder / "speed" / name)
        write_json(path, speed_of(short, long, share))
    return json.loads(path.read_text())


def speed_of(short_s: float, long_s: float, share: float) -> dict[str, float]:
    """Return the seconds of the start and of an epoch of all images, from those of two trainings of PROBE_EPOCHS.

    Args:
        short_s, long_s: of the trainings.
        share: of the images that they used.
    """
    few, many = PROBE_EPOCHS
    epoch_s = max(long_s - short_s, 0.1 * short_s) / (many - few)  # on a busy machine the longer one may be the quicker one
    return {"start_s": max(0.0, short_s - few * epoch_s), "epoch_s": epoch_s / share}


def epochs_of(budget_s: float, speed: Mapping[str, Any]) -> int:
    """Return how many epochs fit in a time, at least one."""
    return max(1, int((budget_s - speed["start_s"]) / speed["epoch_s"]))


def emptied(folder: Path) -> Path:
    """Return a folder without anything in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    main()
