"""The sections of the page that are numbers and charts; each function is called like the heading of its section."""

import platform
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch

from ssd_lib.errors import plural
from ssd_lib.evaluate.curves import CURVES, RECALLS, mean_curve
from ssd_lib.evaluate.error_kinds import KINDS, NO_ERROR
from ssd_lib.evaluate.matching import CROWD
from ssd_lib.evaluate.page.inputs import PageInput, int8_ap
from ssd_lib.evaluate.page.words import MEANINGS, TITLES
from ssd_lib.report.elements import Bars, Element, Lines, Matrix, Section, Table, Text, percent

MATRIX_CLASSES = 20
LISTED_PAIRS = 10
SCORE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SIDES_PX = (0, 8, 16, 32, 64, 128, 256, 512, 1024)  # as those of reports/priors.json
AREAS = (("small, below 32 x 32 px", "APs", 0, 32 ** 2), ("medium", "APm", 32 ** 2, 96 ** 2),
         ("large, 96 x 96 px or more", "APl", 96 ** 2, np.inf))
METRICS = {
    "AP": "COCO's figure, mean over IoU 0.50 to 0.95: objects found, with tight boxes",
    "AP50": "objects found, where a box that overlaps by half (IoU 0.50) is right",
    "AP75": "the same, where boxes must fit well (IoU 0.75)",
    "AR100": "share of objects in 100 detections an image of any score, IoU as for AP",
    "VOC07": "AP50 as the Pascal VOC challenge of 2007 computed it",
}
GROUPS = ("data", "model", "train", "postprocess")


def summary_section(given: PageInput) -> Section:
    """Return the headline numbers with what they mean."""
    found, objects, right, shown = _counts(given)
    if not objects:
        return Section("Summary", (Text("The validation images have no objects, so that nothing is measured.", "bad"),))
    text = Text("Finds none of the objects.", "bad") if not found else Text(
        f"Finds {percent(found, objects)} of the objects; {percent(right, shown)} of its detections are right.", "good")
    note = (f"On {plural(len(given.analysis.fixed), 'validation image')} with {plural(objects, 'object')}, at IoU 0.5. Of each "
            "class, the detections from the score on that gives the best F1 are counted; these thresholds are in the table of "
            "classes.")
    rows = [(name, _number(given.metrics[name]), meaning) for name, meaning in METRICS.items()]
    return Section("Summary", (text, Text(note), Table(("metric", "value", "what it means"), rows)))


def curves_section(given: PageInput) -> Section:
    """Return precision over recall, and what training measured in each epoch."""
    curves = {name: list(zip(RECALLS.tolist(), mean_curve(given.precision, ious).tolist(), strict=True))
              for name, ious in CURVES.items()}
    charts: list[Element] = [Lines("Precision by recall, mean of all classes", "recall", curves, top=1)]
    for title, names in (("Loss", {"train_loss": "training", "val_loss": "validation"}),
                         ("AP on the validation images", {"AP50": "AP50", "AP": "AP"})):
        series = {shown: [(epoch["epoch"], epoch[key]) for epoch in given.history if key in epoch and "epoch" in epoch]
                  for key, shown in names.items()}
        if all(len(points) > 1 for points in series.values()):
            charts.append(Lines(title, "epoch", series))
    return Section("Curves", charts)


def classes_section(given: PageInput) -> Section:
    """Return AP, and precision and recall at the threshold with the best F1, of each class, the worst AP50 first."""
    fixed, best = given.analysis.fixed, given.analysis.best
    objects = np.bincount(fixed.labels[~fixed.is_crowd], minlength=len(fixed.class_names) + 1)[1:]
    ap50 = [_defined(given.precision[0, :, k, 0, -1]) for k in range(len(objects))]
    order = sorted(range(len(objects)), key=lambda k: (ap50[k] is None, ap50[k] or 0))
    train = given.train_objects
    rows = [(fixed.class_names[k], _number(given.metrics["class"].get(fixed.class_names[k])), _number(ap50[k]),
             _share(best.precision[k]), _share(best.recall[k]), _number(best.threshold[k]), f"{objects[k]:,}",
             f"{train[k]:,}" if train is not None else "–") for k in order]
    text = ("Precision is the share of the detections that are right, recall the share of the objects that are found, both at "
            "the threshold: the score with the best F1, their harmonic mean.")
    return Section("Classes", (Text(text), Table(
        ("class", "AP", "AP50", "precision", "recall", "threshold", "objects in val", "in train"), rows)))


