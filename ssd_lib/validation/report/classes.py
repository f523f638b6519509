"""How often each class is shown, and what that means for training."""

from collections.abc import Iterator, Mapping

import numpy as np

from ssd_lib.validation.report.elements import FOLDED_ROWS, Bars, Section, Table, Text, percent, plural
from ssd_lib.validation.report.statistics import ClassCounts

FEW = 10  # with fewer boxes a class is hardly learnt, and its AP is chance
COUNTED = "Counted from here on is what training learns from: no crowds, and nothing that `fix_annotations` leaves out."
UNEVEN = 20  # a commonest class with so many times the boxes of the rarest is worth a word about data.balance


def classes_section(counts: ClassCounts, balance: Mapping[str, np.ndarray]) -> Section:
    """Boxes and images of each class, the commonest first.

    Args:
        counts: of what can be trained on; the first split is the one to train on.
        balance: by mode of `data.balance`: (K,) boxes of each class that an epoch shows, in the order of `counts.names`.
    """
    if not counts.names:
        return Section("Classes", (Text("There is none."),))
    first = next(iter(counts.boxes))
    order = np.argsort(-counts.boxes[first], kind="stable")
    shown = order[:FOLDED_ROWS]
    title = f"Boxes of the {len(shown)} commonest classes" if len(shown) < len(order) else "Boxes of each class"
    bars = Bars(title, [counts.names[at] for at in shown],
                {split: boxes[shown].tolist() for split, boxes in counts.boxes.items()},
                wholes={split: int(boxes.sum()) for split, boxes in counts.boxes.items()})
    return Section("Classes", (Text(COUNTED), *_advice(counts, first), bars, _table(counts, order.tolist(), balance)))


def _advice(counts: ClassCounts, first: str) -> Iterator[Text]:
    boxes = counts.boxes[first]
    absent, few = int((boxes == 0).sum()), int(((boxes > 0) & (boxes < FEW)).sum())
    if absent:
        yield Text(f"{plural(absent, 'class')} without a box in {first}: never learnt, and AP counts it if val has it. "
                   "`data.classes` names the classes to learn.", "advice")
    if few:
        yield Text(f"{plural(few, 'class')} with fewer than {FEW} boxes in {first}: hardly learnt. More pictures of them "
                   "help most.", "advice")
    shown = np.flatnonzero(boxes)
    if len(shown) < 2:
        return
    rarest, commonest = shown[boxes[shown].argmin()], boxes.argmax()
    if boxes[rarest] == boxes[commonest]:
        return
    ratio = boxes[commonest] / boxes[rarest]
    words = (f"The commonest class, {counts.names[commonest]}, has {ratio:,.1f} times the boxes of the rarest, "
             f"{counts.names[rarest]}.")
    if ratio < UNEVEN:
        yield Text(words)
    else:
        yield Text(f"{words} `data.balance: repeat` shows rare classes more often, `downsample` common ones less.", "advice")


def _table(counts: ClassCounts, order: list[int], balance: Mapping[str, np.ndarray]) -> Table:
    first, *others = counts.boxes
    total = counts.boxes[first].sum()
    columns = {f"{first} boxes": counts.boxes[first], f"{first} images": counts.images[first]}
    for split in others:
        columns |= {f"{split} boxes": counts.boxes[split], f"{split} images": counts.images[split]}
    columns |= {f"boxes an epoch, {mode}": boxes for mode, boxes in balance.items()}
    rows = [(counts.names[at], _note(int(counts.boxes[first][at])), percent(counts.boxes[first][at], total),
             *(f"{column[at]:,.0f}" for column in columns.values())) for at in order]
    return Table(("class", "", "share", *columns), rows)


def _note(boxes: int) -> str:
    return "none" if boxes == 0 else "few" if boxes < FEW else ""
