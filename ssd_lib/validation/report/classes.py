"""The section of the report on classes, and the advice on rare ones."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ssd_lib.errors import plural, visible
from ssd_lib.report.elements import MAX_OPEN_ROWS, Bars, Section, Table, Text, percent
from ssd_lib.validation.report.statistics import ClassCounts

NAMED_CLASSES = 8  # in a sentence
FEW_BOXES = 10  # with fewer boxes a class is hardly learned, and its AP is chance
HIGH_RATIO = 20  # of the boxes of the most and the least frequent class: advise data.balance


def scarce_classes(counts: ClassCounts, first: str) -> Iterator[Text]:
    """Yield a sentence on the classes without boxes in the training split, and one on those with few.

    Args:
        counts: of `trainable` annotations.
        first: the training split.
    """
    boxes = counts.boxes[first]
    absent, few = (_named(counts.names, of) for of in (boxes == 0, (boxes > 0) & (boxes < FEW_BOXES)))
    if absent:
        yield Text(f"Without boxes in {first}: {absent}. Not learned, but part of AP where val has such boxes. `data.classes` "
                   "selects the classes to learn.", "advice")
    if few:
        yield Text(f"With fewer than {FEW_BOXES} boxes in {first}: {few}. Too few to learn from; more images with such objects "
                   "help most.", "advice")


def classes_section(counts: ClassCounts, balance: Mapping[str, np.ndarray]) -> Section:
    """Return boxes and images of each class, the most frequent first.

    Args:
        counts: of `trainable` annotations; the first split is the training split.
        balance: by mode of `data.balance`: (K,) boxes of each class in an epoch, in the order of `counts.names`.
    """
    if not counts.names:
        return Section("Classes", (Text("No classes."),))
    first = next(iter(counts.boxes))
    order = np.argsort(-counts.boxes[first], kind="stable")
    shown = order[:MAX_OPEN_ROWS]
    title = f"Boxes of the {len(shown)} most frequent classes" if len(shown) < len(order) else "Boxes per class"
    bars = Bars(title, [counts.names[row] for row in shown],
                {split: boxes[shown].tolist() for split, boxes in counts.boxes.items()},
                totals={split: int(boxes.sum()) for split, boxes in counts.boxes.items()})
    note = Text("The sections below count only boxes used for training: no crowds, and nothing that `fix_annotations` removes.")
    return Section("Classes", (note, *_class_advice(counts, first), bars, _class_table(counts, order.tolist(), balance)))


def _class_advice(counts: ClassCounts, first: str) -> Iterator[Text]:
    boxes = counts.boxes[first]
    present = np.flatnonzero(boxes)
    if len(present) < 2:
        return
    rarest, commonest = present[boxes[present].argmin()], boxes.argmax()
    if boxes[rarest] == boxes[commonest]:
        return
    ratio = boxes[commonest] / boxes[rarest]
    text = (f"The most frequent class, {counts.names[commonest]}, has {ratio:,.1f} times as many boxes as the least frequent, "
            f"{counts.names[rarest]}.")
    if ratio < HIGH_RATIO:
        yield Text(text)
    else:
        yield Text(f"{text} `data.balance: repeat` shows rare classes more often, `downsample` shows frequent classes less "
                   "often.", "advice")


def _class_table(counts: ClassCounts, order: list[int], balance: Mapping[str, np.ndarray]) -> Table:
    first, *others = counts.boxes
    total = counts.boxes[first].sum()
    columns = {f"{first} boxes": counts.boxes[first], f"{first} images": counts.images[first]}
    for split in others:
        columns |= {f"{split} boxes": counts.boxes[split], f"{split} images": counts.images[split]}
    columns |= {f"boxes per epoch, {mode}": boxes for mode, boxes in balance.items()}
    rows = [(counts.names[row], _note(int(counts.boxes[first][row])), percent(counts.boxes[first][row], total),
             *(f"{column[row]:,.0f}" for column in columns.values())) for row in order]
    return Table(("class", "", "share", *columns), rows)


def _note(boxes: int) -> str:
    return "none" if boxes == 0 else "few" if boxes < FEW_BOXES else ""


def _named(names: Sequence[str], chosen: np.ndarray) -> str:
    """Return "2 classes (a, b)" for the chosen of K names, of many only the first; "" for none."""
    rows = np.flatnonzero(chosen).tolist()
    shown = ", ".join(visible(names[row], 30) for row in rows[:NAMED_CLASSES])
    return f"{plural(len(rows), 'class')} ({shown}{' and others' * (len(rows) > NAMED_CLASSES)})" if rows else ""