def confusion_section(given: PageInput) -> Section:
    """Return how often objects are taken for another class; of many classes those with the most errors."""
    table, names = given.analysis.confused, [*given.analysis.fixed.class_names, "background"]
    wrong = table - np.diag(np.diag(table))
    classes = len(names) - 1
    worst = np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1))[:classes], kind="stable")[:MATRIX_CLASSES]
    shown = [*sorted(worst.tolist()), classes]
    few = f" The {MATRIX_CLASSES} classes with the most errors are shown." if classes > MATRIX_CLASSES else ""
    text = Text("Each object is counted in the column of the class that it is detected as; the column background holds missed "
                "objects, the row background detections where no object of any class is found. All pairs are in "
                f"`reports/confusion.csv`.{few}")
    matrix = Matrix("object", "detected as", [names[k] for k in shown], table[np.ix_(shown, shown)].tolist())
    return Section("Confusion", (text, matrix, *_listed_pairs(wrong, names)))


def lost_section(given: PageInput) -> Section:
    """Return what each kind of error costs."""
    analysis = given.analysis
    counts = np.bincount(analysis.errors.kinds[analysis.errors.kinds != NO_ERROR], minlength=len(KINDS))
    counts[-1] = analysis.errors.is_missed.sum()
    order = sorted(range(len(KINDS)), key=lambda at: -np.nan_to_num(analysis.lost[KINDS[at]]))
    rows = [(TITLES[at], MEANINGS[at], f"{counts[at]:,}", _number(analysis.lost[KINDS[at]])) for at in order]
    text = (f"What AP50, {_number(given.metrics['AP50'])}, would gain if only one kind of error were mended (TIDE, Bolya et "
            "al. 2020). The gains do not add up: mending one kind can bring out another. The errors shown are those at the "
            "thresholds of the table of classes; AP50 counts the detections with low scores, too, so a kind without errors can "
            "have a gain.")
    head = ("kind of error", "what it is", "errors shown", "AP50 gained")
    return Section("Where AP50 is lost", (Text(text), Table(head, rows)))


def sizes_section(given: PageInput) -> Section:
    """Return how well objects of each size are found, in pixels of the image and of the net's input."""
    fixed, errors = given.analysis.fixed, given.analysis.errors
    sides = np.maximum(fixed.boxes[:, 2:] - fixed.boxes[:, :2], 0).astype(np.float64)
    counts = ~fixed.is_crowd
    rows = [(name, f"{((given.areas >= low) & (given.areas < high)).sum():,}", _number(given.metrics[metric]))
            for name, metric, low, high in AREAS]
    tables = [Table(("area in the image, as COCO counts it", "objects", "AP"), rows)]
    size = given.model.spec.image_size
    relative = np.sqrt((sides / fixed.sizes[fixed.image_indices()][:, ::-1]).prod(axis=1)) * size
    covered = {row["from"]: row["recall"] for row in given.priors.get("by_side_px", ())}
    by_side = [_side_row(begin, end, found, covered.get(begin)) for begin, end in pairwise((*SIDES_PX, np.inf))
               if len(found := errors.is_found[counts & (relative >= begin) & (relative < end)])]
    tables.append(Table((f"side in the net's input of {size} px", "objects", "found", "train objects with a fitting prior"),
                        by_side))
    text = ("Found at the thresholds of the table of classes. A prior fits if its IoU with the object is at least 0.5: objects "
            "without one are learned badly.")
    return Section("Object sizes", (Text(text), *tables))


def scores_section(given: PageInput) -> Section:
    """Return histograms of the scores of right and wrong detections."""
    analysis = given.analysis
    scores, is_right = analysis.predictions.scores, analysis.matched >= 0
    is_wrong = ~is_right & (analysis.matched != CROWD)
    labels = [f"{low:g} to {high:g}" for low, high in pairwise((*SCORE_EDGES, 1.0))]
    series = {name: np.bincount(np.searchsorted(SCORE_EDGES, scores[rows], side="right"),
                                minlength=len(SCORE_EDGES) + 1)[1:].tolist()
              for name, rows in (("right", is_right), ("wrong", is_wrong))}
    low = scores < SCORE_EDGES[0]
    text = (f"The better the scores separate right from wrong, the higher AP is. Scores below {SCORE_EDGES[0]:g} are left out: "
            f"{plural(int((low & is_right).sum()), 'right detection')} and {int((low & is_wrong).sum()):,} wrong ones.")
    table = Table(("score", "right", "wrong", "right share"),
                  [(label, f"{right:,}", f"{wrong:,}", percent(right, right + wrong))
                   for label, right, wrong in zip(labels, series["right"], series["wrong"], strict=True)])
    return Section("Scores", (Text(text), Bars("Detections by score", labels, series), table))


