"""The table of the comparison: a line for each case, means over its seeds."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

METRICS = ("AP50", "AP", "AP75")
MAX_CLASSES = 10  # with a column; results.json has all


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the results of all finished trainings, by case and seed."""
    rows = [json.loads(path.read_text()) for path in folder.glob("*.json") if path.name != "results.json"]
    return sorted(rows, key=lambda row: (row["case"], row["seed"]))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the results as a Markdown table, the highest AP50 first; after means, the lowest and the highest value."""
    classes = list(dict.fromkeys(name for row in rows for name in row["metrics"]["class_AP50"]))
    classes = classes if len(classes) <= MAX_CLASSES else []
    head = ["case", "recipe", "start", "seeds", "passes", "minutes", *METRICS, *(f"AP50 {name}" for name in classes),
            "parameters"]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["case"], []).append(row)
    ordered = sorted(groups.values(), key=lambda group: -mean(row["metrics"]["AP50"] or 0 for row in group))
    lines = [head, ["---"] * len(head), *(_line(group, classes) for group in ordered)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_spread(values: Sequence[float | None], form: str = ".3f") -> str:
    """Return the mean, and the lowest and the highest value if there are several."""
    known = [value for value in values if value is not None]
    if not known:
        return "undefined"
    text = format(mean(known), form)
    return text if len(known) == 1 else f"{text} ({min(known):{form}} to {max(known):{form}})"


def _line(group: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[str]:
    first, metrics = group[0], [row["metrics"] for row in group]
    passes = sorted({row["epochs"] for row in group})
    return [
        first["case"], first["recipe"], first["start"], str(len(group)),
        " to ".join(map(str, dict.fromkeys((passes[0], passes[-1])))),
        with_spread([row["minutes"] for row in group], ".1f"),
        *(with_spread([one[name] for one in metrics]) for name in METRICS),
        *(with_spread([one["class_AP50"].get(name) for one in metrics]) for name in classes),
        f"{first['parameters'] / 1e6:.2f} M"]