def exports_section(given: PageInput) -> Section | None:
    """Return the speed and size of the model's files, and the AP of INT8; None if nothing was exported."""
    if not given.speeds:
        return None
    rows = [(row["file"], row["format"], row["precision"], _where(row), f"{float(row['ms']):.1f}",
             f"{float(row['ms_p95']):.1f}", f"{float(row['MB']):.1f}") for row in given.speeds]
    text = ("Milliseconds for an image, from pixels to objects, one after the other: median and 95th percentile. "
            "`python -m ssd_lib benchmark` measures more, on any machine.")
    head = ("file", "computed by", "precision", "on", "ms", "ms, 95 %", "MB")
    return Section("Speed and size", (Text(text), Table(head, rows), Text(_int8_text(given.export))))


def run_section(given: PageInput) -> Section:
    """Return what is known of the model, its training, and the machine."""
    spec, about = given.model.spec, given.model.about
    seconds = sum(epoch.get("seconds", 0) for epoch in given.history)
    rows = [("net", f"{spec.net}, input {spec.image_size} px, {len(spec.class_names)} classes"),
            ("parameters", f"{sum(weight.numel() for weight in given.model.net.parameters()):,}"),
            ("epochs", f"{int(given.history[-1].get('epoch', len(given.history)))}" if given.history else "not known"),
            ("training time", f"{seconds / 60:,.1f} minutes" if seconds else "not known"),
            ("images/s in training", _number(given.history[-1].get("images_per_s")) if given.history else "not known"),
            ("run", str(about.get("fingerprint") or about.get("source") or "not known")),
            ("evaluated on", f"{given.device}, {_hardware(given.device)}"),
            ("versions", f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
                         f"OpenCV {cv2.__version__}")]
    params = [(f"{group}.{key}", str(value)) for group in GROUPS
              for key, value in _dict(_dict(about.get("params")).get(group)).items()]
    tables = [Table(("model", ""), rows)]
    if params:
        tables.append(Table(("params.yaml of the run", ""), params))
    return Section("Run", tables)


def _where(row: Mapping[str, str]) -> str:
    return plural(int(row["threads"]), "thread") if row["device"] == "cpu" else row["device"]


def _int8_text(export: Mapping[str, Any]) -> str:
    ap = int8_ap(export)
    if ap is None:
        return f"There is no INT8 file: {export.get('no_int8', 'it was not exported')}."
    return (f"In INT8 the AP is {ap:.3f}; in float, on the same {plural(export['images']['val'], 'validation image')}, "
            f"{export['fp32']['AP']:.3f}.")


def _counts(given: PageInput) -> tuple[int, int, int, int]:
    """Return found objects, objects, right shown detections, and shown detections that count."""
    analysis = given.analysis
    counted = analysis.shown & (analysis.matched != CROWD)
    return (int(analysis.errors.is_found.sum()), int((~analysis.fixed.is_crowd).sum()),
            int((counted & (analysis.matched >= 0)).sum()), int(counted.sum()))


def _listed_pairs(wrong: np.ndarray, names: list[str]) -> Iterator[Element]:
    between = wrong[:-1, :-1]
    order = np.argsort(-between, axis=None, kind="stable")[:LISTED_PAIRS]
    pairs = [np.unravel_index(at, between.shape) for at in order if between.flat[at]]
    if pairs:
        yield Table(("object", "detected as", "times"), [(names[a], names[b], f"{between[a, b]:,}") for a, b in pairs])


def _side_row(begin: float, end: float, found: np.ndarray, covered: float | None) -> tuple[str, str, str, str]:
    label = f"{begin} to {end} px" if np.isfinite(end) else f"{begin} px or more"
    return label, f"{len(found):,}", percent(found.sum(), len(found)), "–" if covered is None else percent(covered, 1)


def _hardware(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _defined(precision: np.ndarray) -> float | None:
    return None if (precision < 0).any() else float(precision.mean())


def _number(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "–" if np.isnan(value) else percent(value, 1)
